"""Published definitions of "IoU", each read from the same records.

The epsilons are the definitions' own. Authentic images count where a dialect is counted: a loader that lists them
beside the manipulated ones scores them too. What PhotoHolmes computes was read in github.com/photoholmes/photoholmes at
223762c: `metrics/torchmetrics_wrappers.py` and `datasets/base.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.scoring.metrics import iou, pooled_iou
from deeploc_bench.scoring.records import Records

Floats = NDArray[np.float64]
DEFAULT_BATCH = 16
"""The batch size of the recipe `poster`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One definition of IoU: its score of any records, whether authentic images count, and its rules in words."""

    name: str
    score: Callable[[Records], float]
    counts_authentic: bool
    what: str


def declip(records: Records) -> float:
    """Return the mean over images of (I + 1e-8) / (U + 1e-8)."""
    inter, union = _counts(records)
    return _mean((inter + 1e-8) / (union + 1e-8))


def smp_batch(records: Records, size: int = DEFAULT_BATCH) -> float:
    """Return the mean over batches of (I + 1e-7) / (U + 1e-7) of the batch's sums, a short last batch among them.

    Batches are cut in the order of the records, which are sorted by id; a shuffled loader makes other batches.
    """
    starts = np.arange(0, len(records), size)
    if not len(starts):
        return float("nan")
    inter, union = (np.add.reduceat(part, starts) for part in _counts(records))
    return _mean((inter + 1e-7) / (union + 1e-7))


def smp_imagewise(records: Records) -> float:
    """Return the mean over images of I / U at heatmap >= 0.5; 1 where U is 0, smp's default of `zero_division`."""
    ties_in, ties_out = records.counts[:, 4], records.counts[:, 5]
    inter, union = records.tp + ties_in, records.tp + records.fp + records.fn + ties_out
    return _mean(np.where(union > 0, inter / np.maximum(union, 1), 1.0))


def imdlbenco(records: Records) -> float:
    """Return the mean over images of I / (U + 1e-8)."""
    inter, union = _counts(records)
    return _mean(inter / (union + 1e-8))


def pooled(records: Records) -> float:
    """Return I / U of all pixels together, 0 where U is 0."""
    if not len(records):
        return float("nan")
    found = pooled_iou(records)
    return 0.0 if np.isnan(found) else found


def _counts(records: Records) -> tuple[Floats, Floats]:
    """Return the intersection and the union of each image at heatmap > 0.5, both (N,)."""
    inter = records.tp.astype(np.float64)
    return inter, inter + records.fp + records.fn


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _smp_batch_words(size: int) -> str:
    return (
        f"the mean over batches of {size} images, sorted by id (a shuffled loader makes other batches), of "
        "(I + 1e-7) / (U + 1e-7), heatmap > 0.5, each batch of weight 1, a short last one too; "
        "authentic images as loaded"
    )


_MEAN = "the mean over images"
_POOLED = (
    "I / U of all pixels of the data set, heatmap > 0.5, 0 where both masks are empty throughout; authentic left out"
)
DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            name="dolos",
            score=iou,
            counts_authentic=False,
            what=f"{_MEAN} of I / U, heatmap > 0.5, 1 where both masks are empty; authentic images left out",
        ),
        Dialect(
            name="declip",
            score=declip,
            counts_authentic=False,
            what=f"{_MEAN} of (I + 1e-8) / (U + 1e-8), heatmap > 0.5; authentic images left out",
        ),
        Dialect(
            name="smp-batch",
            score=smp_batch,
            counts_authentic=True,
            what=_smp_batch_words(DEFAULT_BATCH),
        ),
        Dialect(
            name="smp-imagewise",
            score=smp_imagewise,
            counts_authentic=True,
            what=f"{_MEAN} of I / U, heatmap >= 0.5, 1 where both masks are empty (smp's default); authentic images as "
            "loaded",
        ),
        Dialect(
            name="imdlbenco",
            score=imdlbenco,
            counts_authentic=True,
            what=f"{_MEAN} of I / (U + 1e-8), heatmap > 0.5, 0 where both masks are empty; authentic images score 0",
        ),
        Dialect(
            name="photoholmes",
            score=pooled,
            counts_authentic=False,
            what=f"{_POOLED}, as by its option tampered_only=True (its default, False, counts their false alarms)",
        ),
        Dialect(name="torchmetrics", score=pooled, counts_authentic=False, what=_POOLED),
    )
}


def find_dialect(text: str) -> Dialect:
    """Return the dialect of that name; `smp-batch:N` has batches of N images. Raises UsageError."""
    name, colon, size = text.partition(":")
    if name not in DIALECTS:
        raise UsageError(f"--dialect: {unknown('dialect', name, DIALECTS)} Or 'all'.")
    if name != "smp-batch":
        if colon:
            raise UsageError(f"--dialect {text!r}: only smp-batch takes a batch size")
        return DIALECTS[name]
    number = size if colon else str(DEFAULT_BATCH)
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 100_000):
        raise UsageError(f"--dialect {text!r}: the batch size is a whole number from 1 to 100000, as in smp-batch:16")
    batch = int(number)
    words, score = _smp_batch_words(batch), partial(smp_batch, size=batch)
    return replace(DIALECTS[name], name=f"smp-batch:{batch}", score=score, what=words)
