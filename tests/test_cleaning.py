"""Packed data that no file stands behind is removed, and nothing that somebody makes or reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import environment, printed_json
from PIL import Image

from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.cleaning import clean
from deeploc_bench.data.packs import pack


@pytest.fixture
def packed(tmp_path):
    """Return a function that packs three samples out of files in a folder, and lets go of them."""

    def make(folder="data", mask_above=None):
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for i in range(3):
            if not (root / f"{i}.png").exists():
                Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(root / f"{i}.png")
                Image.fromarray(np.eye(32, dtype=bool)).save(root / f"{i}-mask.png")
        samples = [
            Sample(id=f"s{i}", source=f"p{i}", image=root / f"{i}.png", mask=root / f"{i}-mask.png") for i in range(3)
        ]
        cache = tmp_path / "cache/deeploc-bench/suite/edited-test"
        return pack(samples, inverted=False, mask_above=mask_above, folder=cache, tick=lambda: None)

    return make


def cleaned(tmp_path, data=None):
    return [(one.action, one.reason) for one in clean(tmp_path / "cache/deeploc-bench/suite", data)]


def packs(tmp_path):
    return len(list((tmp_path / "cache/deeploc-bench/suite/edited-test").iterdir()))


def test_packs_whose_files_are_as_they_were_are_kept(packed, tmp_path):
    packed("one")
    packed("two", mask_above=0)
    assert (cleaned(tmp_path), packs(tmp_path)) == ([], 2)


def test_a_pack_of_files_that_are_gone_is_removed_with_the_reason(packed, tmp_path):
    packed()
    (tmp_path / "data/1.png").unlink()
    assert cleaned(tmp_path) == [("removed", f"1 of its files are gone, such as {tmp_path}/data/1.png")]
    assert packs(tmp_path) == 0


def test_the_pack_before_a_file_was_changed_is_removed_and_the_one_after_is_kept(packed, tmp_path):
    packed()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "data/1.png")
    after = packed().fingerprint
    assert (cleaned(tmp_path), packs(tmp_path)) == ([("removed", "its files have changed")], 1)
    assert packed().fingerprint == after


def test_only_packs_of_the_folder_that_is_named_are_removed(packed, tmp_path):
    for folder in ("one", "two"):
        packed(folder)
        (tmp_path / folder / "1.png").unlink()
    assert (len(cleaned(tmp_path, tmp_path / "one")), packs(tmp_path)) == (1, 1)


def test_damaged_packs_and_those_of_earlier_versions_are_removed_and_a_later_versions_kept(packed, tmp_path):
    for folder in ("one", "two", "three"):
        packed(folder)
    first, second, third = sorted((tmp_path / "cache/deeploc-bench/suite/edited-test").iterdir())
    (first / "index.json").write_text("{")
    (second / "index.json").write_text('{"schema": 3, "entries": []}')
    (third / "index.json").write_text('{"schema": 99}')
    assert [reason for _, reason in cleaned(tmp_path)] == ["it is damaged", "an earlier version packed it"]
    assert third.exists()


HOLDER = """
import sys
import numpy as np
from pathlib import Path
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.packs import pack
root = Path(sys.argv[1])
samples = [Sample(id=f"s{i}", source=f"p{i}", image=root / f"{i}.png", mask=root / f"{i}-mask.png") for i in range(3)]
def tick():
    if sys.argv[3] == "packing":
        print("held", flush=True)
        sys.stdin.readline()
held = pack(samples, inverted=False, folder=Path(sys.argv[2]), tick=tick)
print("held", flush=True)
sys.stdin.readline()
"""


def holder(tmp_path, what):
    """Start a process that reads a pack, or is in the middle of making one, until it is told to go on."""
    cache = tmp_path / "cache/deeploc-bench/suite/edited-test"
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "data"), str(cache), what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout.readline() == "held\n"
    return process


def test_what_another_process_reads_is_left_until_it_ends(packed, tmp_path):
    packed()
    with holder(tmp_path, "reading") as process:
        (tmp_path / "data/1.png").unlink()
        assert [action for action, _ in cleaned(tmp_path)] == ["in use"]
        process.communicate("")
    assert [action for action, _ in cleaned(tmp_path)] == ["removed"]


def test_a_packing_is_left_while_its_process_lives_and_removed_once_it_was_killed(packed, tmp_path):
    packed()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "data/1.png")
    with holder(tmp_path, "packing") as process:
        (scratch,) = (tmp_path / "cache/deeploc-bench/suite/edited-test").glob(".packing-*")
        os.utime(scratch, (0, 0))
        assert ("in use", "its packing was stopped") in cleaned(tmp_path)
        process.kill()
    assert cleaned(tmp_path) == [("removed", "its packing was stopped")]


def test_a_packing_that_has_just_begun_is_left(packed, tmp_path):
    packed()
    Path(tmp_path / "cache/deeploc-bench/suite/edited-test/.packing-x").mkdir()
    assert (cleaned(tmp_path), packs(tmp_path)) == ([], 2)


def test_the_command_says_what_it_removed_and_how_much(packed, deeploc, tmp_path):
    packed()
    (tmp_path / "data/1.png").unlink()
    flags = ["data", "clean", "suite", "--json"]
    printed = printed_json(deeploc(*flags, XDG_CACHE_HOME=str(tmp_path / "cache")))
    (folder,) = printed["folders"]
    assert (printed["suite"], folder["action"]) == ("suite", "removed")
    assert printed["removed_bytes"] == folder["bytes"] > 3 * 32 * 32 * 3
    done = deeploc(*flags[:-1], XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout) == (0, f"0.0 MiB removed from {tmp_path}/cache/deeploc-bench/suite\n")


@pytest.mark.parametrize("name", ["..", pytest.param("nowhere", marks=pytest.mark.slow)])
def test_the_command_leaves_what_is_no_suite(deeploc, tmp_path, name):
    (tmp_path / "cache/deeploc-bench").mkdir(parents=True)
    done = deeploc("data", "clean", name, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, "unknown suite" in done.stderr) == (2, True)
