"""Predictions made elsewhere: a file for each test image, counted like a model's own, or refused with all reasons."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import DataError
from deeploc_bench.data.batches import read_batch
from deeploc_bench.data.opening import most_pixels
from deeploc_bench.data.packing import Tick
from deeploc_bench.data.packs import Pack
from deeploc_bench.scoring.records import Records, merge
from deeploc_bench.training.arrays import opened_archive, read_member
from deeploc_bench.training.evaluate import records_of
from deeploc_bench.training.heatmaps import SUFFIXES, Floats, Levels, heatmap_of, is_unscaled, levels_of, read_levels
from deeploc_bench.training.suspicions import Glance, glance_at, told

Loader = Callable[[], Levels]
SHOWN = 5
CLUTTER = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a folder or archive of predictions holds: how to read that of each id, and the names of all else."""

    loaders: Mapping[str, Loader]
    twice: Sequence[str] = ()
    strange: Sequence[str] = ()


def score_predictions(
    predictions: Path, pack: Pack, tick: Tick, *, beside: Sequence[str] = ()
) -> tuple[Records, list[str]]:
    """Count predictions against a packed test split; returns their records, and a line for all that is strange.

    `predictions` is a folder of one file a test image, called by its id; the folder that `predict` wrote; or one .npz
    archive of arrays by id. Each is a heatmap in [0, 1] (floats, or unsigned integers of full scale) or a mask (bool,
    or 0 and 1 in all files), (H, W) of any size, and is resized bilinearly to the image's size before thresholding.
    `beside` are folders in it that hold something else. Raises DataError with all that is missing or unreadable.
    """
    most_pixels()  # where it is told wrongly, no file is at fault
    with _opened(predictions, beside) as found:
        return _scored(predictions, found, pack, tick)


def _scored(predictions: Path, found: Found, pack: Pack, tick: Tick) -> tuple[Records, list[str]]:
    counted, unreadable = dict[str, tuple[Records, Glance]](), dict[str, str]()
    dark = dict[str, int]()
    for position, id in enumerate(pack.ids):
        if id not in found.loaders:
            continue
        try:
            levels = found.loaders[id]()
            _refuse_turned(levels, pack.entries[position].shape)
        except Exception as error:  # a damaged file makes its library raise whatever it likes
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            unreadable[id] = " ".join(reason.split()) or type(error).__name__
        else:
            if is_unscaled(levels):
                dark[id] = position  # a mask or a heatmap: the other files tell
            else:
                counted[id] = _counted(pack, position, levels)
        tick()
    kinds = {glance.kind for _, glance in counted.values()}
    if "levels" not in kinds and "black and white" in kinds:
        unreadable |= dict.fromkeys(dark, "its levels are 0 and 1, those of others 0 and full scale; write all one way")
    _refuse(predictions, pack, found, unreadable)
    for id, position in dark.items():
        levels = found.loaders[id]()
        counted[id] = _counted(pack, position, levels if "levels" in kinds else levels.astype(np.bool_))
    records = merge(own for own, _ in counted.values())
    lines = [*_left_out(found, pack), *told([glance for _, glance in counted.values()], records)]
    if dark and "levels" not in kinds:
        lines.append("no integer is above 1: read as masks of 0 and 1, not as heatmaps that are nearly black")
    return records, lines


@contextmanager
def _opened(predictions: Path, beside: Sequence[str]) -> Iterator[Found]:
    if predictions.is_dir():
        yield _in_folder(predictions, beside)
        return
    with ExitStack() as stack:
        try:
            archive, members = stack.enter_context(opened_archive(predictions))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(
                f"{predictions} {'is neither' if predictions.exists() else 'is not there'}; expected a folder of one "
                f"prediction a test image, called by its id, or an .npz archive of arrays by id ({reason})"
            ) from None
        yield Found(
            loaders={id: partial(_from_archive, archive, own[0]) for id, own in members.items()},
            twice=[f"{id}.npy in the archive" for id, own in members.items() if len(own) > 1],
        )


def _from_archive(archive: ZipFile, member: ZipInfo) -> Levels:
    return levels_of(read_member(archive, member))


