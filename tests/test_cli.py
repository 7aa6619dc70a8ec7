"""The command line: exit codes, and one clear message for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import environment, printed_json, run_deeploc
from runs import facts_of, records_of, write_training

from deeploc_bench.cli import _told
from deeploc_bench.contract.errors import TrainingFailed

MISTAKES = {
    "unknown suite": (["--suite", "photo"], "unknown suite 'photo'. Did you mean 'photos'?"),
    "unknown model": (["--model", "residual-unit"], "unknown model 'residual-unit'. Did you mean 'residual-unet'?"),
    "unknown loss": (["--loss", "jacard"], "unknown loss 'jacard'. Did you mean 'jaccard'?"),
    "unknown protocol": (["--protocol", "lo"], "unknown protocol 'lo'. Did you mean 'loo'?"),
    "unknown recipe": (["--recipe", "quik"], "unknown recipe 'quik'. Did you mean 'quick'?"),
    "unknown recipe key": (["--set", "epoch=3"], "unknown recipe key 'epoch'. Did you mean 'epochs'?"),
    "recipe value out of range": (["--set", "epochs=0"], "epochs"),
    "recipe value of the wrong type": (["--set", "lr=fast"], "lr"),
    "setting without a value": (["--set", "epochs"], "is not KEY=VALUE"),
    "broken loss expression": (["--loss", "0.5*jaccard+*focal"], "is not NAME or WEIGHT*NAME"),
    "weight of zero": (["--loss", "0*jaccard"], "is not a number above 0"),
    "data that is not there": (["--data", "nowhere"], "there is no such folder"),
    "unknown device": (["--device", "tpu"], "Allowed: auto, cpu, cuda, cuda:i"),
    "unknown engine": (["--engine", "slurm"], "unknown engine 'slurm'"),
    "unknown budget": (["--budget", "half"], "unknown budget 'half'"),
    "unknown precision": (["--precision", "fp8"], "precision"),
    "missing plugin file": (["--plugin", "nothing.py"], "there is no such file"),
    "plugin that is not installed": (["--plugin", "no:smpp"], "unknown plugin 'smpp'. Did you mean 'smp'?"),
    "negative seed": (["--seed", "-1"], "-1"),
    "unknown flag": (["--epochs", "3"], "--epochs"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_message_and_exit_code_2(deeploc, tmp_path, arguments, message):
    done = deeploc("run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


LATE = """import atexit, os, signal
from deeploc_bench import Model, hookimpl

@hookimpl
def deeploc_models():
    atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))
    return [Model(name="empty", build=lambda: None, reference=None, pretraining="none")]
