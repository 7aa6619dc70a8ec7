"""Generator datasets with one mistake each: `check` says which, and what to change, before anybody trains on them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from broken_models import exit_now

from deeploc_bench.conformance.checking import check
from deeploc_bench.testing import assert_conforms, registry_of, tiny_suite

CALLS = itertools.count()
"""What a mistake may count with, so that it differs at each call."""


def changed(image=None, mask=None):
    """Return a change of a generator's samples: its images and masks through these functions."""

    def change(samples):
        return [
            replace(
                one,
                image=one.image if image is None else (lambda one=one: image(one.image())),
                mask=one.mask if mask is None else (lambda one=one: mask(one.mask())),
            )
            for one in samples
        ]

    return change


def others_masks(samples):
    return [replace(one, mask=other.mask) for one, other in zip(samples, [*samples[4:], *samples[:4]], strict=True)]


def in_another_order(samples):
    return samples if next(CALLS) % 2 else samples[::-1]


def fewer_each_time(samples):
    return samples[: len(samples) - next(CALLS) % 2]


def noisy(image):
    return image ^ np.uint8(next(CALLS) % 2)


def raising(samples):
    def fail():
        raise OSError("the disk is away")

    return [replace(samples[0], image=fail), *samples[1:]]


def exiting(samples):
    return [replace(samples[0], image=exit_now), *samples[1:]]


def twice(samples):
    return [*samples, samples[0]]


def named_after_position(samples):
    return [replace(one, source=f"source-{i}") for i, one in enumerate(samples)]


SUITES = {
    "swapped polarity": (changed(mask=np.logical_not), "edit", "inverted"),
    "shifted masks": (changed(mask=lambda mask: np.roll(mask, (6, -4), (0, 1))), "edit", "shifted"),
    "mirrored masks": (changed(mask=lambda mask: mask[:, ::-1].copy()), "edit", "mirror"),
    "masks in another order": (others_masks, "edit", "other images"),
    "blue before red": (changed(image=lambda image: image[..., ::-1].copy()), "edit", "BGR"),
    "pixels that change": (changed(image=noisy), "changing", "the pixels or the mask of"),
    "samples that come and go": (fewer_each_time, "changing", "test"),
    "another order each time": (in_another_order, "order", "order"),
    "a sample that raises": (raising, "unreadable", "OSError: the disk is away"),
    "a sample that exits": (exiting, "unreadable", "would end the program: SystemExit"),
    "one id twice": (twice, "dataset", "appears twice; ids must be unique"),
    "float images": (changed(image=lambda image: image / 255), "unreadable", "expected uint8 of shape (H, W, 3)"),
    "gray images": (changed(image=lambda image: image[..., 0].copy()), "unreadable", "expected uint8 of shape"),
    "masks of numbers": (changed(mask=lambda mask: mask * 255), "unreadable", "expected bool of shape (H, W)"),
    "masks of half the size": (changed(mask=lambda m: m[::2, ::2].copy()), "size", "64 x 64, its mask is 32 x 32"),
    "empty masks": (changed(mask=np.zeros_like), "empty", "no pixel of its mask is manipulated"),
    "images too small": (
        changed(lambda image: image[:24, :24].copy(), lambda mask: np.ones_like(mask[:24, :24])), "small", "24"
    ),
    "sources of both sides": (named_after_position, "leak", "source-0"),
    "no test images": (lambda samples: [], "split", "test"),
}  # fmt: skip
"""Mistakes in a generator dataset, the check that finds it, and words of its message."""
QUICK = ("swapped polarity", "a sample that raises", "masks of numbers")


@pytest.mark.parametrize("what", [pytest.param(w, marks=() if w in QUICK else pytest.mark.slow) for w in SUITES])
def test_a_mistake_in_a_generator_dataset_is_told_by_its_check(what):
    change, name, words = SUITES[what]
    first, *others = tiny_suite()

    def build():
        return {split: change(samples) for split, samples in first.build().items()}

    (checked,) = check(others[0], registry=registry_of(replace(first, build=build), *others))
    told = {result.check: result for result in checked.results if result.level != "ok"}
    assert name in told, checked.text
    assert any(words in str(finding) for finding in told[name].findings), checked.text
    assert not checked.is_ok or name == "order"
    assert first.name in "".join(str(finding) for finding in told[name].findings)


def test_the_tiny_suite_is_sound():
    first, *others = tiny_suite()
    assert_conforms(first, registry=registry_of(first, *others))
