"""Whatever is damaged, killed or full: one message, nothing lost, and the same results from the same command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import run_deeploc
from test_resume import results_of
from warm import command, forks

TESTS = Path(__file__).parent
PLUGINS = ["--plugin", TESTS / "tiny.py", "--plugin", TESTS / "easy.py"]
RUN = ["run", *PLUGINS, "--suite", "tiny", "--model", "small", "--recipe", "quick", "--threads", "1"]
RUN += ["--set", "epochs=2", "--set", "size=32"]
SUBMIT = ["submit", "small+jaccard", "--suite", "tiny", "--contact", "me", "--date", "2026-01-31", "-o", "entry.json"]
HOW = ["before", "unsynced", "unnamed", "full"]
# counts the files that a command writes, and stops it at one: before, in its middle, before it is named; or as if full
STOP = """
import os, pathlib
from deeploc_bench.contract import files

stop_at, how, count = int(os.environ["STOP_AT"]), os.environ["STOP_HOW"], 0

def stopping(module, name, place):
    real = getattr(module, name)

    def call(*arguments, **options):
        global count
        if place == "before":
            count += 1
            pathlib.Path("writes").write_text(str(count))
        if count == stop_at and how == place:
            os.kill(os.getpid(), 9)
        if count == stop_at and how == "full" and place == "unsynced":
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    setattr(module, name, call)

stopping(files.tempfile, "mkstemp", "before")
stopping(files.os, "fsync", "unsynced")
stopping(files.os, "replace", "unnamed")
"""
# kills a run when its first epoch is stored
ONE_EPOCH = """
import os
from deeploc_bench.training import engines

engines.tell_epoch = lambda *_: os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def run():
    with forks() as run:
        yield run


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """A folder with finished trainings, a board with the suite's manifest, and an image to predict."""
    folder = tmp_path_factory.mktemp("finished")
    code, said = run(folder, command(*RUN))
    assert code == 0, said
    (folder / "leaderboard/suites").mkdir(parents=True)
    manifest = run_deeploc(folder, "data", "manifest", "tiny", *PLUGINS)
    (folder / "leaderboard/suites/tiny.json").write_text(manifest.stdout)
    export = ["data", "export", "tiny", *PLUGINS, "-o", "images", "--generator", "dark"]
    assert run_deeploc(folder, *export).returncode == 0
    return folder


def left(folder):
    """Return the temporary files below a folder."""
    return [path for pattern in (".writing-*", ".packing-*", ".unfinished") for path in folder.rglob(pattern)]


def commands_of(folder):
    """Return the commands that read a finished training, by name, each with what it leaves."""
    (training,) = folder.glob("runs/tiny/small+jaccard/dark/*")
    predict = ["predict", training.relative_to(folder), "images/dark", *PLUGINS, "-o", "out"]
    export = ["data", "export", "tiny", *PLUGINS, "-o", "out"]
    return {"run": RUN, "results": ["results"], "predict": predict, "submit": SUBMIT, "export": export}


def outputs(folder):
    """Return what a command has written beside the runs folder."""
    files = [*folder.glob("out/**/*.png"), *folder.glob("entry.json")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def clear(folder):
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "entry.json").unlink(missing_ok=True)


def damages(content):
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return {"a flipped bit": flipped, "cut": content[:middle], "empty": b""}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "results", "predict", "submit"])
def test_a_damaged_artifact_is_a_message_or_changes_nothing(run, finished, tmp_path, name):
    folder = shutil.copytree(finished, tmp_path / "copy")
    asked = command(*commands_of(folder)[name])
    expected = run(folder, asked), outputs(folder)
    assert expected[0][0] == 0, expected
    (training,) = folder.glob("runs/tiny/small+jaccard/dark/*")
    files = [file for file in training.iterdir() if file.is_file() and file.suffix in (".json", ".csv", ".safetensors")]
    assert len(files) == 6
    tried = told = 0
    for file in files:
        content = file.read_bytes()
        for how, damaged in damages(content).items():
            clear(folder)
            file.write_bytes(damaged)
            code, said = run(folder, asked)
            where = f"{name}, {file.name} {how}: {code}, {said}"
            assert "Traceback" not in said, where
            if code:
                assert code == 2 and file.name.partition(".")[0] in said and not outputs(folder), where
            else:
                assert ((code, said), outputs(folder)) == expected, where
            tried, told = tried + 1, told + bool(code)
        file.write_bytes(content)
    print(f"{name}: {tried} damaged artifacts, {told} told, {tried - told} of no effect, none changed a number")
    assert told >= 3


