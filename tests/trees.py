"""Trees of real photographs on disk, made out of the embedded suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from deeploc_bench.contract.loading import load_plugins

GENERATORS = {"lama": "cyclegan", "ldm": "latent", "pluralistic": "patchmatch", "repaint-p2-9k": "ddpm"}
SPLITS = ("train", "valid", "test")


def photos():
    """Return the samples of the embedded suite by generator and split."""
    return {owned.spec.name: owned.spec.build() for owned in load_plugins().suite("photos")}


def save(pixels, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def mosaic(samples, turn, side, read):
    """Put side x side samples together, the `turn`-th one by its own, the others untouched."""
    tiles = [read(sample, place == turn % len(samples)) for place, sample in enumerate(samples)]
    return np.concatenate([np.concatenate(tiles[row * side : row * side + side], axis=1) for row in range(side)])


def dolos_tree(root, counts=(12, 4, 6), side=1):
    """Write `celebahq/` as Dolos has it: images of 64 * side pixels, masks 0 = manipulated, `counts` a split.

    A larger image is a mosaic of crops of one split, of which one is edited.
    """
    suite = photos()
    for split, count in zip(SPLITS, counts, strict=True):
        truths = {name: suite[photo][split] for name, photo in GENERATORS.items()}
        for place in range(count):
            taken = [(place * side * side + step) % len(truths["lama"]) for step in range(side * side)]
            stem = f"{split}{place // 2:04}-{place % 2}"
            untouched = [clean(suite, split, i) for i in taken]
            for name, samples in truths.items():
                chosen = [samples[i] for i in taken]
                pixels = mosaic(
                    list(zip(chosen, untouched, strict=True)),
                    place,
                    side,
                    lambda pair, own: pair[0].image() if own else pair[1],
                )
                mask = mosaic(chosen, place, side, lambda sample, own: ~sample.mask() | (not own))
                folder = Path(root) / "celebahq/fake" / name
                save(pixels, folder / "images" / split / f"{stem}.png")
                save(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), folder / "masks" / split / f"{stem}.png")
            if place % 2 == 0:
                real = mosaic(untouched, 0, side, lambda image, own: image)
                save(real, Path(root) / "celebahq/real" / split / f"{stem[:-2]}.png")
    return Path(root)


def clean(suite, split, place):
    """Return an untouched crop: the authentic one in the test split, else the median over the four edits."""
    if split == "test":
        return suite["authentic"]["test"][place].image()
    edits = [suite[photo][split][place].image() for photo in GENERATORS.values()]
    return np.median(edits, axis=0).astype(np.uint8)
