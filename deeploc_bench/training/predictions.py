"""Predictions as files: heatmaps made elsewhere are read and counted like a model's own; a model's are written."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import DataError
from deeploc_bench.data.batches import evaluation_parts, read
from deeploc_bench.data.packs import Pack, Tick
from deeploc_bench.plan import store
from deeploc_bench.scoring.records import Records, merge
from deeploc_bench.training.evaluate import Localizer, heatmaps_of, records_of

Floats = NDArray[np.float32]
Loader = Callable[[], NDArray[np.generic]]
SUFFIXES = (".png", ".npy", ".npz")
SHOWN = 5
TIES = "heatmap of exactly 0.5 at"
FULL_SCALE = {np.dtype(np.bool_): 1, np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


def score_predictions(predictions: Path, packed: Pack, tick: Tick) -> Records:
    """Count predictions against a packed test split.

    `predictions` is a folder of `<id>.png`, `.npy` or `.npz`, or one .npz archive of arrays by id: heatmaps in [0, 1]
    (floats, or integers of full scale) or masks (bool), (H, W) of any size; they are resized bilinearly to the mask's
    size before thresholding. Raises DataError that lists all that are missing, extra or unreadable.
    """
    loaders = _loaders(predictions)
    troubles = [f"{id} is missing" for id in packed.ids if id not in loaders]
    troubles += [f"{id} is no test image" for id in sorted(set(loaders) - set(packed.ids))]
    parts = []
    for place, id in enumerate(packed.ids):
        if id not in loaders:
            continue
        try:
            heatmap = _heatmap(loaders[id]())
        except (OSError, ValueError, SyntaxError, KeyError, IndexError) as error:
            troubles.append(f"{id} cannot be read: {error}")
            continue
        if not troubles:
            parts.append(_counted(packed, slice(place, place + 1), heatmap))
        tick()
    if troubles:
        lines = "\n  ".join([*troubles[:SHOWN], *([f"and {len(troubles) - SHOWN} more"] * (len(troubles) > SHOWN))])
        raise DataError(
            f"{predictions}: {len(troubles)} predictions are not as they must be; each of {len(packed)} test images "
            f"needs exactly one, called by its id ({packed.ids[0]}.png):\n  {lines}"
        )
    return merge(parts)


def write_predictions(localizer: Localizer, packed: Pack, folder: Path, tick: Tick) -> None:
    """Write the heatmaps of packed images, `heatmaps/<id>.png` of 16 bits, and `overlays/<id>.png` to look at."""
    for part in evaluation_parts(packed):
        heatmaps = heatmaps_of(localizer, packed, part)[0].cpu().numpy()
        images, _ = read(packed, np.arange(part.start, part.stop))
        for id, image, heatmap in zip(packed.ids[part], images, heatmaps, strict=True):
            store.write(folder / "heatmaps" / f"{id}.png", encoded(heatmap))
            store.write(folder / "overlays" / f"{id}.png", _png(overlay(image, heatmap)))
            tick()


def encoded(heatmap: Floats) -> bytes:
    """Return a heatmap (H, W) as a 16-bit PNG.

    A level is ceil(65535 p - 0.5), so that exactly the pixels above 0.5 read back above 0.5. No level is 0.5: places
    of exactly 0.5 stand in the PNG's text, and read back as ties.
    """
    levels = np.ceil(65535 * heatmap.astype(np.float64) - 0.5).clip(0, 65535).astype(np.uint16)
    ties = PngInfo()
    ties.add_text(TIES, " ".join(map(str, np.flatnonzero(heatmap == 0.5))), zip=True)
    return _png(levels, pnginfo=ties)


def overlay(image: NDArray[np.uint8], heatmap: Floats) -> NDArray[np.uint8]:
    """Return an image, uint8 (H, W, 3), darkened, its heatmap (H, W) laid over in red, its predicted mask outlined."""
    share = 0.7 * heatmap[..., None].astype(np.float64)
    tinted = 0.8 * image * (1 - share) + np.array([255.0, 40.0, 40.0]) * share
    pred_mask = np.pad(heatmap > 0.5, 1)
    inner = pred_mask[:-2, 1:-1] & pred_mask[2:, 1:-1] & pred_mask[1:-1, :-2] & pred_mask[1:-1, 2:]
    tinted[pred_mask[1:-1, 1:-1] & ~inner] = (255, 230, 0)
    return tinted.round().astype(np.uint8)


def _loaders(predictions: Path) -> dict[str, Loader]:
    if predictions.is_file() and predictions.suffix == ".npz":
        archive = np.load(predictions, allow_pickle=False)
        return {id: partial(archive.__getitem__, id) for id in archive.files}
    if not predictions.is_dir():
        raise DataError(f"{predictions}: there is no such folder (or .npz archive) of predictions")
    loaders: dict[str, Loader] = {}
    for file in sorted(predictions.iterdir()):
        if file.name.startswith(".") or file.is_dir():
            continue
        if file.suffix.lower() not in SUFFIXES:
            raise DataError(f"{file} is no prediction; allowed: {', '.join(SUFFIXES)}")
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
        heatmap.flat[[int(place) for place in ties]] = 0.5
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
    if array.dtype in FULL_SCALE:
        heatmap = (array.astype(np.float64) / FULL_SCALE[array.dtype]).astype(np.float32)
    elif array.dtype.kind == "f":
        heatmap = array.astype(np.float32)
    else:
        raise ValueError(f"{array.dtype}; expected bool, uint8, uint16 or floats")
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError(f"values from {heatmap.min():g} to {heatmap.max():g}; expected heatmaps in [0, 1], no logits")
    return heatmap


def _counted(packed: Pack, part: slice, heatmap: Floats) -> Records:
    masks = torch.from_numpy(read(packed, np.arange(part.start, part.stop))[1])
    heatmaps = torch.from_numpy(heatmap)[None]
    if heatmaps.shape != masks.shape:
        heatmaps = F.interpolate(heatmaps[None], size=masks.shape[1:], mode="bilinear")[0]
    return records_of(packed, part, heatmaps, masks)


def _png(pixels: NDArray[np.generic], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()
