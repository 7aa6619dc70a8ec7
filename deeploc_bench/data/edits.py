"""Is the edit where the mask is? Compares with the masks where samples differ from images that should equal them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.findings import Finding, data_finding
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, Mask, Split
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.pairs import Pair, mask_at, pairs_of, spread
from deeploc_bench.data.suites import Suite

FEWEST = 3
"""The fewest pairs of which anything is said."""
MOST = 0.6
"""The share of pairs that speaks for all."""
CLEAR_FIT = 0.3
"""The smallest correlation of a mask with the difference that explains anything."""
BETTER, MUCH_BETTER = 1.05, 1.5
"""How many times as much masks fit once they are shifted, and a mask that explains what another does not."""
LEAST_MORE = 1.3
"""How many times as much images should differ inside the masks as outside."""
SEARCHED = 2**24
"""The most pixels of masks among which it is looked for."""
TURNS: Mapping[str, Callable[[Mask], Mask]] = {
    "inverted (state inverted_masks, or leave it out)": lambda mask: ~mask,
    "mirrored": lambda mask: mask[:, ::-1],
    "upside down": lambda mask: mask[::-1],
    "turned by half": lambda mask: mask[::-1, ::-1],
    "transposed": lambda mask: mask.T,
}
"""What all masks of a split may be, and what they would be then."""


def edit_findings(suite: Suite) -> Iterator[Finding]:
    """Tell of each generator whether it is edited where its masks are, as far as its images can be compared."""
    for name, generator in suite.generators.items():
        splits = [split for split in SPLITS if split in generator.splits and name != AUTHENTIC]
        pairs = {split: _surest(pairs_of(suite, name, split)) for split in splits}
        wrong = [
            finding
            for split, own in pairs.items()
            if len(own) >= FEWEST
            for finding in _wrong(f"{name}/{split}", own, generator.splits[split])
        ]
        yield from wrong or _kind(name, [pair for own in pairs.values() for pair in own if pair.is_authentic])
        yield from [] if wrong else _odd(name, pairs)


def _surest(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs with authentic images, where there are enough of them."""
    authentic = [pair for pair in pairs if pair.is_authentic]
    return authentic if len(authentic) >= FEWEST else [pair for pair in pairs if not pair.is_authentic]


