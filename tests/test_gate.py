"""The board's gate: what a change of a leaderboard folder may do, and all that it may not."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml
from boards import board, manifest, outline, submission, untrained, with_claims, write
from conftest import environment

from deeploc_bench.contract.errors import DeeplocError
from deeploc_bench.data.suites import Manifest
from deeploc_bench.leaderboard.folder import strangers
from deeploc_bench.leaderboard.page import board_files, stale_files
from deeploc_bench.leaderboard.verify import review

WORKFLOW = Path(__file__).parents[1] / ".github/workflows/leaderboard.yml"
ENTRY, PAGE = "submissions/synthetic/entry.json", "README.md"


def render(folder):
    for name, text in board_files(folder).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return an accepted leaderboard folder."""
    folder = tmp_path_factory.mktemp("gate") / "base/leaderboard"
    entries = [submission("entry", images=4), submission("other", seed=1, images=4)]
    board(folder, [*entries, untrained(submission("floor", seed=2, images=4))], images=4)
    (folder / "published").mkdir()
    (folder / "published/__init__.py").write_text('"""What others published."""\n')
    render(folder)
    return folder


@pytest.fixture
def change(base, tmp_path):
    """Return a copy of it, to be changed."""
    shutil.copytree(base, tmp_path / "base/leaderboard")
    return Path(shutil.copytree(base, tmp_path / "change/leaderboard"))


def gate(change, base):
    """Return the checks that fail where a folder would take the place of another, as the workflow's commands do."""
    failed = {one.check for verdict in review(change, base=base) for one in verdict.failures}
    try:
        stale = stale_files(change, board_files(change))
    except DeeplocError:
        return failed | {"page"}
    return failed | ({"page"} if stale or strangers(change) else set())


def edited(*path, value):
    """Return a change of one value of an accepted file, its claims made again."""

    def edit(folder):
        values = inner = json.loads((folder / ENTRY).read_text())
        for step in path[:-1]:
            inner = inner[step]
        assert inner[path[-1]] != value
        inner[path[-1]] = value
        write(folder, with_claims(values))

    return edit


def renamed(folder):
    values = json.loads((folder / ENTRY).read_text())
    (folder / ENTRY).unlink()
    write(folder, {**values, "name": "renamed"})


def other_loss(folder):
    values = json.loads((folder / ENTRY).read_text())
    values["loss"][0]["name"] = "dice"
    write(folder, {**values, "loss_expression": "dice"})


def without_loss(folder):
    values = json.loads((folder / ENTRY).read_text())
    write(folder, with_claims(values | {"loss": [], "loss_expression": "none", "division": "open", "baseline": False}))


def all_gone(folder):
    shutil.rmtree(folder / "submissions")


def new(*path, content="x"):
    def put(folder):
        file = folder.joinpath(*path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    return put


def linked(name):
    def link(folder):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder.parent / "elsewhere").write_bytes(content)
        (folder / name).symlink_to("../elsewhere")

    return link


def other_area(folder):
    file = folder / "suites/synthetic.json"
    values = json.loads(file.read_text())
    values["generators"]["lama"]["test"][0]["mask_area"] += 1
    file.write_text(json.dumps(values))


def without_its_suite(folder):
    """A new suite, and a submission to it, without a manifest."""
    values = {**submission("first", images=4), "suite": "invented"}
    file = folder / "submissions/invented/first.json"
    file.parent.mkdir()
    file.write_text(json.dumps(values))


def with_its_suite(folder):
    without_its_suite(folder)
    (folder / "suites/invented.json").write_text(json.dumps({**manifest(4), "suite": "invented"}))


