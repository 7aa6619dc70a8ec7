"""Killed, stopped or out of space at any write, a command says so, loses nothing, and goes on when it is given again."""

from __future__ import annotations

import shutil

import pytest
from breaking import EASY, HOW, PLUGINS, SUBMIT, break_everywhere, cache_of, left, outputs, training_in
from test_resume import results_of
from warm import command


def commands_of(folder):
    """Return the commands that write beside a finished run, by name, each with its words."""
    return {
        "predict": ["predict", training_in(folder).relative_to(folder), "images/dark", *PLUGINS, "-o", "out"],
        "submit": SUBMIT,
        "export": ["data", "export", "tiny", *PLUGINS, "--generator", "dark", "-o", "out"],
        "score": ["score", "images/masks", *PLUGINS, "--suite", "tiny", "--name", "elsewhere"],
        "report": ["report"],
        "curves": ["results", "--curves", "out"],
        "leaderboard": ["leaderboard"],
        "pack": ["data", "pack", "filed.toml", "--data", "."],
        "new": ["new", "dataset", "my-edits", "--package"],
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
    for name, asked in commands_of(finished_runs).items():
        whole, broken = (shutil.copytree(finished_runs, tmp_path / name / one) for one in ("whole", "broken"))
        code, said = forked(whole, command(*asked), **cache_of(asked))
        assert code == 0, said
        tried(how, name, break_everywhere(forked, broken, asked, how))
        assert (outputs(broken), left(broken)) == (outputs(whole), []), name
        shutil.rmtree(tmp_path / name)
