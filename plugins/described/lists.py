"""Lists of images and masks, as text, JSON or csv, that a description of a suite names."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from deeploc_bench import DataError, read_bytes

LABELS = {"0": False, "n": False, "1": True, "y": True}
"""The labels that say whether an image is edited."""
NO_MASK = ("", "none", "negative")  # for the mask of an authentic image in a list
WITHOUT = "none"
"""What the column of masks is called where the images are authentic, whatever masks the list has."""
Column = Literal["image", "mask", "split", "generator", "label", "source", "id"]
COLUMNS: tuple[Column, ...] = ("image", "mask", "split", "generator", "label", "source")
BETWEEN = (",", ";", "|", "\t")
"""What stands between the columns of a csv: that of which its header has most."""
FORMS = {".json": '[[image, mask or "Negative"], ...]', ".csv": "a header with the column image, and rows"}
TEXT_FORM = "'image', 'image mask' or 'image mask label' on each line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a list: an image, its mask (empty: authentic; None: not said), its split, generator and source."""

    image: str
    mask: str | None
    split: str | None = None
    generator: str | None = None
    source: str | None = None


def read_list(path: Path, columns: Mapping[Any, str]) -> list[Line]:
    """Return the lines of a list; `columns` says what a csv calls its own. Raises DataError."""
    readers = {".json": _json_pairs, ".csv": lambda text: _csv_rows(text, columns)}
    if columns and path.suffix != ".csv":
        raise DataError(f"list {path}: columns is about a .csv, and this is none; drop it, or name a .csv")
    try:
        return list(readers.get(path.suffix, _text_lines)(_text(path)))
    except OSError as error:
        raise DataError(f"list {path}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        expected = FORMS.get(path.suffix, TEXT_FORM)
        raise DataError(f"list {path} cannot be read: {error!s:.300}. Expected {expected}.") from None


def _text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 where it starts as such."""
    content = read_bytes(path)
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig")


def _text_lines(text: str) -> Iterator[Line]:
    """Read `image`, `image mask` or `image mask label` a line, with commas or tabs if names hold blanks."""
    for line in filter(str.strip, text.splitlines()):
        words = [word.strip() for word in re.split(r"[,\t]", line)] if re.search(r"[,\t]", line) else line.split()
        image, mask, label = [*words, None, None][:3]
        yield Line(image=image or "", mask=_mask_or_none(mask, label, image) if len(words) > 1 else None)


def _json_pairs(text: str) -> Iterator[Line]:
    """Read `[[image, mask | "Negative"], ...]`."""
    for image, mask in json.loads(text):
        if not isinstance(image, str) or not isinstance(mask, str | None):
            raise ValueError(f"{image!r:.80} with {mask!r:.80} is no pair of paths")
        yield Line(image=image, mask=_mask_or_none(mask))


def _csv_rows(text: str, columns: Mapping[Any, str]) -> Iterator[Line]:
    """Read the columns image, mask, split, generator, label and source; only image and what is named are needed."""
    image, mask, split, generator, label, source = (columns.get(name, name) for name in COLUMNS)
    lines = text.splitlines()
    between = max(BETWEEN, key=(lines or [""])[0].count)
    rows = csv.DictReader(lines, delimiter=between)
    here = rows.fieldnames or []
    stated = [column for name, column in columns.items() if (name, column) != ("mask", WITHOUT)]
    if lacking := [column for column in stated if column not in here]:
        raise ValueError(f"columns names {lacking[0]!r}, and its header has {', '.join(here) or 'nothing'}")
    for row in rows:
        if not row.get(image) or None in row or None in row.values():
            raise ValueError(f"row {', '.join(map(str, row.values()))} does not fill the columns, {image!r} among them")
        truth = _mask_or_none(row[mask], row.get(label), row[image]) if mask in row else None
        made_of = PurePosixPath(row.get(source) or "").stem or None
        yield Line(image=row[image], mask=truth, split=row.get(split), generator=row.get(generator), source=made_of)


def _mask_or_none(text: str | None, label: str | None = None, image: str | None = None) -> str:
    """Return the mask that a list names, empty for an authentic image; raises ValueError where its label differs."""
    mask = "" if (text or "").strip().lower() in NO_MASK else text or ""
    if LABELS.get((label or "").strip().lower(), bool(mask)) != bool(mask):
        raise ValueError(f"{image} has label {label} and {'mask ' + mask if mask else 'no mask'}")
    return mask