"""


@pytest.mark.parametrize(
    ("arguments", "code"), [(["list", "losses"], 0), (["check", "empty"], 1), (["check", "no"], 2)]
)
def test_a_signal_that_comes_while_a_command_is_leaving_changes_nothing(tmp_path, arguments, code):
    (tmp_path / "late.py").write_text(LATE)
    command = [sys.executable, "-m", "deeploc_bench", *arguments, "--plugin", "late.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == code and "Traceback" not in done.stderr and "Stopped" not in done.stderr, done.stderr


EMPTY = {
    "option": (["run", "--data", ""], "--data is given an empty value"),
    "option with =": (["data", "check", "photos", "--data="], "--data is given an empty value"),
    "output": (["data", "export", "photos", "-o", ""], "-o is given an empty value"),
    "folder": (["leaderboard", ""], "an argument after 'leaderboard' is empty"),
    "training": (["test", "", "--suite", "photos"], "an argument after 'test' is empty"),
}


@pytest.mark.parametrize(("arguments", "message"), EMPTY.values(), ids=EMPTY.keys())
def test_an_empty_argument_is_not_the_working_directory(deeploc, tmp_path, arguments, message):
    before = sorted(tmp_path.iterdir())
    done = deeploc(*arguments)
    assert (done.returncode, done.stdout, sorted(tmp_path.iterdir())) == (2, "", before)
    assert message in done.stderr and "shell variable that is not set" in done.stderr


def test_a_model_that_cannot_be_computed_ends_a_command_by_its_reason():
    assert _told(TrainingFailed("the memory of cuda is too small")) == (1, "the memory of cuda is too small")


def test_cuda_without_a_gpu_is_refused_before_anything_is_written(deeploc, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    done = deeploc("run", "--device", "cuda")
    assert (done.returncode, "no CUDA device" in done.stderr) == (2, True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_runs_folder_that_cannot_be_written_is_one_message(deeploc, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = deeploc("run", "--runs", "file/runs", "--set", "epochs=1")
    assert done.returncode == 2
    assert "cannot write file/runs" in done.stderr and "--runs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
@pytest.mark.slow
def test_a_full_disk_is_one_message_and_loses_nothing(deeploc, tmp_path):
    runs = tmp_path / "small"
    runs.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(runs)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        done = deeploc("run", "--runs", runs, "--set", "epochs=1")
        assert done.returncode == 2
        assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", str(runs)], check=True)


@pytest.mark.slow
def test_weights_that_cannot_be_had_are_one_message_before_any_training(deeploc, tmp_path):
    done = deeploc(*("run", "--model", "unet-resnet18", "--set", "weights=default"), HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 2
    assert "weights=none" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").rglob("epochs.csv"))


@pytest.mark.parametrize("kind", ["models", "losses", "suites", "protocols", "recipes", "plugins"])
def test_every_list_prints_names_and_plugins_as_json(deeploc, kind):
    entries = printed_json(deeploc("list", kind, "--json"))
    assert entries
    assert all({"name", "plugin"} <= set(entry) for entry in entries)


@pytest.mark.parametrize("arguments", [["--help"], ["list", "models"], ["run", "--help"]])
def test_help_and_list_import_neither_torch_nor_timm(tmp_path, arguments):
    code = (
        "import sys; from deeploc_bench.cli import main\n"
        f"sys.argv = ['deeploc-bench', *{arguments!r}]\n"
        "try: main()\n"
        "finally: print('heavy:', {'torch', 'timm', 'accelerate'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0
    assert "heavy: set()" in done.stderr


def test_data_check_of_the_embedded_suite_is_clean(deeploc):
    done = deeploc("data", "check", "photos")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "clean")


def test_results_of_no_runs_folder_is_one_message(deeploc):
    done = deeploc("results", "nowhere")
    assert (done.returncode, "no such runs folder" in done.stderr) == (2, True)


def test_a_dry_run_prints_the_plan_and_writes_nothing(deeploc, tmp_path):
    done = deeploc("run", "--protocol", "same", "--protocol", "cross", "--protocol", "loo", "--dry-run")
    assert done.stdout.splitlines()[-1] == "8 trainings, 16 fits of baselines and 89 tests to do"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rnu"], "unknown command 'rnu'. Did you mean 'run'?"),
        (["train"], "train is no command here; say run"),
        pytest.param(["data", "chek"], "unknown command 'chek'. Did you mean 'check'?", marks=pytest.mark.slow),
        pytest.param(["run", "--batch_size=8"], "say --set batch_size=N", marks=pytest.mark.slow),
        pytest.param(["speed", "net", "--gpu=0"], "say --device cuda:i", marks=pytest.mark.slow),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(deeploc, words, told):
    done = deeploc(*words)
    assert (done.returncode, told in done.stderr, done.stdout) == (2, True, ""), done.stderr


ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    pytest.param({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("terminal", ASCII)
def test_a_terminal_of_ascii_gets_results_and_errors(tmp_path, terminal):
    write_training(tmp_path / "runs", facts_of(("a",), standard_generators=("a", "b")), {"b": records_of([0.5])})
    for form in ("text", "json"):
        done = run_deeploc(tmp_path, "results", "--format", form, PYTHONUTF8="0", **terminal)
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii() and ("loo ? made ? net" in done.stdout or json.loads(done.stdout))


def test_json_in_ascii_says_the_same(tmp_path):
    code = "import click; from deeploc_bench.cli import common\n"
    code += "with click.Context(click.Command('x')): common.print_json(['ö·😀', 'plain'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, check=True)
    assert json.loads(done.stdout.decode("ascii")) == ["ö·😀", "plain"]


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed_ends_no_command(tmp_path, closed):
    command = f"{sys.executable} -m deeploc_bench list losses {closed}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, "jaccard" in done.stdout) == (0, closed == "2>&-")


def test_a_habit_is_not_answered_by_a_flag_that_the_command_has_not(deeploc):
    assert "say --set" not in deeploc("results", "--epochs", "3").stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", "3"], "--epochs is not a flag here; say --set epochs=N"),
        (["--batch-size", "8"], "--batch-size is not a flag here; say --set batch_size=N"),
        (["--lr=0.1"], "--lr is not a flag here; say --set lr=X"),
        (["--gpu", "1"], "--gpu is not a flag here; say --device cuda:i"),
        (["--sede", "1"], "No such option '--sede'"),
    ],
)
def test_a_flag_that_people_bring_from_elsewhere_is_answered_with_the_right_one(deeploc, flags, words):
    done = deeploc("run", *flags)
    assert (done.returncode, words in done.stderr, done.stdout) == (2, True, "")
