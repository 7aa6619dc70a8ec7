"""Keeps a few test images as pictures: the image, its mask, the heatmap."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from deeploc_bench.data.batches import evaluation_parts, read
from deeploc_bench.data.packs import Pack
from deeploc_bench.plan import store
from deeploc_bench.training.evaluate import Localizer, heatmaps_of


def write_examples(localizer: Localizer, packed: Pack, folder: Path, test: str, count: int) -> None:
    """Write `count` samples, spread evenly over the test split, as PNG: image, mask and heatmap side by side."""
    chosen = set(np.linspace(0, len(packed) - 1, min(count, len(packed)), dtype=int).tolist())
    for part in evaluation_parts(packed):
        places = sorted(chosen & set(range(part.start, part.stop)))
        if not places:
            continue
        heatmaps, masks = heatmaps_of(localizer, packed, part)
        for position in places:
            here = position - part.start
            image = read(packed, np.array([position]))[0][0]
            mask = masks[here].cpu().numpy().astype(np.uint8) * 255
            heatmap = np.rint(heatmaps[here].cpu().numpy() * 255).astype(np.uint8)
            panels = [image, *(np.repeat(gray[..., None], 3, axis=2) for gray in (mask, heatmap))]
            buffer = io.BytesIO()
            Pillow.fromarray(np.concatenate(panels, axis=1)).save(buffer, "PNG")
            store.write(folder / f"{test}-{packed.ids[position]}.png", buffer.getvalue())
