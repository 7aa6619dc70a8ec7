"""Packing, and batches out of packs, beside a DataLoader that decodes image by image; ratios are read from one run.

Run with: pytest tests/benchmarks/test_data.py --benchmark-only -o addopts=
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.ahead import ahead
from deeploc_bench.data.augment import Pixels, blur_some, gaussian_blur
from deeploc_bench.data.batches import all_samples, read_batch, training_batch
from deeploc_bench.data.packs import pack

BATCH, SIZE, COUNT = 16, 256, 240


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Return a maker of samples, PNG files that compress like photographs, of these heights and widths."""
    random = np.random.default_rng(0)

    def make(shapes):
        folder = tmp_path_factory.mktemp("images")
        for i, (height, width) in enumerate(shapes):
            smooth = Image.fromarray(random.integers(0, 256, (16, 16, 3)).astype(np.uint8))
            grain = random.normal(0, 4, (height, width, 3))
            pixels = np.asarray(smooth.resize((width, height), Image.Resampling.BICUBIC)) + grain
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:04}.png")
            Image.fromarray(np.indices((height, width)).sum(axis=0) < height).save(folder / f"{i:04}-mask.png")
        names = [f"{i:04}" for i in range(len(shapes))]
        return [Sample(id=n, source=n, image=folder / f"{n}.png", mask=folder / f"{n}-mask.png") for n in names]

    return make


@pytest.fixture(scope="module")
def alike(samples):
    return samples([(SIZE, SIZE)] * COUNT)


@pytest.fixture(scope="module")
def mixed(samples):
    return samples(np.random.default_rng(1).integers(SIZE, 2 * SIZE, (COUNT, 2)).tolist())


def packed(samples, folder, threads=2):
    return pack(samples, inverted=False, folder=folder, tick=lambda: None, threads=threads)


class Files(Dataset):
    """Decodes, converts and changes each image, as a training script would."""

    def __init__(self, samples, change):
        self.samples, self.change = samples, change

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        image, mask = (np.array(Image.open(file)) for file in (self.samples[i].image, self.samples[i].mask))
        return self.change(i, torch.from_numpy(image).permute(2, 0, 1).float().div(255), torch.from_numpy(mask))


@pytest.mark.parametrize("way", ["packed, in order", "packed, shuffled", "dataloader"])
@pytest.mark.parametrize("blur", [0, 0.5])
def test_batches(benchmark, way, blur, alike, tmp_path):
    benchmark.group = f"{COUNT} images of {SIZE} x {SIZE} in batches, blurred with p = {blur}"
    random = torch.Generator().manual_seed(0)
    sigmas = torch.where(torch.rand(COUNT, generator=random) < blur, torch.rand(COUNT, generator=random) * 3, 0)
    data, pixels = packed(alike, tmp_path), Pixels()

    def blurred(i, image, mask):
        return (gaussian_blur(image[None], sigmas[i : i + 1])[0] if sigmas[i] else image), mask

    order = np.random.default_rng(0).permutation(COUNT)
    subset = all_samples(data)

    def converted(part, read):
        images, masks = read
        return blur_some(pixels.of(torch.from_numpy(images)), sigmas[part]), torch.from_numpy(masks)

    parts = [slice(start, start + BATCH) for start in range(0, COUNT, BATCH)]

    def in_order():  # as a model is tested
        return (converted(part, read_batch(data, part)) for part in parts)

    def shuffled():  # as it is trained
        batches = (order[part] for part in parts)
        read = (training_batch(subset, chosen, size=SIZE, fit="crop", seed=[0]) for chosen in batches)
        return map(converted, (order[part] for part in parts), read)

    loader = DataLoader(Files(alike, blurred), batch_size=BATCH)
    for (images, masks), (expected, truth) in zip(in_order(), loader, strict=True):
        assert (images - expected).abs().max() < 0.51 / 255 and torch.equal(masks, truth)  # rounded to levels
    ways = {"packed, in order": in_order, "packed, shuffled": shuffled, "dataloader": lambda: loader}
    benchmark(lambda: sum(len(images) for images, _ in ways[way]()))


@pytest.mark.parametrize("way", ["packed, ahead", "packed", "dataloader"])
@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_mixed_sizes(benchmark, way, fit, mixed, tmp_path):
    benchmark.group = f"{COUNT} images of {SIZE} to {2 * SIZE} pixels a side, {fit} to {SIZE} x {SIZE}"
    subset, batches = all_samples(packed(mixed, tmp_path)), np.arange(COUNT).reshape(-1, BATCH)

    def changed(i, image, mask):
        if fit == "crop":
            top, left = (side - SIZE for side in mask.shape)
            return image[:, top : top + SIZE, left : left + SIZE], mask[top : top + SIZE, left : left + SIZE]
        small = torch.nn.functional.interpolate(image[None], (SIZE, SIZE), mode="bilinear", antialias=True)
        return small[0], torch.nn.functional.interpolate(mask[None, None].float(), (SIZE, SIZE))[0, 0] > 0

    def read(chosen):
        return training_batch(subset, chosen, size=SIZE, fit=fit, seed=[0])

    ways = {
        "packed, ahead": lambda: ahead(read, batches),
        "packed": lambda: map(read, batches),
        "dataloader": lambda: DataLoader(Files(mixed, changed), batch_size=BATCH),
    }
    benchmark(lambda: sum(len(images) for images, _ in ways[way]()))


@pytest.mark.parametrize("threads", [1, 2])
def test_packing(benchmark, threads, alike, tmp_path):
    benchmark.group = f"packing {COUNT} images of {SIZE} x {SIZE}"
    setup = lambda: shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # noqa: E731
    benchmark.pedantic(lambda: packed(alike, tmp_path / "cache", threads), setup=setup, rounds=5)
