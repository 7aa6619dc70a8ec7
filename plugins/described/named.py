"""The images of a generator, each with its mask and the name that its id and its source are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeploc_bench_plugins.described.description import AUTHENTIC, SPLITS, Part, Split
from deeploc_bench_plugins.described.files import Files, below, is_excluded
from deeploc_bench_plugins.described.lists import Line, read_list
from deeploc_bench_plugins.described.patterns import first_groups

from deeploc_bench import Contained, DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An image and its mask; `source` is what a table says of it, None where the name tells."""

    name: str
    image: Path | Contained
    mask: Path | Contained | None
    source: str | None = None


def in_files(part: Part, data: Path, *, owns_masks: bool) -> Mapping[Split, list[Named]]:
    """Return the images of each split that lists name, or else those that fit templates; raises DataError.

    Where no other generator's masks lie with a part's own, a folder of them without images is told of, too.
    """
    splits: tuple[Split, ...] = (part.split,) if part.split else SPLITS
    files = {split: Files(part, data, part.folders.get(split, split)) for split in splits}
    if part.lists:
        lines = list(dict.fromkeys(_lines(part, data)))
        named = {s: [(files[s].name(line.image), line) for line in lines if line.split == s] for s in splits}
    else:
        lacking = {split: here.lacking if owns_masks else [] for split, here in files.items()}
        named = {
            split: [(name, Line(image=name, mask=None)) for name in (*here.images, *lacking[split])]
            for split, here in files.items()
        }
    names = [name.rpartition("/")[2] for found in named.values() for name, _ in found]
    keys = first_groups(part.pair, names)
    return {
        split: [
            one
            for one in (_paired(name, line, files[split], keys) for name, line in found)
            if not is_excluded(part, data, one.image)
        ]
        for split, found in named.items()
    }


def _lines(part: Part, data: Path) -> Iterator[Line]:
    """Yield the lines of a part's lists that are of its kind, authentic or manipulated, each with its split."""
    names = {part.folders.get(split, split): split for split in SPLITS}
    files: Mapping[Any, str] = {None: part.lists} if isinstance(part.lists, str) else part.lists
    for split, name in files.items():
        path = below(data, name)
        for line in read_list(path, part.columns):
            is_authentic = line.mask == "" or (line.mask is None and part.name == AUTHENTIC)
            is_mine = (
                is_authentic if part.name == AUTHENTIC else not is_authentic and line.generator in (None, part.name)
            )
            if is_mine:
                place = split or part.split or names.get(line.split or "")
                if place is None:
                    raise DataError(f"list {path}: {line.image} has split {line.split!r}; allowed: {', '.join(names)}")
                yield replace(line, split=place, generator=None)


def _paired(name: str, line: Line, files: Files, keys: Mapping[str, str]) -> Named:
    """Return the image of a name and its mask, as a line of a list says or as templates do."""
    image = files.image(name) or below(files.data, line.image)
    mask = files.mask(name, keys) if line.mask is None else below(files.data, line.mask) if line.mask else None
    return Named(name=name, image=image, mask=mask, source=line.source)