SPEED = {"size": 64, "device": "cpu", "threads": 1, "latency_ms": 1.0, "images_per_second": 9.0}
SPEED |= {"flops_per_image": 1, "parameters": 1, "peak_memory_mib": 1.0}
SCRIPT = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
TAMPERED = {
    "an accepted file deleted": (lambda folder: (folder / ENTRY).unlink(), "base"),
    "all files deleted": (all_gone, "base"),
    "an accepted file renamed": (renamed, "base"),
    "another contact": (edited("contact", value="somebody else"), "base"),
    "another address of the code": (edited("code", value="https://example.org/evil"), "base"),
    "another model name": (edited("model", "name", value="stolen"), "base"),
    "another model code": (edited("model", "source", value="0" * 16), "base"),
    "another loss": (other_loss, "base"),
    "no loss, which is not ranked": (without_loss, "base"),
    "another date": (edited("date", value="2025-01-31"), "base"),
    "another speed": (edited("speed", value=SPEED), "base"),
    "another budget, which is not ranked": (edited("budget", value="matched"), "base"),
    "called a baseline, which is not ranked": (edited("baseline", value=True), "base"),
    "said to reproduce another": (edited("reproduces", value="other"), "base"),
    "another identity": (edited("trainings", 0, "identity", value="f" * 64), "base"),
    "a scripted drawing below figures": (new("figures/more/evil.svg", content=SCRIPT), "stranger"),
    "a scripted drawing in figures": (new("figures/evil.svg", content=SCRIPT), "page"),
    "a page of another name": (new("index.html", content="<script>"), "stranger"),
    "a submission beside the folders of suites": (new("submissions/entry.json"), "stranger"),
    "a hidden file": (new("submissions/synthetic/.entry.json"), "stranger"),
    "code": (new("published/evil.py"), "stranger"),
    "compiled code": (new("published/__pycache__/__init__.cpython-311.pyc"), "stranger"),
    "other code": (new("published/__init__.py", content="import os"), "base"),
    "a link in the place of an accepted file": (linked(ENTRY), "stranger"),
    "a link in the place of the page": (linked(PAGE), "stranger"),
    "a page that nobody rendered": (new(PAGE, content="we are the first"), "page"),
    "a manifest deleted": (lambda folder: (folder / "suites/synthetic.json").unlink(), "manifest"),
    "another manifest": (other_area, "manifest"),
    "a suite without a manifest": (without_its_suite, "manifest"),
    "a suite that brings its own manifest": (with_its_suite, "manifest"),
    "a name that a log would obey": (new("submissions/synthetic/x\n::error::y\x1b[2J.json"), "stranger"),
}  # fmt: skip


def rendered(change):
    """Render the page of a change as whoever tampers would; where that is refused, it stays as it was."""
    with contextlib.suppress(DeeplocError):
        render(change)


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_change_fails_although_its_page_is_rendered_anew(change, base, what):
    tamper, check = TAMPERED[what]
    tamper(change)
    if check != "page":
        rendered(change)
    assert check in gate(change, base)


def more(folder):
    """All that a pull request may do: add a submission, and mend the words about an accepted one."""
    write(folder, submission("third", seed=3, images=4))
    for field, value in (("license", "BSD-3-Clause"), ("reference", None), ("confirmed", "by mail")):
        edited(field, value=value)(folder)


def test_a_new_submission_and_other_words_pass(change, base):
    assert gate(change, base) == set()
    more(change)
    assert gate(change, base) == {"page"}
    render(change)
    assert gate(change, base) == set()


def test_a_new_suite_passes_with_a_manifest_and_a_word_to_the_maintainer(change, base):
    (change / "suites/new.json").write_text(json.dumps({**manifest(4), "suite": "new"}))
    render(change)
    assert gate(change, base) == set()
    (verdict,) = [one for one in review(change, base=base) if one.file.name == "new.json"]
    assert "a new suite: merge it only where somebody else who has the data made the same" in str(verdict.warnings[0])


def counted(images, **known):
    """Return what is known of the synthetic suite without its data: its parts as the outline tells, with counts."""
    parts = {name: {**part, "test": None, **known} for name, part in manifest(images)["generators"].items()}
    for part in parts.values():
        part["splits"] = {"test": {"samples": images, "fingerprint": None}}
    return {"schema": 1, "suite": "synthetic", "fingerprint": None, "generators": parts}


def completed(images):
    whole = manifest(images)
    for part in whole["generators"].values():
        part["splits"] = {"test": {"samples": images, "fingerprint": None}}
    return whole


