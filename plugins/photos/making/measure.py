"""Measure the suite `photos` as it is shipped: `python -m deeploc_bench_plugins.photos.making.measure`.

How much each generator changes, in the mask and outside it; how sharp what it made is beside what was there; how far
place alone finds the edits, and how far a trivial model does: a logistic regression of each pixel on the local variance
and the fine detail around it, relative to the crop's, fitted to each generator and tested on all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from deeploc_bench_plugins import photos
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from tabulate import tabulate

from deeploc_bench import Sample

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

PIXELS = 150  # of each training crop
THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8)
QUANTILES = np.linspace(0, 0.9, 19)


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """Images, (N, 64, 64, 3) in levels, and masks, (N, 64, 64)."""

    images: Field
    masks: Mask


def main() -> None:
    """Print the tables."""
    datasets = {dataset.name: dataset.build() for dataset in photos.deeploc_datasets()}
    untouched = np.stack([sample.image() for sample in datasets.pop("authentic")["test"]]).astype(float)
    train = {name: read(samples["train"]) for name, samples in datasets.items()}
    test = {name: read(samples["test"]) for name, samples in datasets.items()}
    masks, tested = (next(iter(sets.values())).masks for sets in (train, test))
    print(f"masks cover {tested.mean():.3f} of the test crops; by place alone: {by_place(masks, tested):.2f}")
    print(tabulate([[name, *changes(one, untouched)] for name, one in test.items()], CHANGES, "github", floatfmt=".2f"))
    print("trivial model, fitted to (rows), tested on (columns):")
    print(tabulate([[name, *fitted(one, test)] for name, one in train.items()], ["", *test], "github", floatfmt=".2f"))


def read(samples: list[Sample]) -> Set:
    """The images and masks of samples."""
    images = np.stack([sample.image() for sample in samples]).astype(float)
    return Set(images=images, masks=np.stack([sample.mask() for sample in samples]))


def by_place(train: Mask, test: Mask) -> float:
    """The best IoU of the training masks' mean, at any threshold."""
    mean = train.mean(0)
    return max(mean_iou(np.broadcast_to(mean >= np.quantile(mean, q), test.shape), test) for q in QUANTILES)


CHANGES = ["generator", "change inside", "change outside", "changed outside", "sharpness inside / original"]


def changes(made: Set, untouched: Field) -> list[float]:
    """Mean absolute change in levels, inside and outside; the share of pixels changed outside; the ratio of detail."""
    change = np.abs(made.images - untouched).mean(3)
    sharpness = [
        (detail(image)[mask].mean() + 0.5) / (detail(original)[mask].mean() + 0.5)
        for image, original, mask in zip(made.images, untouched, made.masks, strict=True)
    ]
    outside = change[~made.masks]
    return [change[made.masks].mean(), outside.mean(), (outside > 0).mean(), float(np.median(sharpness))]


def detail(image: Field) -> Field:
    """The absolute Laplacian of the mean of the colours."""
    return np.abs(ndimage.laplace(image.mean(2)))


def fitted(train: Set, tests: dict[str, Set]) -> list[float]:
    """The IoU of the trivial model on each test set, at the best threshold for it."""
    random = np.random.default_rng(0)
    chosen = [random.integers(mask.size, size=PIXELS) for mask in train.masks]
    values = [cues(image)[which] for image, which in zip(train.images, chosen, strict=True)]
    truth = [mask.ravel()[which] for mask, which in zip(train.masks, chosen, strict=True)]
    model = LogisticRegression(max_iter=300, class_weight="balanced").fit(np.concatenate(values), np.concatenate(truth))
    return [best_iou(model, one) for one in tests.values()]


def best_iou(model: LogisticRegression, test: Set) -> float:
    """The best IoU of a model over thresholds."""
    heatmaps = np.stack([model.predict_proba(cues(image))[:, 1].reshape(image.shape[:2]) for image in test.images])
    return max(mean_iou(heatmaps > threshold, test.masks) for threshold in THRESHOLDS)


def cues(image: Field) -> Field:
    """Logarithms of local variance, detail and residual at three scales, and of a chequered trace, (pixels, 10)."""
    gray = image.mean(2)
    residual, chequered = (
        np.abs(gray - ndimage.gaussian_filter(gray, 0.7)),
        gray * np.where(np.indices(gray.shape).sum(0) % 2, 1, -1),
    )
    fields = [np.log(np.abs(ndimage.gaussian_filter(chequered, 2)) + 0.1)]
    for scale in (1.5, 3, 6):
        mean = ndimage.gaussian_filter(gray, scale)
        variance = ndimage.gaussian_filter(gray**2, scale) - mean**2
        fields.append(np.log(variance.clip(0) + 1))
        fields.append(np.log(ndimage.gaussian_filter(detail(image), scale) + 0.5))
        fields.append(np.log(ndimage.gaussian_filter(residual, scale) + 0.1))
    return np.stack([(field - np.median(field)).ravel() for field in fields], 1)


def mean_iou(found: Mask, truth: Mask) -> float:
    """The mean IoU over images."""
    return float(np.mean((found & truth).sum((1, 2)) / (found | truth).sum((1, 2))))


if __name__ == "__main__":
    main()
