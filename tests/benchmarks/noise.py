"""A suite of one generator whose images are noise, of the size and number that a benchmark asks for."""

import os

import numpy as np

from deeploc_bench import GeneratorDataset, Sample, hookimpl

SIDE, TRAIN = int(os.environ.get("NOISE_SIDE", "256")), int(os.environ.get("NOISE_TRAIN", "512"))


def samples(split, count):
    random = np.random.default_rng(count)
    for i in range(count):
        image = random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = True
        yield Sample(id=f"{split}-{i:04}", source=f"{split}-{i}", image=image.copy, mask=mask.copy)


def build():
    return {split: list(samples(split, count)) for split, count in (("train", TRAIN), ("valid", 32), ("test", 2))}


@hookimpl
def deeploc_datasets():
    return [GeneratorDataset(name="squares", suite="noise", build=build)]
