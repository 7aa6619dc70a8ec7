"""A contact sheet: a few images of a generator beside their originals, for whoever wants to see what was made."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy import ndimage

from deeploc_bench.contract.specs import Image, Mask

TILE = 192
"""The longer side of an image on the sheet, in pixels."""
LINE = 14
"""The height of a line of text."""
GAP = 4
OUTLINE = (255, 0, 64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One image of a sheet: its title, the original and the edit (H, W, 3), and the mask (H, W)."""

    title: str
    original: Image
    mask: Mask
    edit: Image


def contact_sheet(rows: Sequence[Row]) -> bytes:
    """Return a PNG with a row an image: original, original with the mask's outline, edit."""
    height = TILE + LINE + GAP
    sheet = Pillow.new("RGB", (3 * (TILE + GAP) + GAP, len(rows) * height + LINE + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(("original", "mask", "edit")):
        pen.text((GAP + column * (TILE + GAP), 1), title, fill="black")
    for number, row in enumerate(rows):
        top = LINE + GAP + number * height
        pen.text((GAP, top), row.title[:60], fill="black")
        original, outlined, edit = _tile(row.original), _tile(row.original), _tile(row.edit)
        outlined = _outlined(outlined, np.asarray(_fitted(Pillow.fromarray(row.mask.astype(np.uint8) * 255))) > 127)
        for column, tile in enumerate((original, outlined, edit)):
            sheet.paste(tile, (GAP + column * (TILE + GAP), top + LINE))
    content = BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _tile(image: Image) -> Pillow.Image:
    return _fitted(Pillow.fromarray(image))


def _fitted(picture: Pillow.Image) -> Pillow.Image:
    """Return a picture whose longer side is that of a tile; a small one is enlarged, each pixel a square."""
    scale = TILE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize((size[0], size[1]), Pillow.Resampling.NEAREST if scale > 1 else Pillow.Resampling.BOX)


def _outlined(tile: Pillow.Image, mask: Mask) -> Pillow.Image:
    pixels = np.array(tile)
    pixels[ndimage.binary_dilation(mask, iterations=2) & ~mask] = OUTLINE
    return Pillow.fromarray(pixels)