def _in_folder(folder: Path, beside: Sequence[str]) -> Found:
    entries = [entry for entry in sorted(folder.iterdir()) if not _is_clutter(entry)]
    files = [entry for entry in entries if not entry.is_dir()]
    if not files and (folder / "heatmaps").is_dir():  # as `predict` writes them, overlays beside
        return _in_folder(folder / "heatmaps", ())
    by_id: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in SUFFIXES:
            by_id.setdefault(file.stem, []).append(file)
    return Found(
        loaders={id: partial(read_levels, own[0]) for id, own in by_id.items()},
        twice=[" and ".join(file.name for file in own) for own in by_id.values() if len(own) > 1],
        strange=[
            f"{entry.name}/" if entry.is_dir() else entry.name
            for entry in entries
            if entry.name not in beside and (entry.is_dir() or entry.suffix.lower() not in SUFFIXES)
        ],
    )


def _is_clutter(entry: Path) -> bool:
    return entry.name.startswith((".", "__MACOSX")) or entry.name.lower() in CLUTTER


def _refuse_turned(levels: Levels, shape: tuple[int, int]) -> None:
    """An image that lies has no heatmap that stands: (W, H) was written, or an EXIF orientation was left out."""
    (height, width), (h, w) = shape, levels.shape
    if (h - w) * (height - width) < 0:
        raise ValueError(
            f"its shape is {levels.shape}, the image's {shape}: one lies, the other stands. Transposed, or not turned "
            "as the image's EXIF data say? Write (H, W) of the image as it is shown"
        )


def _counted(pack: Pack, position: int, levels: Levels) -> tuple[Records, Glance]:
    masks = read_batch(pack, np.array([position]))[1]  # (1, H, W)
    heatmap = _resized(heatmap_of(levels), masks.shape[1:])
    records = records_of(pack, slice(position, position + 1), torch.from_numpy(heatmap)[None], torch.from_numpy(masks))
    return records, glance_at(levels, heatmap, masks[0])


def _resized(heatmap: Floats, shape: tuple[int, ...]) -> Floats:
    if heatmap.shape == shape:
        return heatmap
    return F.interpolate(torch.from_numpy(heatmap)[None, None], size=shape, mode="bilinear")[0, 0].numpy()


def _refuse(predictions: Path, pack: Pack, found: Found, unreadable: Mapping[str, str]) -> None:
    """Raise DataError with what is missing, given twice or unreadable, if anything is."""
    missing = [id for id in pack.ids if id not in found.loaders]
    lines = [f"{len(missing)} missing: {_listed(missing)}"] if missing else []
    lines += [f"{len(found.twice)} there twice, keep one: {_listed(found.twice)}"] if found.twice else []
    lines += [f"{len(unreadable)} unreadable:"] if unreadable else []
    lines += [f"  {id}: {unreadable[id]}" for id in list(unreadable)[:SHOWN]]
    lines += [f"  and {len(unreadable) - SHOWN} more"] if len(unreadable) > SHOWN else []
    if lines:
        lines += [*_left_out(found, pack), *_hint(missing, [*_extra(found, pack), *found.strange])]
        what = f"each of {len(pack)} test images needs one prediction, called by its id: {pack.ids[0]}.png"
        raise DataError("\n  ".join([f"{predictions}: {what} (or {', '.join(SUFFIXES[1:])})", *lines]))


def _left_out(found: Found, pack: Pack) -> Iterator[str]:
    extra = _extra(found, pack)
    if extra:
        yield f"{len(extra)} left out, not called by the id of a test image: {_listed(extra)}"
    if found.strange:
        yield f"{len(found.strange)} left out, not a prediction: {_listed(found.strange)}"


def _extra(found: Found, pack: Pack) -> list[str]:
    return sorted(set(found.loaders) - set(pack.ids))


def _hint(missing: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """Yield what a missing prediction may be called instead."""
    for id in missing:
        alike = [name for name in others if id.lower() in name.lower()]
        if alike:
            yield f"is {min(alike, key=len)!r} the prediction of {id!r}? Call it {id}.png, or save it as one"
            return


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
