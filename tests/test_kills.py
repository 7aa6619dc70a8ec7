"""Killed, stopped or out of space at any write, a command says so, loses nothing, and goes on when given again."""

from __future__ import annotations

import shutil
import signal
import time

import pytest
from breaking import BOARD, EASY, HOW, PLUGINS, RUN, SUBMIT, break_everywhere, cache_of, left, outputs, training_in
from test_resume import results_of
from warm import command


def commands_of(folder):
    """Return the commands that write beside a finished run, by name, each with its words."""
    return {
        "predict": ["predict", training_in(folder).relative_to(folder), "images/dark", *PLUGINS, "-o", "out"],
        "submit": SUBMIT,
        "export": ["data", "export", "tiny", *PLUGINS, "--generator", "dark", "-o", "out"],
        "score": ["score", "images/masks", *PLUGINS, "--suite", "tiny", "--name", "elsewhere", "--protocol", "loo"],
        "report": ["report"],
        "curves": ["results", "--curves", "out"],
        "leaderboard": ["leaderboard"],
        "pack": ["data", "pack", "filed.toml", "--data", "."],
        "new": ["new", "dataset", "my-edits"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_broken_at_any_write_a_run_ends_in_the_same_files(forked, tmp_path, how, tried):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    code, said = forked(whole, command(*EASY))
    assert code == 0, said
    tried(how, "run", break_everywhere(forked, broken, EASY, how))
    assert results_of(broken / "runs") == results_of(whole / "runs") and not left(broken)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_broken_at_any_write_a_command_ends_in_the_same_files(forked, finished_runs, tmp_path, how, tried):
    commands = commands_of(finished_runs)
    # all write by the same functions: in the other ways, one that writes a file, one a folder, one a pack
    for name in commands if how in ("killed", "full") else ("submit", "export", "pack"):
        asked = commands[name]
        whole, broken = (shutil.copytree(finished_runs, tmp_path / name / one) for one in ("whole", "broken"))
        code, said = forked(whole, command(*asked), **cache_of(asked))
        assert code == 0, said
        tried(how, name, break_everywhere(forked, broken, asked, how))
        assert (outputs(broken), left(broken)) == (outputs(whole), []), name
        shutil.rmtree(tmp_path / name)


# sends a signal after some time, once the command listens to it, and again every 20 ms where the environment says so
SIGNAL = """
import os, signal

number, again = int(os.environ["NUMBER"]), float(os.environ["AGAIN"])
deaf = (signal.SIG_DFL, signal.default_int_handler)

def send(*_):
    if number in (signal.SIGHUP, signal.SIGKILL) or signal.getsignal(number) not in deaf:
        os.kill(os.getpid(), number)
    else:
        signal.setitimer(signal.ITIMER_REAL, 0.01, again)

signal.signal(signal.SIGALRM, send)
signal.setitimer(signal.ITIMER_REAL, float(os.environ["AFTER"]), again)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "again"),
    [
        ("SIGINT", 130, "0"),
        ("SIGINT", 130, "0.02"),
        ("SIGTERM", 143, "0"),
        ("SIGTERM", 143, "0.02"),
        ("SIGHUP", -1, "0"),
    ],
)
def test_a_signal_at_any_moment_loses_nothing(forked, tmp_path, name, code, again, tried):
    (tmp_path / "whole").mkdir(), (tmp_path / "stopped").mkdir()
    began = time.monotonic()
    assert forked(tmp_path / "whole", command(*EASY))[0] == 0
    whole, stopped = time.monotonic() - began, 0
    for moment in range(8):
        after = {"AFTER": f"{whole * (moment + 0.5) / 8}", "AGAIN": again, "NUMBER": f"{getattr(signal, name):d}"}
        ended, said = forked(tmp_path / "stopped", command(*EASY, before=SIGNAL), **after)
        assert ended in (0, code) and "Traceback" not in said, said
        assert ended != code or code < 0 or "Run the same command again to go on" in said, said
        stopped += ended == code
    assert forked(tmp_path / "stopped", command(*EASY))[0] == 0
    assert results_of(tmp_path / "stopped/runs") == results_of(tmp_path / "whole/runs")
    assert not left(tmp_path)
    tried("signals at any moment", name, stopped)


# a disk on which no file may be larger
SMALL = """
import os, resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["MOST"]),) * 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "pack", "export", "report"])
def test_where_a_file_does_not_fit_it_is_a_message_and_goes_on_elsewhere(forked, finished_runs, tmp_path, name, tried):
    asked = EASY if name == "run" else commands_of(finished_runs)[name]
    whole, small = (shutil.copytree(finished_runs, tmp_path / one) for one in ("whole", "small"))
    assert forked(whole, command(*asked), **cache_of(asked))[0] == 0
    full = 0
    for most in (1000, 3000, 9000, 27_000, 81_000):
        code, said = forked(small, command(*asked, before=SMALL), MOST=f"{most}", **cache_of(asked))
        assert code in (0, 2) and "Traceback" not in said and (code == 0 or "File too large" in said), said
        full += code == 2
        if code == 0:
            break
    code, said = forked(small, command(*asked), **cache_of(asked)) if code else (0, "")
    assert code == 0 and not left(small), said
    mine, theirs = (results_of(one / "runs") if name == "run" else outputs(one) for one in (small, whole))
    assert full and mine == theirs
    tried("files too large", name, full)


FULL_OUTPUT = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"


@pytest.mark.slow
def test_where_the_output_does_not_fit_it_is_a_message(forked, finished_runs, tmp_path, tried):
    folder = shutil.copytree(finished_runs, tmp_path / "copy")
    shown = [["results"], ["results", "--json"], ["list", "models"], ["data", "manifest", "tiny", *PLUGINS], RUN]
    shown += [
        ["verify", BOARD],
        ["leaderboard"],
        ["run", "--help"],
        ["--help"],
        ["--version"],
        ["data", "check", "tiny", *PLUGINS],
    ]
    for asked in shown:
        code, said = forked(folder, command(*asked, before=FULL_OUTPUT))
        assert code == 2 and said.strip().endswith(
            "No space left on device. Free the space and run the same command again."
        ), said
        assert "Traceback" not in said and "Exception ignored" not in said, said
    tried("full outputs", "all commands", len(shown))
