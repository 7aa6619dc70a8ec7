"""Many processes at one runs folder, or one cold cache: each training is done once, each pack is whole."""

from __future__ import annotations

import re
import shutil

import pytest
from breaking import RUN, left
from test_resume import results_of
from warm import command


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_processes_that_run_the_same_do_each_training_once_and_end_in_the_same_files(
    forked, finished_runs, tmp_path, processes, tried
):
    ended = forked(tmp_path, command(*RUN), processes=processes)
    assert [code for code, _ in ended] == [0] * processes, ended
    counts = [re.search(r"(\d+) trained, (\d+) reused, 0 failed", said).groups() for _, said in ended]
    assert [int(trained) + int(reused) for trained, reused in counts] == [4] * processes
    assert sum(int(trained) for trained, _ in counts) == 4
    assert results_of(tmp_path / "runs") == results_of(finished_runs / "runs") and not left(tmp_path)
    tried("processes at once", "run", processes)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_processes_at_one_cold_cache_pack_the_same_and_leave_one_pack(
    forked, finished_runs, tmp_path, processes, tried
):
    folder = shutil.copytree(finished_runs, tmp_path / "copy")
    ended = forked(folder, command("data", "pack", "filed.toml", "--data", "."), processes, XDG_CACHE_HOME="cache")
    assert [code for code, _ in ended] == [0] * processes, ended
    assert len({said.splitlines()[-1] for _, said in ended}) == 1
    assert len([*folder.glob("cache/deeploc-bench/filed/*/*")]) == 1 and not left(folder)
    tried("processes at once", "pack", processes)
