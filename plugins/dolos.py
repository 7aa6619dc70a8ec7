"""Dolos: locally manipulated faces of CelebA-HQ by four generators (Țânțaru, Oneață, Oneață, arXiv 2311.04584).

The data are CC BY-NC-SA 4.0, and users download them themselves: https://github.com/bit-ml/dolos.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deeploc_bench import DataError, GeneratorDataset, Sample, hookimpl, paired_samples

SPLITS = ("train", "valid", "test")
ROOTS = (".", "celebahq", "*/celebahq", "FMI_local_data")
"""Where the images may lie, seen from --data."""
FOLDERS = {
    "lama": ("fake/lama", "lama"),
    "ldm": ("fake/ldm", "ldm"),
    "pluralistic": ("fake/pluralistic", "pluralistic"),
    "repaint-p2": ("fake/repaint-p2-9k", "repaint"),
    "repaint-p2-full": ("fake/repaint-p2",),
    "authentic": ("real", "celebhq_real_data"),
}
"""The folder of each generator dataset, as published and in the course copy, whose `repaint` is the set of 9,000."""
TEST_ONLY = ("repaint-p2-full", "authentic")
METHODS = {"repaint-p2-full": "repaint-p2"}
"""The generator that a set is made by, where that is another's name."""


def build(name: str, data: Path) -> dict[str, list[Sample]]:
    """Return the samples by split; test-only ones may be absent. Raises DataError where a folder is missing."""
    root = _root(data)
    folder = next((root / place for place in FOLDERS[name] if (root / place).is_dir()), None)
    if folder is None:
        if name in TEST_ONLY:
            return {}
        published, own = FOLDERS[name]
        raise DataError(f"there is no folder {root / (published if (root / 'fake').is_dir() else own)}")
    if name == "authentic":
        return {"test": paired_samples(folder / "test", None)}
    splits = ("test",) if name in TEST_ONLY else SPLITS
    return {
        split: paired_samples(folder / "images" / split, folder / "masks" / split, source=_source) for split in splits
    }


def _root(data: Path) -> Path:
    for place in ROOTS:
        for root in sorted(data.glob(place)) if "*" in place else [data / place]:
            if any((root / folder).is_dir() for folder in ("fake", "lama", "ldm", "pluralistic", "repaint")):
                return root
    raise DataError(
        f"{data} holds no Dolos. Give celebahq/ itself, its parent, a folder that holds such a parent, "
        "or FMI_local_data/ or its parent."
    )


def _source(stem: str) -> str:
    return re.sub(r"-[0-9]$", "", stem)


@hookimpl
def deeploc_datasets() -> list[GeneratorDataset]:
    """Return the four standard generators, the full Repaint-P2 set, and the authentic images."""
    builders: dict[str, Callable[[Path], dict[str, list[Sample]]]] = {name: partial(build, name) for name in FOLDERS}
    return [
        GeneratorDataset(
            name=name,
            suite="dolos",
            build=builder,
            role="test-only" if name in TEST_ONLY else "standard",
            needs_data="the folder that Dolos was unpacked to (wacv_data, or celebahq in it)",
            inverted_masks=True,
            method=METHODS.get(name),
            reference="https://github.com/bit-ml/dolos",
            license="CC BY-NC-SA 4.0",
            default_model="unetplusplus-resnet50",
            default_recipe="poster",
        )
        for name, builder in builders.items()
    ]
