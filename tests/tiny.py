"""A suite of two generators small enough to train on in a second: bright or dark patches in noise."""

import os

import numpy as np

from deeploc_bench import GeneratorDataset, Sample, hookimpl

COUNTS = {"train": 16, "valid": 6, "test": 10}
SHIFT = int(os.environ.get("TINY_SHIFT", "0"))


def samples(split, sign):
    random = np.random.default_rng([len(split), ord(split[0]), SHIFT if split == "test" else 0])
    for i in range(COUNTS[split]):
        image = random.integers(60, 200, (64, 64, 3)).astype(np.uint8)
        mask = np.zeros((64, 64), bool)
        top, left = random.integers(0, 40, 2)
        mask[top : top + 24, left : left + 20] = True
        image[mask] += np.uint8(sign * 50 % 256)
        yield Sample(id=f"{split}-{i:02}", source=f"{split}-{i // 2}", image=image.copy, mask=mask.copy)


def build(sign):
    return lambda: {split: list(samples(split, sign)) for split in COUNTS}


@hookimpl
def deeploc_datasets():
    return [
        GeneratorDataset(name="bright", suite="tiny", build=build(1)),
        GeneratorDataset(name="dark", suite="tiny", build=build(-1)),
    ]
