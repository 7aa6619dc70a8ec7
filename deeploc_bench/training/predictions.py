"""Predictions made elsewhere: files of heatmaps or masks, read strictly and counted like a model's own."""

import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import DataError
from deeploc_bench.data.batches import read_batch
from deeploc_bench.data.packs import Pack, Tick
from deeploc_bench.scoring.records import Records, merge
from deeploc_bench.training.evaluate import records_of
from deeploc_bench.training.pictures import TIES

Floats = NDArray[np.float32]
Loader = Callable[[], NDArray[np.generic]]
SUFFIXES = (".png", ".npy", ".npz")
SHOWN = 5
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, KeyError, IndexError, EOFError, MemoryError),
    *(Pillow.DecompressionBombError, zipfile.BadZipFile, zlib.error),
)
"""What Pillow and numpy raise for files that are not what they are called."""
FULL_SCALE = {np.dtype(np.bool_): 1, np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


def score_predictions(predictions: Path, pack: Pack, tick: Tick) -> Records:
    """Count predictions against a packed test split.

    `predictions` is a folder of `<id>.png`, `.npy` or `.npz`, or one .npz archive of arrays by id: heatmaps in [0, 1]
    (floats, or integers of full scale) or masks (bool), (H, W) of any size; they are resized bilinearly to the mask's
    size before thresholding. Raises DataError that lists all that are missing, extra or unreadable.
    """
    loaders = _loaders(predictions)
    troubles = [f"{id} is missing" for id in pack.ids if id not in loaders]
    troubles += [f"{id} is not a test image" for id in sorted(set(loaders) - set(pack.ids))]
    records = []
    for position, id in enumerate(pack.ids):
        if id not in loaders:
            continue
        try:
            heatmap = _heatmap(loaders[id]())
        except UNREADABLE as error:
            troubles.append(f"{id} cannot be read: {error}")
            continue
        if not troubles:
            records.append(_counted(pack, slice(position, position + 1), heatmap))
        tick()
    if troubles:
        lines = "\n  ".join([*troubles[:SHOWN], *([f"and {len(troubles) - SHOWN} more"] * (len(troubles) > SHOWN))])
        raise DataError(
            f"{predictions}: {len(troubles)} predictions are missing, extra or unreadable; each of {len(pack)} test "
            f"images needs exactly one, called by its id ({pack.ids[0]}.png):\n  {lines}"
        )
    return merge(records)


def _loaders(predictions: Path) -> dict[str, Loader]:
    if predictions.is_file() and predictions.suffix == ".npz":
        try:
            archive = np.load(predictions, allow_pickle=False)
            return {id: partial(archive.__getitem__, id) for id in archive.files}
        except (*UNREADABLE, AttributeError) as error:
            raise DataError(f"{predictions} cannot be read as an .npz archive: {error}") from None
    if not predictions.is_dir():
        raise DataError(f"{predictions}: there is no such folder (or .npz archive) of predictions")
    loaders: dict[str, Loader] = {}
    for file in sorted(predictions.iterdir()):
        if file.name.startswith(".") or file.is_dir():
            continue
        if file.suffix.lower() not in SUFFIXES:
            raise DataError(f"{file} is not a prediction; allowed: {', '.join(SUFFIXES)}")
        if file.stem in loaders:
            raise DataError(f"{predictions} holds two predictions of {file.stem!r}; keep one")
        loaders[file.stem] = partial(_load, file)
    return loaders


def _load(file: Path) -> NDArray[np.generic]:
    if file.suffix.lower() == ".png":
        with Pillow.open(file) as picture:
            if picture.mode not in ("1", "L", "I", "I;16"):
                raise ValueError(f"mode {picture.mode}; expected one channel of 1, 8 or 16 bits")
            pixels, ties = np.array(picture), picture.info.get(TIES, "").split()
        if pixels.dtype.itemsize == 1:
            return pixels
        heatmap = (pixels.astype(np.float64) / 65535).astype(np.float32)
        heatmap.flat[[int(pixel) for pixel in ties]] = 0.5
        return heatmap
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    if len(loaded.files) != 1:
        raise ValueError(f"{len(loaded.files)} arrays; expected one")
    only: NDArray[np.generic] = loaded[loaded.files[0]]
    return only


def _heatmap(array: NDArray[np.generic]) -> Floats:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array.squeeze(0 if array.shape[0] == 1 else 2)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"shape {array.shape}; expected (H, W)")
    if array.dtype.kind == "u" and array.max() == 1:
        raise ValueError("no value above 1; a mask of 0 and 1? Write it as 0 and full scale, or as bool")
    if array.dtype in FULL_SCALE:
        heatmap = (array.astype(np.float64) / FULL_SCALE[array.dtype]).astype(np.float32)
    elif array.dtype.kind == "f":
        heatmap = array.astype(np.float32)
    else:
        raise ValueError(f"{array.dtype}; expected bool, uint8, uint16 or floats")
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError(f"values from {heatmap.min():g} to {heatmap.max():g}; expected heatmaps in [0, 1], no logits")
    return heatmap


def _counted(pack: Pack, batch: slice, heatmap: Floats) -> Records:
    masks = torch.from_numpy(read_batch(pack, np.arange(batch.start, batch.stop))[1])
    heatmaps = torch.from_numpy(heatmap)[None]
    if heatmaps.shape != masks.shape:
        heatmaps = F.interpolate(heatmaps[None], size=masks.shape[1:], mode="bilinear")[0]
    return records_of(pack, batch, heatmaps, masks)
