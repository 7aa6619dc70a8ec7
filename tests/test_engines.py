"""Trainings fanned out over Ray end in the records of a local run."""

from __future__ import annotations

import pytest
from conftest import records_of


@pytest.mark.slow
def test_ray_ends_in_the_same_records_as_a_local_run_and_tells_of_failures(deeploc, tiny, tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "nan_loss.py").write_text(
        "from deeploc_bench import Loss, hookimpl\n"
        "def build():\n    return lambda logits, masks: (logits * float('nan')).mean()\n"
        "@hookimpl\ndef deeploc_losses():\n    return [Loss(name='nan-loss', build=build)]\n"
    )
    flags = ["--plugin", "nan_loss.py", "--loss", "jaccard", "--set", "epochs=2"]
    here = deeploc("run", *tiny, *flags, "--runs", "here")
    there = deeploc("run", *tiny, *flags, "--runs", "there", "--engine", "ray")
    assert there.stdout.replace("there", "here") == here.stdout, there.stderr
    assert records_of(tmp_path / "there") == records_of(tmp_path / "here")
    failing = deeploc("run", *tiny, *flags, "--loss", "nan-loss", "--runs", "there", "--engine", "ray")
    assert failing.returncode == 1
    assert failing.stderr.count("the loss is nan in epoch 1") == 2


def test_torchrun_is_refused_with_what_to_use_instead(deeploc):
    done = deeploc("run", WORLD_SIZE="2")
    assert (done.returncode, "--engine ray" in done.stderr) == (2, True)
