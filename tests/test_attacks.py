"""Scores that are had by flooding, not by finding, are not ranked above the row that they were made from."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from boards import entry_of, with_claims

from deeploc_bench.leaderboard.ranking import rank
from deeploc_bench.leaderboard.submission import read_evidence
from deeploc_bench.results.rows import MOST_FALSE_ALARM

BOARD = Path(__file__).parents[1] / "leaderboard/submissions/photos"
HONEST = "residual-unet-0.5xdice-0.5xfocal"


@cache
def kept():
    """The values of each committed submission, its claims made again."""
    files = sorted(BOARD.glob("*.json"))
    return {file.stem: with_claims(msgspec.to_builtins(read_evidence(file))) for file in files}


@cache
def entries():
    return {name: entry_of(values) for name, values in kept().items()}


def changed(change, name="attack", untouched=False):
    """The entry of the honest row whose counts were changed, image by image, in every training and test.

    Authentic images stay as they are where they are `untouched`.

    `change` takes tp, fp, fn and pixels, and returns the new pixels predicted of the mask and outside it.
    """
    values = copy.deepcopy(kept()[HONEST]) | {"name": name}
    for training in values["trainings"]:
        for test, part in training["tests"].items():
            if untouched and test == "authentic":
                continue
            tp, fp, fn = (np.array(part[column]) for column in ("tp", "fp", "fn"))
            found, alarms = change(tp, fp, fn, np.array(values["pixels"][test]))
            part |= {"tp": found.tolist(), "fp": alarms.tolist(), "fn": (tp + fn - found).tolist()}
    return entry_of(with_claims(values))


def region(share, below, overlap=1.0):
    """Predict a fixed region of this share where less than `below` is predicted; it meets `overlap` times chance."""

    def change(tp, fp, fn, pixels):
        found = np.rint(min(1.0, overlap * share) * (tp + fn)).astype(int)
        flood = tp + fp < below * pixels
        return np.where(flood, found, tp), np.where(flood, np.rint(share * pixels).astype(int) - found, fp)

    return change


def every_so_often(share):
    """Predict the whole of this share of the images on which nothing is predicted."""

    def change(tp, fp, fn, pixels):
        flood = (tp + fp == 0) & (np.random.default_rng(0).random(len(tp)) < share)
        return np.where(flood, tp + fn, tp), np.where(flood, pixels - tp - fn, fp)

    return change


def just_below_the_limit(attack):
    """The strongest entry of an attack, of strength 0 to 1, that does not flood."""
    weak, strong = 0.0, 1.0
    for _ in range(8):
        middle = (weak + strong) / 2
        floods = changed(attack(middle)).claims.false_alarm_area > MOST_FALSE_ALARM
        weak, strong = (weak, middle) if floods else (middle, strong)
    return changed(attack(weak))


def places(*more, without=()):
    """What stands in the column of ranks of each entry, beside all that are committed."""
    standing = rank([*(entry for name, entry in entries().items() if name not in without), *more])
    return {row.entry.name: row.place for row in standing.rows}


def test_taking_the_whole_image_where_little_is_predicted_raises_the_iou_but_floods():
    attack = changed(region(1.0, 0.05))
    assert attack.claims.loo.iou > entries()[HONEST].claims.loo.iou + 0.01
    assert places(attack)["attack"] == "floods"


def test_taking_the_whole_image_on_edited_images_alone_floods_too():
    attack = changed(region(1.0, 0.05), untouched=True)
    honest = kept()[HONEST]["claims"]["loo"]["iou"]
    assert attack.claims.loo.iou > honest + 0.015 and attack.claims.false_alarm_area < 0.06
    assert places(attack)["attack"] == "floods"


def test_a_region_of_a_quarter_of_the_image_where_little_is_predicted_floods():
    assert places(changed(region(0.25, 0.05)))["attack"] == "floods"


USUAL_PLACE = 1.43
"""How much more than by chance the masks of photos meet the fifth of the image that training masks cover most."""
ATTACKS = {
    "the whole of some images where nothing is predicted": every_so_often,
    "a region where nothing is predicted": lambda share: region(share, 1e-9),
    "a region where little is predicted": lambda share: region(share, 0.05),
    "the usual place where nothing is predicted": lambda share: region(share, 1e-9, USUAL_PLACE),
    "the usual place where little is predicted": lambda share: region(share, 0.05, USUAL_PLACE),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_flooding_just_less_than_is_told_does_not_rank_above_the_honest_row(attack):
    strongest = just_below_the_limit(ATTACKS[attack])
    assert 0.8 * MOST_FALSE_ALARM < strongest.claims.false_alarm_area <= MOST_FALSE_ALARM
    found = places(strongest)
    assert int(found["attack"]) >= int(found[HONEST]), (found, strongest.claims.loo)


def test_a_flood_stays_unranked_where_it_is_the_best_by_far():
    attack = changed(lambda tp, fp, fn, pixels: (tp + fn, np.where(tp + fn == 0, pixels, 0)))  # the masks, or all
    assert attack.claims.loo.iou == 1
    assert places(attack)["attack"] == "floods"


def test_a_row_of_zeros_is_ranked_below_all_that_find():
    values = copy.deepcopy(kept()["residual-unet-dice"]) | {"name": "zeros"}
    for training in values["trainings"]:
        for part in training["tests"].values():
            part["fn"] = [tp + fn for tp, fn in zip(part["tp"], part["fn"], strict=True)]
            part["tp"] = part["fp"] = [0] * len(part["fn"])
    claims = {name: entry.claims for name, entry in entries().items()}
    # what takes more of untouched images than it finds has no lead over nothing
    useless = [name for name, one in claims.items() if one.loo.iou <= one.false_alarm_area]
    found = places(entry_of(with_claims(values)), without=useless)
    others = [place for name, place in found.items() if name != "zeros" and place.isdigit()]
    assert len(others) > 4 and int(found["zeros"]) == 1 + len(others)


def test_without_the_best_row_the_bad_ones_do_not_share_the_first_rank_with_the_good_ones():
    ordered = sorted(entries(), key=lambda name: -entries()[name].claims.loo.iou)
    found = places(without=ordered[:1])
    first = [entries()[name].claims.loo.iou for name, place in found.items() if place == "1"]
    assert 0 < max(first) - min(first) < 0.1 and min(first) > 0.25
