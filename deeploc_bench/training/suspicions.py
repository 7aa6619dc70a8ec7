"""What makes predictions look otherwise than whoever made them may think; it is told, and never mended."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.scoring.metrics import best_threshold_iou, false_alarm_area, iou
from deeploc_bench.scoring.records import Records
from deeploc_bench.training.heatmaps import FULL_SCALE, Floats, Levels

Bools = NDArray[np.bool_]
FAR = 0.2
"""An IoU that would be higher by this much is told."""
MOST_FALSE_ALARM = 0.5
"""Nothing that looks for edits takes half of an untouched image for edited."""
TURNS: Mapping[str, Callable[[Bools], Bools]] = {
    "transposed": np.transpose,
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda mask: np.rot90(mask, 2),
    "turned by 270 degrees": lambda mask: np.rot90(mask, 3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What is seen of one prediction: its highest level, and its IoU as it is and otherwise.

    `kind` is `floats`, `mask` (bool), `dark` (integers up to 1), `black and white` (of full scale), or `levels`.
    """

    kind: str
    highest: float
    is_constant: bool
    is_resized: bool
    ious: Mapping[str, float]


def glance_at(levels: Levels, heatmap: Floats, mask: Bools) -> Glance:
    """Look at what a file holds, at the heatmap made of it in the mask's size, and at the mask, both (H, W)."""
    pred_mask = heatmap > 0.5
    ious = {"inverted": _iou(heatmap < 0.5, mask), "everywhere": float(mask.mean())}
    for name, turn in TURNS.items():
        turned = turn(pred_mask)
        if turned.shape == mask.shape:
            ious[name] = _iou(turned, mask)
    return Glance(
        kind=_kind(levels),
        highest=float(heatmap.max()),
        is_constant=bool(levels.min() == levels.max()),
        is_resized=levels.shape != mask.shape,
        ious=ious,
    )


def told(glances: Sequence[Glance], records: Records) -> Iterator[str]:
    """Yield a line for all that is strange about the predictions of one test set, whose records these are."""
    resized, constant = (sum(map(is_one, glances)) for is_one in (lambda g: g.is_resized, lambda g: g.is_constant))
    if resized:
        yield f"{resized} of {len(glances)} predictions are not of their image's size, and were resized bilinearly"
    if not (records.tp + records.fn).any():
        area = false_alarm_area(records)
        if area > MOST_FALSE_ALARM:
            yield f"{area:.0%} of the untouched images is predicted as manipulated: are the heatmaps inverted?"
        return
    if constant:
        yield f"{constant} of {len(glances)} predictions are constant: one level everywhere"
    yield from _low(glances, records)


def _low(glances: Sequence[Glance], records: Records) -> Iterator[str]:
    """Yield why the IoU may be low without the predictions being bad."""
    own = iou(records)
    if not (records.tp + records.fp).any():
        highest = max(glance.highest for glance in glances)
        yield f"no pixel is predicted as manipulated: none is above 0.5, the highest is {highest:.3f}"
    means = {
        name: float(np.mean([glance.ious[name] for glance in glances]))
        for name in glances[0].ious
        if all(name in glance.ious for glance in glances)
    }
    # the inverse of an empty prediction is everything, which finds nothing
    everywhere = means.pop("everywhere")
    likely = max(means, key=lambda name: means[name])
    if means[likely] > max(own, everywhere) + FAR:
        yield (
            f"IoU {own:.3f}, but {means[likely]:.3f} if the predictions were {likely}. They are scored as they are: if "
            "that is a mistake, write them anew"
        )
        return
    best = best_threshold_iou(records)
    if best > max(own, everywhere) + FAR:
        yield f"IoU {own:.3f}, but {best:.3f} at the best threshold: scores are taken at 0.5. Are these calibrated?"


def _kind(levels: Levels) -> str:
    if levels.dtype.kind == "f":
        return "floats"
    if levels.dtype.kind == "b":
        return "mask"
    if levels.max() <= 1:
        return "dark"
    full = FULL_SCALE[levels.dtype]
    return "levels" if ((levels > 0) & (levels < full)).any() else "black and white"


def _iou(pred_mask: Bools, mask: Bools) -> float:
    union = np.count_nonzero(pred_mask | mask)
    return np.count_nonzero(pred_mask & mask) / union if union else 1.0
