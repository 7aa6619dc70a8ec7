"""The suite `other`, which trainings of `tiny` are tested on: stripes and a generator of a known method, in noise."""

import os

import numpy as np

from deeploc_bench import GeneratorDataset, Sample, hookimpl

COUNTS = {"train": 8, "valid": 4, "test": 6}
SHIFT = int(os.environ.get("OTHER_SHIFT", "0"))
ADDRESS = "https://example.org/stripes"
NAMESAKE = os.environ.get("NAMESAKE", "photo")


def samples(split, step, authentic=False):
    random = np.random.default_rng([ord(split[1]), step, SHIFT if split == "test" else 0])
    for i in range(COUNTS[split]):
        image = random.integers(60, 200, (48, 56, 3)).astype(np.uint8)
        mask = np.zeros((48, 56), bool)
        top, left = random.integers(0, 24, 2)
        mask[top : top + 20, left : left + 24] = True
        image[mask] = image[mask] // step * step
        source = f"{NAMESAKE}-{i // 2}" if split == "test" else f"{split}-photo-{i // 2}"
        yield Sample(id=f"{split}-{i}", source=source, image=image.copy, mask=None if authentic else mask.copy)


def build(step, authentic=False):
    return lambda: {split: list(samples(split, step, authentic)) for split in (["test"] if authentic else COUNTS)}


@hookimpl
def deeploc_datasets():
    return [
        GeneratorDataset(name="dark", suite="other", build=build(90)),
        GeneratorDataset(name="stripes", suite="other", build=build(40), regenerated=True, reference=ADDRESS),
        GeneratorDataset(name="authentic", suite="other", role="test-only", build=build(1, authentic=True)),
    ]