@pytest.mark.parametrize(
    ("known", "fails"),
    [({}, None), ({"pixels": 4096}, None), ({"pixels": 100}, "pixels"), ({"endings": ["-0"]}, "ids"), ("few", "ids")],
)
def test_a_manifest_without_images_holds_submissions_and_the_whole_one_to_what_is_known(tmp_path, known, fails):
    base = outline(tmp_path / "base")
    (base / "submissions").mkdir()
    outlined = counted(5) if known == "few" else counted(4, **known)
    (base / "suites/synthetic.json").write_text(json.dumps(outlined))
    change = Path(shutil.copytree(base, tmp_path / "change"))
    write(change, submission("first", images=4))
    found = {one.check for verdict in review(change, base=base) for one in verdict.failures}
    assert found == ({fails} if fails else set())
    (change / "suites/synthetic.json").write_text(json.dumps(completed(4)))
    verdict = next(one for one in review(change, base=base) if one.file.parent.name == "suites")
    assert verdict.is_ok == (fails is None)
    assert fails or "tells more than the accepted manifest" in str(verdict.warnings[0])


def with_splits(images, extra=()):
    """Return a manifest with the fingerprints of all splits, and further test-only generators."""
    whole = completed(images)
    for name in extra:
        whole["generators"][name] = {
            **whole["generators"]["lama"],
            "role": "test-only",
            "splits": {"test": {"samples": images}},
        }
    for place, part in enumerate(whole["generators"].values()):
        part["splits"]["test"] |= {"fingerprint": f"{place:032x}"}
    suite = msgspec.convert(whole, Manifest)
    return msgspec.to_builtins(msgspec.structs.replace(suite, fingerprint=suite.fingerprint_of(suite.generators)))


def test_a_test_only_generator_is_added_to_a_suite_and_all_that_was_accepted_still_passes(tmp_path):
    before, after = with_splits(4), with_splits(4, ["extra"])
    base = board(tmp_path / "base", [submission("entry", images=4) | {"fingerprint": before["fingerprint"]}])
    change = Path(shutil.copytree(base, tmp_path / "change"))
    (base / "suites/synthetic.json").write_text(json.dumps(before))
    (change / "suites/synthetic.json").write_text(json.dumps(after))
    assert before["fingerprint"] != after["fingerprint"] and gate(change, base) == {"page"}
    render(change)
    assert gate(change, base) == set()
    after["generators"]["extra"]["role"] = "standard"
    (change / "suites/synthetic.json").write_text(json.dumps(after | {"fingerprint": None}))
    assert "manifest" in gate(change, base)


def test_other_published_numbers_are_shown_to_the_reviewer(change, base):
    (change / "published/synthetic.toml").write_text('suite = "synthetic"\nentry = []')
    render(change)
    assert gate(change, base) == set()
    found = [one for verdict in review(change, base=base) for one in verdict.warnings if one.check == "published"]
    assert "look them up" in str(*found)


def test_a_log_is_told_of_hostile_names_in_lines_that_it_does_not_obey(change, deeploc, tmp_path):
    TAMPERED["a name that a log would obey"][0](change)
    write(change, b'{"schema": 2, "\\u001b[31m\\n::error::z": 1}', "bad")
    for command in (
        ["verify", "--leaderboard", change, "--base", tmp_path / "base/leaderboard"],
        ["leaderboard", change, "--check"],
    ):
        done = deeploc(*command)
        text = done.stdout + done.stderr
        assert done.returncode in (1, 2) and "::error::" in text and "Traceback" not in text
        assert "\x1b" not in text and not any(line.lstrip().startswith("::") for line in text.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("what", [None, *TAMPERED])
def test_the_commands_of_the_workflow_fail_on_each_tampering_and_on_nothing_else(change, tmp_path, what):
    tamper = TAMPERED[what][0] if what else more
    tamper(change)
    if what is None or TAMPERED[what][1] != "page":
        rendered(change)
    steps = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]["verify"]["steps"]
    commands = [step["run"] for step in steps if "deeploc-bench" in step.get("run", "")]
    assert len(commands) == 2
    program = f'deeploc-bench() {{ {sys.executable} -m deeploc_bench "$@"; }}'
    codes = [
        subprocess.run(
            ["bash", "-c", f"{program}\n{one}"], cwd=tmp_path, env=environment(), capture_output=True
        ).returncode
        for one in commands
    ]
    assert (codes == [0, 0]) == (what is None), codes