@pytest.mark.slow
def test_a_damaged_unfinished_training_is_a_message_or_ends_in_the_same_files(run, finished, tmp_path):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    assert run(unfinished, command(*RUN, before=ONE_EPOCH))[0] == -9
    (state,) = unfinished.rglob("resume.safetensors")
    files = [file.relative_to(unfinished) for file in state.parent.iterdir() if file.is_file() and file.name != ".lock"]
    assert {file.name for file in files} == {"training.json", "environment.json", "epochs.csv", "resume.safetensors"}
    tried = told = 0
    for file in files:
        for how, damaged in damages((unfinished / file).read_bytes()).items():
            folder = shutil.copytree(unfinished, tmp_path / f"{file.name} {how}")
            (folder / file).write_bytes(damaged)
            code, said = run(folder, command(*RUN))
            assert "Traceback" not in said and (code == 0 or (code == 2 and file.name in said)), said
            if code == 0:
                assert results_of(folder / "runs") == results_of(finished / "runs"), file
            tried, told = tried + 1, told + bool(code)
    print(f"run: {tried} damaged artifacts of an unfinished training, {told} told, {tried - told} of no effect")
    assert told == 9  # epochs.csv is written anew


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_stopped_at_any_write_a_run_ends_in_the_same_files(run, finished, tmp_path, how):
    whole = tmp_path / "whole"
    whole.mkdir()
    code, said = run(whole, command(*RUN, before=STOP), STOP_AT="0", STOP_HOW=how)
    assert code == 0, said
    writes = int((whole / "writes").read_text())
    points = range(1 + HOW.index(how), writes + 1, len(HOW))  # together they are all points of a run
    for number in points:
        folder = tmp_path / str(number)
        folder.mkdir()
        code, said = run(folder, command(*RUN, before=STOP), STOP_AT=str(number), STOP_HOW=how)
        assert code == (2 if how == "full" else -9) and "Traceback" not in said, said
        assert how != "full" or ("No space left on device. Free the space" in said and not left(folder)), said
        code, said = run(folder, command(*RUN))
        assert code == 0 and results_of(folder / "runs") == results_of(finished / "runs"), (number, said)
        assert not left(folder)
        shutil.rmtree(folder)
    print(f"run: stopped at {len(points)} of {writes} writes ({how}), nothing lost")


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["predict", "submit", "export"])
def test_stopped_at_any_write_a_command_goes_on(run, finished, tmp_path, name, how):
    folder = shutil.copytree(finished, tmp_path / "copy")
    asked = commands_of(folder)[name]
    code, said = run(folder, command(*asked, before=STOP), STOP_AT="0", STOP_HOW=how)
    assert code == 0, said
    expected, writes = outputs(folder), int((folder / "writes").read_text())
    points = sorted({1, 2, writes} & {*range(1, writes + 1)})
    for number in points:
        clear(folder)
        code, said = run(folder, command(*asked, before=STOP), STOP_AT=str(number), STOP_HOW=how)
        assert code == (2 if how == "full" else -9) and "Traceback" not in said, said
        code, said = run(folder, command(*asked))
        assert (code, outputs(folder), left(folder)) == (0, expected, []), (number, said)
    print(f"{name}: stopped at {len(points)} of {writes} writes ({how}), nothing lost")
