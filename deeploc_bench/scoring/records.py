"""Records: per-image integer counts, which every score derives from."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.specs import ID_PATTERN, ID_RULE

COUNTS = ("tp", "fp", "fn", "tn", "tie_manipulated", "tie_authentic")
COLUMNS = ("id", "source", *COUNTS, "pred")
BINS = 256
PIXELS = (r"0|[1-9][0-9]{0,11}", "a whole number of pixels, 0 or more")
FIELDS = {
    "id": (ID_PATTERN, ID_RULE),
    "source": (ID_PATTERN, ID_RULE),
    "pred": (r"[0-9a-f]{16}", "16 hex digits"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Records:
    """Per-image integer counts of one training on one test set, N images.

    `counts` is int64 (N, 6): pixels that are tp, fp, fn, tn at heatmap > 0.5, and manipulated and authentic pixels of
    exactly 0.5. `preds` is the `mask_hash` of each predicted mask. `histograms` is int32 (N, 2, 256): the heatmap of
    authentic, then of manipulated pixels in right-closed bins; bin k holds (k/256, (k+1)/256], bin 0 also 0, so that
    heatmap > 0.5 is exactly bins 128 to 255.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    counts: NDArray[np.int64]
    preds: tuple[str, ...]
    histograms: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tp(self) -> NDArray[np.int64]:
        """Manipulated pixels found, (N,)."""
        return self.counts[:, 0]

    @property
    def fp(self) -> NDArray[np.int64]:
        """Authentic pixels taken for manipulated, (N,)."""
        return self.counts[:, 1]

    @property
    def fn(self) -> NDArray[np.int64]:
        """Manipulated pixels missed, (N,)."""
        return self.counts[:, 2]

    @property
    def tn(self) -> NDArray[np.int64]:
        """Authentic pixels left alone, (N,)."""
        return self.counts[:, 3]

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels of each image, (N,)."""
        total: NDArray[np.int64] = self.counts[:, :4].sum(axis=1)
        return total


def mask_hash(pred_mask: NDArray[np.bool_]) -> str:
    """Return 16 hex digits that name a mask, bool (H, W).

    They are BLAKE2b with an 8-byte digest over b"HxW:" in decimal, then the mask's bits, row by row without a gap
    between rows, eight to a byte, the first pixel in the highest bit, the last byte filled up with zeros.
    """
    height, width = pred_mask.shape
    state = hashlib.blake2b(f"{height}x{width}:".encode(), digest_size=8)
    state.update(np.packbits(pred_mask).data)
    return state.hexdigest()


def merge(parts: Iterable[Records]) -> Records:
    """Merge records of disjoint images, in any order and split, into one sorted by id.

    Histograms are kept where every part has them. Raises StoreError where an image appears twice.
    """
    parts = list(parts)
    ids = [id for part in parts for id in part.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    for first, second in pairwise(order):
        if ids[first] == ids[second]:
            raise StoreError(f"image {ids[first]!r} appears twice in the records; each image counts once")
    counts = [np.empty((0, len(COUNTS)), np.int64), *(part.counts for part in parts)]
    histograms = [np.empty((0, 2, BINS), np.int32), *(p.histograms for p in parts if p.histograms is not None)]
    sources = [source for part in parts for source in part.sources]
    preds = [pred for part in parts for pred in part.preds]
    return Records(
        ids=tuple(ids[i] for i in order),
        sources=tuple(sources[i] for i in order),
        counts=np.concatenate(counts)[order],
        preds=tuple(preds[i] for i in order),
        histograms=np.concatenate(histograms)[order] if len(histograms) == len(parts) + 1 else None,
    )


def to_csv(records: Records) -> str:
    """Return records as the text of a test-*.csv.

    Raises StoreError where ids are not sorted, as `merge` returns them: histograms are stored in the same order.
    """
    for before, after in pairwise(records.ids):
        if before >= after:
            raise StoreError(_unsorted("records", before, after))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for id, source, counts, pred in zip(
        records.ids, records.sources, records.counts.tolist(), records.preds, strict=True
    ):
        writer.writerow([id, source, *counts, pred])
    return text.getvalue()


def from_csv(text: str, name: str, histograms: NDArray[np.int32] | None = None) -> Records:
    """Read the text of a test-*.csv strictly, and join its histograms, int32 (N, 2, 256), where they are at hand.

    Raises StoreError that names `name`, the line, what came and what is allowed.
    """
    rows = list(_rows(text, name))
    if histograms is not None and histograms.shape != (len(rows), 2, BINS):
        raise StoreError(
            f"{name} has {len(rows)} images but its histograms have shape {histograms.shape}; "
            f"expected ({len(rows)}, 2, {BINS}). Delete both and run again."
        )
    counts = np.array([[int(field) for field in row[2:8]] for row in rows], np.int64).reshape(-1, len(COUNTS))
    if histograms is not None:
        halves = histograms.reshape(-1, 2, 2, BINS // 2).sum(axis=3)  # authentic, manipulated; up to 0.5, above
        wrong = np.flatnonzero((halves[:, [1, 0, 1, 0], [1, 1, 0, 0]] != counts[:, :4]).any(axis=1))
        if len(wrong):
            where = f"{name}, line {wrong[0] + 2}"
            raise StoreError(
                f"{where}: tp, fp, fn, tn of {rows[wrong[0]][0]!r} are not the sums of its histogram: one of both is "
                "damaged. Delete the .csv and its histograms, and run again."
            )
    return Records(
        ids=tuple(row[0] for row in rows),
        sources=tuple(row[1] for row in rows),
        counts=counts,
        preds=tuple(row[8] for row in rows),
        histograms=histograms,
    )


def _rows(text: str, name: str) -> Iterator[list[str]]:
    """Yield the checked rows below the header; no field needs quotes, so that each row is one line."""
    reader = csv.reader(io.StringIO(text), quoting=csv.QUOTE_NONE, strict=True)
    before = ""
    try:
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise StoreError(f"{name}, line 1: the header is {','.join(header)!r:.200}; expected {','.join(COLUMNS)!r}")
        for row in reader:
            _check_row(row, before, f"{name}, line {reader.line_num}")
            before = row[0]
            yield row
    except csv.Error as error:
        raise StoreError(f"{name}, line {reader.line_num}: {error}; expected plain csv, one line per image") from None


def _check_row(row: list[str], before: str, where: str) -> None:
    if len(row) != len(COLUMNS):
        raise StoreError(f"{where}: {len(row)} fields; expected {len(COLUMNS)}: {','.join(COLUMNS)}")
    for column, field in zip(COLUMNS, row, strict=True):
        pattern, allowed = FIELDS.get(column, PIXELS)
        if not re.fullmatch(pattern, field):
            raise StoreError(f"{where}: {column} is {field!r:.200}; expected {allowed}")
    if row[0] <= before:
        raise StoreError(_unsorted(where, before, row[0]))
    for below, tie in (("fn", "tie_manipulated"), ("tn", "tie_authentic")):
        most, ties = row[COLUMNS.index(below)], row[COLUMNS.index(tie)]
        if int(ties) > int(most):
            raise StoreError(f"{where}: {tie} is {ties}; expected at most {below}, {most}, which counts ties too")


def _unsorted(where: str, before: str, after: str) -> str:
    return f"{where}: id {after!r} follows {before!r}; ids must be sorted and unique"