def _kind(name: str, pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Say of sound samples whether their generator leaves the images outside the masks as they were."""
    pairs = [pair for pair in pairs if not pair.mask.all()]
    if len(pairs) < FEWEST:
        return
    outside = [pair.outside for pair in pairs]
    if outside.count(0.0) >= MOST * len(pairs):
        told = f"{outside.count(0.0)} of {len(pairs)} compared images equal the authentic ones outside the masks"
        yield data_finding("spliced", f"{name}: {told}")
    else:
        inside = np.mean([pair.inside for pair in pairs])
        told = f"{np.mean(outside):.1f} levels outside the masks, and by {inside:.1f} inside"
        yield data_finding("regenerated", f"{name}: {len(pairs)} compared images differ by {told}")


def _odd(name: str, pairs: Mapping[Split, Sequence[Pair]]) -> Iterator[Finding]:
    """Name the single images that are edited where their masks are not, beside others that are nowhere else."""
    for split, own in pairs.items():
        is_spliced = len(own) >= FEWEST and _are_most([pair.outside == 0 for pair in own])
        for pair in own if is_spliced else []:
            if _fits_better(pair, ~pair.mask):
                yield data_finding(
                    "elsewhere", f"{name}/{split}: {pair.id} is edited outside its mask; is it inverted?"
                )


def _wrong(where: str, pairs: Sequence[Pair], pack: Pack) -> Iterator[Finding]:
    """Say what is wrong with the channels, and then with the masks, of a split."""
    beside = "the authentic images" if pairs[0].is_authentic else "other generators' images of the same ids"
    if _are_most([pair.is_swapped for pair in pairs]):
        told = f"red and blue are swapped between its images and {beside}; read them as RGB, not BGR"
        yield data_finding("edit", f"{where}: {told}")
    if not any(pair.difference.any() for pair in pairs):
        if pairs[0].is_authentic:
            yield data_finding("edit", f"{where}: nothing is edited; its images equal the authentic ones")
        return
    is_doubtful = _are_most([MUCH_BETTER * pair.fit(pair.mask) < 1 for pair in pairs])
    explanation = (is_doubtful and _turned(pairs)) or _shifted(pairs) or (is_doubtful and _other_order(pairs, pack))
    inside, outside = (float(np.mean(levels)) for levels in zip(*((p.inside, p.outside) for p in pairs), strict=True))
    if explanation:
        yield data_finding("edit", f"{where}: as {beside} show, {explanation}")
    elif inside <= LEAST_MORE * outside:
        told = f"{inside:.1f} levels inside its masks, and by {outside:.1f} outside; are these its masks?"
        yield data_finding("elsewhere", f"{where}: its images differ from {beside} by {told}")


def _are_most(holds: Sequence[bool] | NDArray[np.bool_]) -> bool:
    return float(np.mean(holds)) >= MOST


def _fits_better(pair: Pair, mask: Mask) -> bool:
    """Tell whether another mask than its own tells much better where an image is edited."""
    fit = pair.fit(mask)
    return fit >= CLEAR_FIT and fit > MUCH_BETTER * pair.fit(pair.mask)


def _turned(pairs: Sequence[Pair]) -> str | None:
    """Say how the masks are turned, where most fit much better once they are turned back."""
    for what, turn in TURNS.items():
        if _are_most([_fits_better(pair, turn(pair.mask)) for pair in pairs]):
            return f"the masks are {what}"
    return None


def _shifted(pairs: Sequence[Pair]) -> str | None:
    """Say by how many pixels the masks are shifted, where one shift lets most of them, and all together, fit better."""
    alike = [pair for pair in pairs if pair.step == pairs[0].step]
    reach = min(min(pair.mask.shape) for pair in alike) // 4
    fits = np.stack([_fits_by_shift(pair, reach) for pair in alike])  # (N, 2 reach + 1, 2 reach + 1)
    together = fits.mean(axis=0)
    row, column = divmod(int(together.argmax()), 2 * reach + 1)
    down, right = row - reach, column - reach
    is_better = fits[:, row, column] > BETTER * fits[:, reach, reach]
    is_clear = together[row, column] > max(CLEAR_FIT, BETTER * together[reach, reach])
    if max(abs(down), abs(right)) < 2 or not is_clear or not _are_most(is_better):
        return None
    ways = ((right, "right", "left"), (down, "down", "up"))
    told = [f"{abs(far) * pairs[0].step} pixels {one if far > 0 else other}" for far, one, other in ways if far]
    return f"the masks are shifted: they fit once moved {' and '.join(told)}"


def _fits_by_shift(pair: Pair, reach: int) -> NDArray[np.float64]:
    """Return how well a mask fits once moved by up to `reach` rows and columns either way; not moved in the middle."""
    sides = [2 * side for side in pair.mask.shape]  # so that nothing moves in at the other end
    marked, mask = (array - array.mean() for array in (pair.marked, pair.mask.astype(np.float32)))
    covered = np.fft.irfft2(np.fft.rfft2(marked, sides) * np.fft.rfft2(mask, sides).conj(), sides)
    window = np.arange(-reach, reach + 1)
    spread_of_both = float(marked.std() * mask.std()) * mask.size
    return covered[np.ix_(window, window)] / (spread_of_both or 1.0)


def _other_order(pairs: Sequence[Pair], pack: Pack) -> str | None:
    """Say that most images are edited where the masks of others are."""
    searched = spread(range(len(pack)), max(16, SEARCHED // int(pack.pixels.max())))
    masks = {position: mask_at(pack, position, pairs[0].step) for position in searched}
    owners = [max(masks, key=lambda position: _coarse_fit(pair, masks[position])) for pair in pairs]  # noqa: B023
    found = [_fits_better(pair, masks[owner]) for pair, owner in zip(pairs, owners, strict=True)]
    if not _are_most(found):
        return None
    pair, owner = next(one for one, is_found in zip(zip(pairs, owners, strict=True), found, strict=True) if is_found)
    image, other = pair.id, pack.ids[owner]
    return f"the masks are those of other images: {image} is edited where the mask of {other} is; pair them by name"


def _coarse_fit(pair: Pair, mask: Mask) -> float:
    """Return how well any mask fits, seen on fewer pixels."""
    if mask.shape != pair.mask.shape:
        return -1.0
    step = max(1, max(mask.shape) // 64)
    inside, levels = mask[::step, ::step].astype(np.float32), pair.marked[::step, ::step]
    spread_of_both = float(inside.std() * levels.std())
    return float(((inside - inside.mean()) * levels).mean()) / spread_of_both if spread_of_both else -1.0
