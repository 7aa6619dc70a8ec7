"""A damaged file, or one that changed places with another's, is one message or changes nothing: never a number."""

from __future__ import annotations

import json
import shutil

import pytest
from breaking import BOARD, EASY, PLUGINS, RUN, SUBMIT, outputs, training_in
from test_resume import results_of
from warm import command

# kills a run when its first epoch is stored
ONE_EPOCH = """
import os
from deeploc_bench.training import engines

engines.tell_epoch = lambda *_: os.kill(os.getpid(), 9)
"""
TABLE, HISTOGRAMS, EXAMPLE = "test-bright.csv", "test-bright.hist.safetensors", "examples/bright-test-00.png"
# the commands that read a finished training, and the artifacts that each one opens
READ = {
    "run": ["training.json", TABLE, HISTOGRAMS],
    "results": ["training.json", TABLE, HISTOGRAMS],
    "report": ["training.json", "environment.json", "epochs.csv", EXAMPLE],
    "predict": ["training.json", "environment.json", "model.safetensors"],
    "submit": ["training.json", "environment.json", TABLE, HISTOGRAMS],
}
ARTIFACTS = sorted({name for names in READ.values() for name in names})
ABSENT = {("run", TABLE), ("run", "training.json"), ("results", TABLE), ("submit", TABLE), ("report", EXAMPLE)}
"""What a command makes again, shows as missing, or does without, where it was deleted."""


def asked_of(name, folder):
    """Return the words of a command that reads finished trainings."""
    predict = ["predict", training_in(folder).relative_to(folder), "images/dark", *PLUGINS, "-o", "out"]
    return {"run": RUN, "results": ["results"], "report": ["report"], "predict": predict, "submit": SUBMIT}[name]


def damages(file, other=None):
    """Return ways to damage a file, by name; `other` is its like of another training."""
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    ways = {"a flipped bit": flipped, "cut": content[:middle], "empty": b"", "deleted": None}
    return ways | ({"another training's": other.read_bytes()} if other else {})


def put(file, content):
    """Write a content where a file is, or delete it."""
    file.write_bytes(content) if content is not None else file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_a_damaged_artifact_is_a_message_or_changes_nothing(forked, finished_runs, tmp_path, name, tried):
    whole = shutil.copytree(finished_runs, tmp_path / "whole")
    expected = forked(whole, command(*asked_of(name, whole)))
    assert expected[0] == 0, expected
    count = 0
    for artifact in ARTIFACTS:
        ways = damages(training_in(whole) / artifact, training_in(whole, seed=1) / artifact)
        for how in ways if artifact in READ[name] else ["a flipped bit"]:
            folder = shutil.copytree(finished_runs, tmp_path / "copy")
            put(training_in(folder) / artifact, ways[how])
            code, said = forked(folder, command(*asked_of(name, folder)))
            where = f"{name}, {artifact} {how}: {code}, {said}"
            assert "Traceback" not in said, where
            if code:
                assert code == 2 and (artifact.partition(".")[0] in said or "is not finished" in said), where
                assert set(outputs(folder)) <= set(outputs(finished_runs)), where
            elif how == "deleted" and (name, artifact) in ABSENT:
                assert name != "results" or "seed 1 (incomplete, left out: 0)" in said, where
                assert name != "run" or results_of(folder / "runs") == results_of(whole / "runs"), where
            else:
                assert (code, said) == expected, where
                assert name == "run" or artifact not in READ[name], f"{where}: it is not read"
            count += 1
            shutil.rmtree(folder)
    tried("damaged artifacts", name, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results", "run"])
def test_records_and_histograms_of_another_training_are_a_message(forked, finished_runs, tmp_path, name):
    folder = shutil.copytree(finished_runs, tmp_path / "copy")
    for artifact in (TABLE, HISTOGRAMS):
        shutil.copy(training_in(folder, seed=1) / artifact, training_in(folder) / artifact)
    code, said = forked(folder, command(*asked_of(name, folder)))
    assert code == 2 and f"{HISTOGRAMS} is damaged (its content is not that of its checksum, or it belongs" in said


@pytest.mark.slow
def test_a_damaged_unfinished_training_is_a_message_or_ends_in_the_same_files(forked, tmp_path, tried):
    whole, one, other = (tmp_path / name for name in ("whole", "one", "other"))
    for folder, seed, before in ((whole, 0, ""), (one, 0, ONE_EPOCH), (other, 1, ONE_EPOCH)):
        folder.mkdir()
        assert forked(folder, command(*EASY, "--seed", seed, before=before))[0] == (-9 if before else 0)
    (state,), (others,) = (folder.rglob("resume.safetensors") for folder in (one, other))
    files = [file.relative_to(one) for file in state.parent.iterdir() if file.name != ".lock"]
    told = {"training.json", "samples.json", "environment.json", "epochs.csv"}
    assert {file.name for file in files} == {*told, "resume.safetensors"}
    count = told = 0
    for file in files:
        for how, content in damages(one / file, others.parent / file.name).items():
            folder = shutil.copytree(one, tmp_path / f"{file.name} {how}")
            put(folder / file, content)
            code, said = forked(folder, command(*EASY, "--seed", "0"))
            where = f"{file.name} {how}: {code}, {said}"
            assert "Traceback" not in said and (code == 0 or (code == 2 and file.name in said)), where
            if code == 0:
                assert file.name in ("epochs.csv", "samples.json") or how == "deleted", where  # made anew
                assert results_of(folder / "runs") == results_of(whole / "runs"), where
            count, told = count + 1, told + bool(code)
    tried("damaged artifacts", "an unfinished run", count)


@pytest.mark.slow
@pytest.mark.parametrize("place", [BOARD, "leaderboard/suites/tiny.json"])
def test_a_damaged_submission_or_manifest_is_a_message_or_changes_no_claim(
    forked, finished_runs, tmp_path, place, tried
):
    folder = shutil.copytree(finished_runs, tmp_path / "copy")
    verify, render = command("verify", BOARD), command("leaderboard")
    assert forked(folder, verify)[0] == forked(folder, render)[0] == 0
    content = (folder / place).read_bytes()
    claims = json.loads((folder / BOARD).read_bytes())["claims"]
    places = range(40, len(content), len(content) // 9)
    flips = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in places]
    for damaged in [*flips, *damages(folder / place).values()]:
        put(folder / place, damaged)
        for asked in (verify, render):
            code, said = forked(folder, asked)
            assert "Traceback" not in said and (code == 0 or "tiny" in said), said
            is_sound = asked == verify and code == 0
            assert not is_sound or json.loads((folder / BOARD).read_bytes())["claims"] == claims, said
    tried("damaged files of a board", place, len(flips) + 4)


@pytest.mark.slow
def test_a_damaged_prediction_is_a_message(forked, finished_runs, tmp_path, tried):
    folder = shutil.copytree(finished_runs, tmp_path / "copy")
    score = command("score", "images/masks", *PLUGINS, "--suite", "tiny", "--name", "elsewhere")
    file = folder / "images/masks/dark/test-04.png"
    before = outputs(folder)
    ways = damages(file)
    for how, content in ways.items():
        put(file, content)
        code, said = forked(folder, score)
        assert code == 2 and "test-04" in said and "Traceback" not in said, (how, said)
        assert set(outputs(folder)) <= set(before), how
    tried("damaged predictions", "score", len(ways))
