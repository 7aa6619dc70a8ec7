"""A mistake of a plugin, a file or a flag is one message that says where, and never a traceback or a number."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
from boards import board, submission, with_claims, write
from conftest import TWO_LAYER, environment, printed_json
from runs import facts_of, others, records_of, write_training
from test_score import save, score, truths  # noqa: F401

from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.batches import as_packs
from deeploc_bench.data.suites import silent
from deeploc_bench.leaderboard.verify import examine, read_manifests
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.plan.protocols import matched


def test_a_model_that_raises_is_named_before_any_training(deeploc, tiny, two_layer, tmp_path):
    two_layer.write_text(TWO_LAYER.replace("nn.Conv2d(3, 16", "nn.Conv2d(4, 16"))
    done = deeploc("run", *tiny, "--plugin", two_layer, "--model", "two-layer")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "model 'two-layer' (plugin 'two_layer') cannot localize images (2, 3, 64, 64): RuntimeError" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("what", ["image", "mask"])
def test_a_sample_that_cannot_be_made_is_a_finding_that_names_it(deeploc, tmp_path, what):
    plugin = """
import numpy as np
from deeploc_bench import GeneratorDataset, Sample, hookimpl

def absent():
    raise FileNotFoundError("lost.npy")

def build():
    made = {"image": lambda: np.zeros((32, 32, 3), np.uint8), "mask": lambda: np.ones((32, 32), bool)}
    return {"test": [Sample(id="one", source="one", **(made | {"WHAT": absent}))]}

@hookimpl
def deeploc_datasets():
    return [GeneratorDataset(name="made", suite="made", build=build, role="test-only")]
"""
    (tmp_path / "made.py").write_text(plugin.replace("WHAT", what))
    done = deeploc("data", "check", "made", "--plugin", "made.py")
    assert done.returncode == 1
    assert f"sample 'one': its {what} cannot be made: FileNotFoundError: lost.npy" in done.stdout


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"junk", b"\x93NUMPY"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.slow
def test_a_prediction_that_is_not_what_it_is_called_is_named(score, tmp_path, content, suffix):  # noqa: F811
    folder = save(tmp_path / "heatmaps", truths())
    (folder / "test-03.png").unlink()
    (folder / f"test-03.{suffix}").write_bytes(content)
    done = score(folder)
    told = "1 unreadable" in done.stderr and "test-03: " in done.stderr
    assert (done.returncode, told, "Traceback" in done.stderr) == (2, True, False), done.stderr


@pytest.mark.parametrize(
    "content", [b"", *(pytest.param(c, marks=pytest.mark.slow) for c in (b"PK\x03\x04junk", b"junk"))]
)
def test_an_archive_of_predictions_that_is_none_is_named(score, tmp_path, content):  # noqa: F811
    (tmp_path / "all.npz").write_bytes(content)
    done = score(tmp_path / "all.npz")
    assert (done.returncode, "all.npz is neither; expected a folder" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_reading_ends_a_command_quietly(tmp_path):
    command = [sys.executable, "-m", "deeploc_bench", "list", "models"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == ("", 0)


def test_a_plan_is_printed_as_text_only(deeploc, tiny):
    done = deeploc("run", *tiny, "--dry-run", "--json")
    assert (done.returncode, "leave --json out" in done.stderr, done.stdout) == (2, True, "")


def test_of_two_generators_the_matched_budget_is_the_full_one():
    from pathlib import Path

    registry = load_plugins([str(Path(__file__).parent / "tiny.py")])
    plan = prepare(Job(suite="tiny", models=("residual-unet",), budget="matched"), silent, registry).plan
    assert {cell.budget for cell in plan.cells} == {"full"}


def test_a_budget_smaller_than_its_generators_leaves_some_out(small_pack):
    packs = [small_pack(2, seed=seed) for seed in range(3)]
    assert [len(pack) for pack in as_packs(matched(packs))] == [1, 1]


def test_seeds_that_are_not_there_are_told_with_those_that_are(deeploc, tmp_path):
    standard = ("a", "b", "c")
    for test in standard:
        facts = facts_of(others(test, standard), standard_generators=standard, pretraining="none")
        write_training(tmp_path / "runs", facts, {test: records_of([0.5, 0.25])})
    flags = ["--suite", "made", "--contact", "me", "-o", "entry.json", "--seed", "7"]
    done = deeploc("submit", "net+jaccard", *flags)
    assert done.returncode == 2
    assert "net+jaccard has no finished training of seeds [7]; it has those of [0]" in done.stderr


def without_authentic(values, keeps):
    for number, training in enumerate(values["trainings"]):
        if not keeps(number):
            training["tests"].pop("authentic", None)
    if not any("authentic" in training["tests"] for training in values["trainings"]):
        for column in ("ids", "sources", "pixels"):
            values[column].pop("authentic")
    return with_claims(values)


@pytest.mark.parametrize("keeps", [lambda number: False, lambda number: number == 0], ids=["none", "the best"])
def test_false_alarms_cannot_be_left_out(tmp_path, keeps):
    folder = board(tmp_path / "board")
    file = write(folder, without_authentic(copy.deepcopy(submission("quiet")), keeps))
    verdict = examine(file, read_manifests(folder))
    assert [finding.check for finding in verdict.failures] == ["cells"]
    assert "tests on authentic images are missing" in verdict.failures[0].message


def test_a_strangers_words_reach_a_log_quoted(tmp_path):
    folder = board(tmp_path / "board")
    values = submission("loud")
    values["claims"]["loo"]["by_generator"]["x\nok  forged.json\x1b[2J"] = 0.5
    verdict = examine(write(folder, values), read_manifests(folder))
    assert verdict.failures
    assert not any(char in str(finding) for finding in verdict.failures for char in "\n\x1b")


@pytest.mark.slow
def test_a_finished_training_is_not_repeated_where_its_loss_is_written_otherwise(deeploc, tiny):
    flags = [*tiny, "--protocol", "same", "--set", "epochs=1", "--json"]
    assert printed_json(deeploc("run", *flags, "--loss", "0.5*dice+bce"))["trained"] == 2
    again = printed_json(deeploc("run", *flags, "--loss", ".50*dice + 1*bce"))
    assert (again["trained"], again["reused"]) == (0, 2)
    assert np.isfinite([cell["iou"] for cell in again["cells"]]).all()
