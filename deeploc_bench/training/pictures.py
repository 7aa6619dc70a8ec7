"""Pictures of predictions: heatmaps of 16 bits, overlays, and the panels that a training keeps as examples."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from deeploc_bench.contract.files import write
from deeploc_bench.data.batches import evaluation_batches, read_batch
from deeploc_bench.data.packing import Tick
from deeploc_bench.data.packs import Pack
from deeploc_bench.plan.store import PLACE, seal_place
from deeploc_bench.training.evaluate import Localizer, heatmaps_of

Floats = NDArray[np.float32]
TIES = "heatmap of exactly 0.5 at"
"""The PNG text that names the pixels of exactly 0.5, which no 16-bit level is."""


def write_predictions(localizer: Localizer, pack: Pack, folder: Path, tick: Tick) -> None:
    """Write the heatmaps of packed images, `heatmaps/<id>.png` of 16 bits, and `overlays/<id>.png` to look at."""
    for batch in evaluation_batches(pack):
        heatmaps = heatmaps_of(localizer, pack, batch)[0].cpu().numpy()  # (N, H, W)
        images, _ = read_batch(pack, batch)
        for id, image, heatmap in zip(pack.ids[batch], images, heatmaps, strict=True):
            write(folder / "heatmaps" / f"{id}.png", encoded(heatmap))
            write(folder / "overlays" / f"{id}.png", _png(overlay(image, heatmap)))
            tick()


def write_examples(localizer: Localizer, pack: Pack, folder: Path, name: str, count: int) -> None:
    """Write `count` samples, spread evenly over a test split, as PNG: image, mask and heatmap side by side."""
    chosen = set(np.linspace(0, len(pack) - 1, min(count, len(pack)), dtype=int).tolist())
    for batch in evaluation_batches(pack):
        positions = sorted(chosen & set(range(batch.start, batch.stop)))
        if not positions:
            continue
        heatmaps, masks = (values.cpu().numpy() for values in heatmaps_of(localizer, pack, batch))  # both (N, H, W)
        for position in positions:
            image = read_batch(pack, np.array([position]))[0][0]
            mask, heatmap = masks[position - batch.start], heatmaps[position - batch.start]
            # rounded so that exactly the heatmaps above 0.5 are above 127
            grays = (mask.astype(np.uint8) * 255, np.ceil(255 * heatmap - 0.5).clip(0).astype(np.uint8))
            panels = [image, *(np.repeat(gray[..., None], 3, axis=2) for gray in grays)]
            file = f"{name}-{pack.ids[position]}.png"
            place = PngInfo()
            place.add_text(PLACE, seal_place(folder.parent / file))
            write(folder / file, _png(np.concatenate(panels, axis=1), pnginfo=place))


def encoded(heatmap: Floats) -> bytes:
    """Return a heatmap (H, W) as a 16-bit PNG.

    A level is ceil(65535 p - 0.5), so that exactly the pixels above 0.5 read back above 0.5. No level is 0.5: the
    pixels of exactly 0.5 stand in the PNG's text, and read back as ties.
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


def _png(pixels: NDArray[np.generic], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()
