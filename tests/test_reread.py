"""Generator datasets that give other samples each time, or in another process, are told by generator and sample."""

from __future__ import annotations

import pytest

from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.reread import reread_findings

PLUGIN = '''
import os
import random
import numpy as np
from deeploc_bench import GeneratorDataset, Sample, hookimpl

COUNT = 12
BUILT = []


class Image:
    """An image that can be pickled, and a way to spoil it."""

    def __init__(self, i, spoilt=""):
        self.i, self.spoilt, self.owner = i, spoilt, os.getpid()

    def __call__(self):
        if self.spoilt == "raises":
            raise ValueError("no pixels")
        if self.spoilt == "elsewhere" and os.getpid() != self.owner:
            raise OSError("no such device")
        if self.spoilt == "ends" and os.getpid() != self.owner:
            os.kill(os.getpid(), 9)
        seed = None if self.spoilt == "noise" else self.i
        return np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8)


def mask():
    return np.eye(32, dtype=bool)


def samples(spoilt):
    BUILT.append(spoilt)
    made = [Sample(id=f"i{i}", source=f"p{i}", image=Image(i, spoilt), mask=mask) for i in range(COUNT)]
    if spoilt == "order":
        made = made[len(BUILT) % 2 :] + made[: len(BUILT) % 2]
    if spoilt == "ids":
        made[3] = Sample(id=f"other{len(BUILT)}", source="p3", image=Image(3), mask=mask)
    if spoilt == "lambda":
        made = [Sample(id=one.id, source=one.source, image=lambda one=one: one.image(), mask=mask) for one in made]
    return {"test": made}


@hookimpl
def deeploc_datasets():
    spoilt = "SPOILT"
    return [GeneratorDataset(name="a", suite="spoilt", role="test-only", build=lambda: samples(spoilt))]
'''
TOLD = {
    "sound": [],
    "lambda": [],
    "noise": [("changing", "a/test: the pixels or the mask of 'i0'")],
    "order": [("order", "a/test: sort them; files are listed in any order")],
    "ids": [("changing", "a/test: two builds differ in 2 ids or sources, such as 'other1' of source 'p3'")],
    "raises": [("unreadable", "a/test: sample 'i0': its image cannot be made: ValueError: no pixels")],
    "elsewhere": [("process", "a/test: 'i0': sample 'i0': its image cannot be made: OSError: no such device")],
    "ends": [("process", "a/test: 'i0' and others: the process that reads them ends")],
}


def found(tmp_path, spoilt):
    file = tmp_path / f"spoilt_{spoilt}.py"
    file.write_text(PLUGIN.replace("SPOILT", spoilt))
    datasets = load_plugins([str(file)]).suite("spoilt")
    return [(finding.check, str(finding)) for finding in reread_findings(datasets, None)]


def slow(*spoilt):
    return [pytest.param(one, marks=pytest.mark.slow) for one in spoilt]


@pytest.mark.parametrize("spoilt", ["noise", "elsewhere", *slow("ids", "raises", "ends")])
def test_what_changes_or_cannot_be_read_is_told_by_generator_and_sample(tmp_path, spoilt):
    assert found(tmp_path, spoilt)[: len(TOLD[spoilt])] == TOLD[spoilt]


@pytest.mark.parametrize("spoilt", ["order", *slow("lambda", "sound")])
def test_nothing_else_is_told_of_an_order_that_changes_or_samples_that_cannot_be_pickled(tmp_path, spoilt):
    assert found(tmp_path, spoilt) == TOLD[spoilt]


@pytest.mark.slow
def test_the_embedded_suite_is_read_again_as_it_was(registry):
    assert reread_findings(registry.suite("photos"), None) == []
