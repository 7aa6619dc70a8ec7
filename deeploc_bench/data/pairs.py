"""Samples beside images that should equal them outside their masks: the authentic ones, or other generators'."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.specs import AUTHENTIC, Image, Mask, Split
from deeploc_bench.data.entries import Entry
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Suite

COMPARED = 16
"""The most samples of a generator and split that are compared."""
MOST_CROPS = 16
"""The most authentic images of a source among which the one is looked for that shows the same."""
LARGEST_SIDE = 256
"""Of larger images every second, third, ... row and column is compared."""
SAME_SCENE = 24
"""The most levels, in the median over the pixels, by which two images of one scene differ."""
T = TypeVar("T")
Levels: TypeAlias = NDArray[np.float32]
_Place: TypeAlias = tuple[Pack, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """A sample beside an image of the same scene; arrays are (H, W), of every `step`-th row and column.

    `difference` is in levels, the largest over the channels; where red and blue are swapped, it is without that.
    `marked` is what of it stands above its median, capped, so that an edit counts by its place and not its strength.
    `others` is what the other image's own mask covers; nothing, where that is authentic.
    """

    id: str
    step: int
    difference: Levels
    marked: Levels
    mask: Mask
    others: Mask
    is_swapped: bool
    is_authentic: bool

    @property
    def inside(self) -> float:
        """Return the mean difference inside the mask, in levels."""
        return float(self.difference[self.mask].mean()) if self.mask.any() else 0.0

    @property
    def outside(self) -> float:
        """Return the mean difference outside both masks, in levels."""
        outside = self.difference[~(self.mask | self.others)]
        return float(outside.mean()) if outside.size else 0.0

    def fit(self, mask: Mask) -> float:
        """Return the correlation, -1 to 1, of a mask with where the images differ; 0 where there is none."""
        if mask.shape != self.mask.shape:
            return 0.0
        seen = mask | ~self.others
        if (seen & ~mask).mean() < 0.01:  # the other's mask covers all the rest: one of the two is inverted
            seen = np.ones_like(mask)
        inside, levels = mask[seen].astype(np.float32), self.marked[seen]
        spread = float(inside.std() * levels.std())
        return float(((inside - inside.mean()) * (levels - levels.mean())).mean()) / spread if spread else 0.0


def pairs_of(suite: Suite, name: str, split: Split) -> list[Pair]:
    """Return some samples of a generator's split, each beside an image of the same scene where there is one.

    That is the authentic image of its id, or the likest of its source, or else another generator's image of its id.
    """
    pack = suite.generators[name].splits[split]
    authentic = [*suite.generators[AUTHENTIC].splits.values()] if AUTHENTIC in suite.generators else []
    rest = [other for other in suite.generators.values() if other.name not in (name, AUTHENTIC)]
    others = [other.splits[split] for other in rest if split in other.splits]
    by_id, by_source, by_other = _places(authentic, "id"), _places(authentic, "source"), _places(others, "id")
    candidates = []
    for position, entry in enumerate(pack.entries):
        real = _alike(entry, by_id[entry.id]) or _alike(entry, by_source[entry.source])
        if real or _alike(entry, by_other[entry.id]):
            candidates.append((position, real[:MOST_CROPS], _alike(entry, by_other[entry.id])))
    found = []
    for turn, (position, real, other) in enumerate(spread(candidates, COMPARED)):
        places = real or [other[turn % len(other)]]  # each of the others in its turn, so that one that is wrong is seen
        pair, middle = min(
            (_pair((pack, position), place, is_authentic=bool(real)) for place in places), key=lambda one: one[1]
        )
        found += [pair] if middle <= SAME_SCENE else []
    return found


def spread(items: Sequence[T], most: int) -> Sequence[T]:
    """Return at most `most` items, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def mask_at(pack: Pack, position: int, step: int) -> Mask:
    """Return the mask of a sample, every `step`-th row and column of it."""
    height, width = pack.shapes[position]
    bits = np.unpackbits(pack.flat(position)[1], count=height * width)
    return bits.view(np.bool_).reshape(height, width)[::step, ::step]


def _places(packs: Sequence[Pack], key: str) -> Mapping[str, list[_Place]]:
    """Return where the samples of packs stand, by their id or source."""
    found: dict[str, list[_Place]] = defaultdict(list)
    for pack in packs:
        for position, entry in enumerate(pack.entries):
            found[getattr(entry, key)].append((pack, position))
    return found


def _alike(entry: Entry, places: Sequence[_Place]) -> list[_Place]:
    return [(pack, position) for pack, position in places if pack.entries[position].shape == entry.shape]


def _pair(sample: _Place, other: _Place, *, is_authentic: bool) -> tuple[Pair, float]:
    """Return a sample beside another image, and by how many levels the two differ in the median over the pixels."""
    pack, position = sample
    step = -(-int(pack.shapes[position].max()) // LARGEST_SIDE)
    image, beside = (_image_at(*place, step).astype(np.int16) for place in (sample, other))
    difference, swapped = (np.abs(image - one).max(axis=2).astype(np.float32) for one in (beside, beside[..., ::-1]))
    is_swapped = bool(difference.mean() > 2 * swapped.mean() + 2)
    difference = swapped if is_swapped else difference
    median = float(np.median(difference))
    pair = Pair(
        id=pack.entries[position].id,
        step=step,
        difference=difference,
        marked=np.clip(difference - 2 * median, 0, 4 + 2 * median),
        mask=mask_at(*sample, step),
        others=mask_at(*other, step),
        is_swapped=is_swapped,
        is_authentic=is_authentic,
    )
    return pair, median


def _image_at(pack: Pack, position: int, step: int) -> Image:
    return pack.flat(position)[0].reshape(*pack.shapes[position], 3)[::step, ::step]
