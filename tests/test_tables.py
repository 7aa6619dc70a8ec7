"""Tables say what the records say: seeds are paired, what is incomplete looks so, what is apart is never averaged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from msgspec.structs import replace
from runs import QUICK, authentic_of, cell, facts_of, others, row
from scipy import stats

from deeploc_bench.data.perturb import Perturbation
from deeploc_bench.plan.facts import Testing
from deeploc_bench.results.export import cell_json
from deeploc_bench.results.rows import make_rows
from deeploc_bench.results.sections import sections
from deeploc_bench.results.tables import (
    SOURCES_ONLY,
    by_area,
    by_generator,
    by_seed,
    dialect_tables,
    score_tables,
    tables_of,
)
from deeploc_bench.scoring.dialects import find_dialect

FIRST = {"a": [0.10, 0.30], "b": [0.40, 0.60], "c": [0.60, 0.60], "d": [0.80, 1.00]}
SECOND = {"a": [0.30, 0.50], "b": [0.40, 0.40], "c": [0.40, 0.80], "d": [1.00, 1.00]}
FLOOR = {"a": [0.10, 0.10], "b": [0.20, 0.20], "c": [0.30, 0.30], "d": [0.20, 0.20]}
UNTRAINED = {"kind": "tested", "baseline": True, "model": "floor"}


def title(table):
    """Return the caption of a table without what it says of its intervals."""
    return table.caption.partition("\n")[0]


def column(table, header):
    """Return a column of a table by its line: the generators trained on, then the one tested on."""
    place = table.headers.index(header)
    return {line[:2]: line[place] for line in table.lines}


def held_out(table, header="IoU"):
    return {test or train: value for (train, test), value in column(table, header).items()}


@pytest.mark.parametrize("protocol", ["loo", "cross"])
def test_tables_say_of_which_generators_the_masks_are_only_where_edits_were_asked_for(protocol):
    made = [cell("a", [0.1, 0.3], protocol=protocol, regenerated=("a", "b"))]
    note = "a: masks say where the edit was asked for; other pixels changed, too"
    for table in (*score_tables(made), *by_generator(made)):
        assert note in table.notes
    assert note not in score_tables([cell("a", [0.1, 0.3])])[0].notes


def test_a_row_says_what_was_left_out_and_its_mean_is_over_the_generators():
    (table,) = score_tables(row(FIRST))
    assert title(table) == "loo · made · net + jaccard · quick · seed 0"
    assert column(table, "IoU") == {
        ("w/o a", "a"): "0.200",
        ("w/o b", "b"): "0.500",
        ("w/o c", "c"): "0.600",
        ("w/o d", "d"): "0.900",
        ("mean", ""): "0.550",
    }


def test_seeds_are_averaged_image_by_image_and_paired_by_number():
    (table,) = score_tables([*row(SECOND, seed=7), *row(FIRST, seed=3)])
    assert title(table).endswith(" · seeds 3, 7")
    assert held_out(table) == {"a": "0.300", "b": "0.450", "c": "0.600", "d": "0.950", "mean": "0.575"}
    # of each seed: a .2 .4, b .5 .4, c .6 .6, d .9 1, mean .55 .6
    assert held_out(table, "sd over seeds") == {"a": "0.141", "b": "0.071", "c": "0.000", "d": "0.071", "mean": "0.035"}


def test_only_seeds_that_every_cell_has_are_averaged():
    lacking = [cell for cell in row(SECOND, seed=1) if cell.pair.test_generator != "c"]
    (table,) = score_tables([*row(FIRST, seed=0), *lacking])
    assert title(table).endswith(" · seed 0 (incomplete, left out: 1)")
    assert held_out(table) == {"a": "0.200", "b": "0.500", "c": "0.600", "d": "0.900", "mean": "0.550"}


def test_seeds_of_equal_count_but_other_numbers_are_not_paired():
    mixed = [cell for cell in row(FIRST, seed=0) if cell.pair.test_generator != "a"]
    mixed += [cell for cell in row(SECOND, seed=1) if cell.pair.test_generator == "a"]
    (table,) = score_tables(mixed)
    assert held_out(table)["mean"] == "3 of 4"


def test_a_missing_cell_is_a_dash_and_the_mean_says_how_many_there_are():
    (table,) = score_tables(row({test: FIRST[test] for test in "abd"}))
    assert held_out(table) == {"a": "0.200", "b": "0.500", "c": "-", "d": "0.900", "mean": "3 of 4"}
    assert column(table, "95 % interval (1 sources)")[("w/o c", "c")] == "-"
    assert make_rows(row({test: FIRST[test] for test in "abd"})).mean.score is None


def test_a_baseline_stands_beside_each_pair_and_its_mean_covers_the_same_generators():
    extra = cell("x", [0.0, 0.1], train=others("a"), extra=("x",))
    floor_extra = cell("x", [1.0, 1.0], train=others("a"), extra=("x",), **UNTRAINED)
    (table,) = score_tables([*row(FIRST, extra=("x",)), extra, *row(FLOOR, **UNTRAINED, extra=("x",)), floor_extra])
    floors = column(table, "floor")
    assert [floors[(f"w/o {test}", test)] for test in "abcd"] == ["0.100", "0.200", "0.300", "0.200"]
    assert floors[("mean", "")] == "0.200" and floors[("w/o a", "x")] == "1.000"
    assert column(table, "IoU")[("mean", "")] == "0.550"


def test_a_baseline_that_lacks_a_cell_has_no_mean():
    (table,) = score_tables([*row(FIRST), *row({"a": FLOOR["a"], "b": FLOOR["b"]}, **UNTRAINED)])
    assert held_out(table, "floor") == {"a": "0.100", "b": "0.200", "c": "-", "d": "-", "mean": "2 of 4"}


def test_two_codes_of_a_baseline_are_two_columns_and_never_one():
    old = row({"a": FLOOR["a"], "b": FLOOR["b"]}, **UNTRAINED, source="old")
    new = row({"c": FLOOR["c"], "d": FLOOR["d"]}, **UNTRAINED, source="new")
    (table,) = score_tables([*row(FIRST), *old, *new])
    columns = [header for header in table.headers if header.startswith("floor")]
    assert columns == [f"floor {cells[0].facts.experiment[:8]}" for cells in (old, new)]
    assert [held_out(table, header)["mean"] for header in columns] == ["2 of 4", "2 of 4"]


def test_of_two_precisions_the_baseline_of_the_rows_own_stands_beside_it():
    own, other = (row(FLOOR, **UNTRAINED, testing=Testing(weights="none", precision=p)) for p in ("fp32", "fp16"))
    (table,) = score_tables([*row(FIRST), *own, *other])
    assert [header for header in table.headers if header.startswith("floor")] == ["floor"]


def test_what_belongs_to_no_protocol_is_apart_by_what_it_was_trained_on_and_its_mean_over_all():
    scored = {"kind": "scored", "model": "closed", "protocol": "score"}
    one = [cell(test, FIRST[test], train=(), **scored) for test in ("a", "b")]
    two = [
        cell("a", SECOND["a"], train=("b", "c"), facts=facts_of(("b", "c"), kind="scored", model="closed"), **scored)
    ]
    first, second = score_tables([*one, *two])
    assert held_out(first) == {"a": "0.200", "b": "0.500", "c": "-", "d": "-", "mean": "2 of 4"}
    assert held_out(second) == {"a": "0.400", "b": "-", "c": "-", "d": "-", "mean": "1 of 4"}
    assert "trained on b+c" in second.caption and "trained on" not in first.caption


def test_baselines_stand_alone_where_nothing_else_was_tested():
    (table,) = score_tables(row(FLOOR, **UNTRAINED))
    assert title(table) == "loo · made · floor · never trained · seed 0"
    assert held_out(table)["mean"] == "0.200" and "floor" not in table.headers


APART = {
    "code": {"source": "edited"},
    "recipe": {"recipe": replace(QUICK, lr=0.001)},
    "weights file": {"recipe": replace(QUICK, weights="file"), "weights": "1" * 64},
    "data": {"data": "other"},
}


@pytest.mark.parametrize("changes", APART.values(), ids=APART)
def test_what_differs_in_more_than_the_seed_is_another_experiment(changes):
    one, other = score_tables([*row(FIRST, seed=0), *row(SECOND, seed=1, **changes)])
    means = {title(table).rpartition("seed ")[2]: held_out(table)["mean"] for table in (one, other)}
    assert means == {"0": "0.550", "1": "0.600"}
    assert "sd over seeds" not in one.headers + other.headers
    assert title(one).replace("seed 0", "") != title(other).replace("seed 1", "")


def test_two_weights_files_are_two_experiments_told_apart_by_their_hash():
    files = [row(FIRST, recipe=replace(QUICK, weights="file"), weights=digit * 64) for digit in "12"]
    tables = score_tables([cell for cells in files for cell in cells])
    assert sorted(title(table) for table in tables) == sorted(
        f"loo · made · net + jaccard · quick, weights=file · experiment {cells[0].facts.experiment[:8]} · seed 0"
        for cells in files
    )


def test_recipes_of_one_content_are_one_recipe_whatever_they_are_called():
    (table,) = score_tables([*row(FIRST, seed=0), *row(SECOND, seed=1, recipe=replace(QUICK, name="mine"))])
    assert held_out(table)["mean"] == "0.575"


def changed_between_seeds():
    """Two seeds of a method, the second tested on other images of the test-only generator x."""
    cells = [*row(FIRST, seed=0, extra=("x",)), *row(SECOND, seed=1, extra=("x",))]
    for seed, count in ((0, 4), (1, 6)):
        about = {"extra": ("x",), "test_data": {"x": f"{seed}" * 32}}
        cells.append(cell("x", [0.5] * count, train=others("a"), seed=seed, **about))
    return cells


def test_seeds_tested_on_different_data_of_a_test_only_generator_are_not_one_row():
    cells = changed_between_seeds()
    (table,) = score_tables(cells)
    assert column(table, "IoU")[("w/o a", "x")] == "-" and held_out(table)["mean"] == "0.575"


def test_a_detector_that_is_only_tested_has_a_table_of_its_own():
    detector = {"kind": "tested", "model": "detector"}
    own, trained = score_tables([*row(SECOND, **detector), *row(FIRST), *row(FLOOR, **UNTRAINED)])
    assert title(own) == "loo · made · detector · trained elsewhere: not declared · seed 0"
    ious = {("not declared", name): iou for name, iou in (("a", "0.400"), ("b", "0.400"), ("c", "0.600"))}
    assert column(own, "IoU") == ious | {("not declared", "d"): "1.000", ("mean", ""): "0.600"}
    assert column(own, "floor")["mean", ""] == held_out(trained, "floor")["mean"] == "0.200"
    assert "detector" not in trained.headers


def test_what_a_detector_was_trained_on_is_seen_whatever_stands_beside_it():
    facts = facts_of(kind="tested", trained_on=("b", "method-x"), methods={"x": "method-x"}, extra=("x",))
    cells = row(FIRST, facts=facts) + [cell("x", [0.5] * 4, train=others(test), facts=facts) for test in "ab"]
    (table,) = score_tables(cells)
    assert [line[:2] for line in table.lines] == [
        ("b+method-x", "a"),
        ("b+method-x", "b (seen)"),
        ("b+method-x", "c"),
        ("b+method-x", "d"),
        ("mean", ""),
        ("b+method-x", "x (seen)"),
    ]
    found = {one["test_generator"]: (one["train_generators"], one["seen"]) for one in map(cell_json, cells)}
    assert found["a"] == (["b", "method-x"], False) and found["b"][1] is found["x"][1] is True


def test_a_detector_that_declares_nothing_claims_nothing():
    facts = facts_of(kind="tested")
    assert [cell_json(one)["seen"] for one in row(FIRST, facts=facts)] == [None] * 4
    (matrix,) = score_tables(
        [cell(b, [0.5], train=(a,), protocol="cross", facts=facts) for a in "abcd" for b in "abcd"]
    )
    assert matrix.lines == (("not declared", "0.500", "0.500", "0.500", "0.500"),)


def test_predictions_made_elsewhere_on_unknown_generators_have_a_table_without_claims():
    facts = facts_of(kind="scored", model="closed")
    (table,) = score_tables([cell("a", [0.2, 0.4], train=(), protocol="score", facts=facts)])
    assert title(table) == "score · made · closed · made elsewhere · seed 0"
    assert table.lines[0][:3] == ("not declared", "a", "0.300")


def test_a_generator_called_gap_or_mean_keeps_its_numbers():
    names = ("gap", "mean", "iou")
    cells = row({"gap": [0.1], "mean": [0.2], "iou": [0.6]}, standard_generators=names)
    (table,) = score_tables(cells)
    assert [line[:3] for line in table.lines] == [
        ("w/o gap", "gap", "0.100"),
        ("w/o mean", "mean", "0.200"),
        ("w/o iou", "iou", "0.600"),
        ("mean", "", "0.300"),
    ]


def test_a_perturbed_column_is_over_the_seeds_of_the_one_beside_it():
    blurred = {"perturbation": Perturbation(kind="blur", value=2)}
    clean = [*row(FIRST, seed=0), *row(SECOND, seed=1)]
    (table,) = score_tables([*clean, *row(FLOOR, seed=0, **blurred)])
    assert set(held_out(table, "blur-2").values()) == {"-", "0 of 4"}
    (table,) = score_tables([*clean, *row(FLOOR, seed=0, **blurred), *row(FLOOR, seed=1, **blurred)])
    assert held_out(table, "blur-2") == {"a": "0.100", "b": "0.200", "c": "0.300", "d": "0.200", "mean": "0.200"}


def test_a_table_of_perturbed_records_alone_says_so():
    (table,) = score_tables(row(FIRST, perturbation=Perturbation(kind="blur", value=2)))
    assert title(table) == "loo · made · net + jaccard · quick · seed 0 · blur-2"
    assert held_out(table)["mean"] == "0.550" and "blur-2" not in table.headers


def test_a_matrix_has_a_dash_where_nothing_was_tested():
    names = ("a", "b")
    ious = {("a", "a"): 0.9, ("a", "b"): 0.4, ("b", "b"): 0.8}
    cells = [
        cell(test, [iou], train=(train,), protocol="cross", standard_generators=names)
        for (train, test), iou in ious.items()
    ]
    (table,) = score_tables(cells)
    assert table.headers == ("train on \\ test on", "a", "b")
    assert table.lines == (("a", "0.900", "0.400"), ("b", "-", "0.800"))


def test_the_false_alarm_area_is_a_mean_over_seeds_and_over_the_trainings_of_a_row():
    cells = [
        cell(test, FIRST[test], seed=seed, authentic=authentic_of([alarm + 0.1 * seed, alarm + 0.1 * seed]))
        for seed in (0, 1)
        for test, alarm in zip("abcd", (0.1, 0.2, 0.3, 0.8), strict=True)
    ]
    (table,) = score_tables(cells)
    found = held_out(table, "false alarm area")
    assert found == {"a": "0.150", "b": "0.250", "c": "0.350", "d": "0.850", "mean": "0.400"}


def test_a_section_holds_the_cells_that_its_tables_are_made_of():
    one, other = row(FIRST), row(SECOND, recipe=replace(QUICK, lr=0.001))
    found = sections([*one, *other, *row(FLOOR, **UNTRAINED)])
    assert [section.name for section in found] == [
        "loo · made · net + jaccard · quick",
        "loo · made · net + jaccard · quick, lr=0.001",
    ]
    assert [section.cells for section in found] == [tuple(one), tuple(other)]
    assert [table for section in found for table in tables_of(section)] == score_tables(
        [*one, *other, *row(FLOOR, **UNTRAINED)]
    )


def test_a_dialect_that_counts_authentic_images_has_a_column_with_and_one_without():
    cells = [cell("a", [0.25, 0.75], authentic=authentic_of([0.0, 0.5])), cell("b", [0.5])]
    (table,) = dialect_tables(cells, [find_dialect("dolos"), find_dialect("smp-imagewise")])
    assert table.headers[5:] == ("iou", "dolos", "smp-imagewise", "smp-imagewise + authentic")
    assert [line[1:] for line in table.lines] == [
        ("net + jaccard", "0", "b+c+d", "a", "0.500", "0.500", "0.500", "0.500"),
        ("net + jaccard", "0", "a+c+d", "b", "0.500", "0.500", "0.500", "-"),
    ]


def test_a_row_is_held_against_the_best_baseline_of_its_pair_and_one_below_it_has_a_star():
    other = {"a": [0.0, 0.0], "b": [0.0, 0.0], "c": [0.9, 0.9], "d": [0.0, 0.0]}
    (table,) = score_tables([*row(FIRST), *row(FLOOR, **UNTRAINED), *row(other, **UNTRAINED | {"model": "other"})])
    found = held_out(table, "above best baseline")
    assert {name: text.partition(",")[0] for name, text in found.items()} == {
        "a": "+0.100",
        "b": "+0.300",
        "c": "-0.300",
        "d": "+0.700",
        "mean": "+0.325",  # of the two baselines' means, .2 and .225
    }
    assert held_out(table)["c"] == "0.600*" and "*" not in held_out(table)["mean"]
    assert table.notes == ("* below the best baseline of the line",)


def test_a_baseline_of_other_images_is_shown_and_not_compared_with():
    floor = row({test: [0.1, 0.2, 0.3] for test in "abcd"}, **UNTRAINED)
    (table,) = score_tables([*row(FIRST), *floor])
    assert set(held_out(table, "above best baseline").values()) == {"-"}
    assert held_out(table, "floor")["a"] == "0.200"


FOUR = {test: [0.2, 0.4, 0.6, 0.8] for test in "abcd"}
WIDE = {test: [0.4, 0.5, 0.6] * 4 for test in "abcd"}
HIGHER = {test: [0.41, 0.51, 0.61] * 4 for test in "abcd"}


def test_where_nobody_has_several_seeds_the_header_says_what_intervals_lack():
    (table,) = score_tables(row(FOUR))
    assert table.caption.endswith("\n" + SOURCES_ONLY) and table.headers[3] == "95 % interval (2 sources)"
    detector = score_tables(row(FOUR, kind="tested", model="detector"))[0]
    assert SOURCES_ONLY not in detector.caption  # it has no seed


def test_the_variance_between_seeds_of_one_row_widens_the_intervals_of_all_beside_it():
    slow = row(WIDE, recipe=replace(QUICK, lr=0.001))
    (alone,) = score_tables(slow)
    fast, beside = score_tables([*row(WIDE, seed=0), *row(HIGHER, seed=1), *slow])
    assert SOURCES_ONLY not in beside.caption and beside.headers[3] == "95 % interval (6 sources and seeds)"
    widths = []
    for table in (alone, beside):
        low, high = column(table, table.headers[3])["mean", ""].split(" to ")
        widths.append(float(high) - float(low))
    assert held_out(alone)["mean"] == held_out(beside)["mean"] == "0.500" and widths[1] > widths[0] > 0
    assert held_out(fast)["mean"] == "0.505"


def test_a_row_that_floods_makes_no_other_row_look_surer():
    untouched = authentic_of([1.0] * 4)
    flood = [
        cell(test, [0.2] * 12, model="flood", seed=seed, authentic=untouched) for test in "abcd" for seed in (0, 1)
    ]
    tables = score_tables([*row(WIDE), *flood])
    by_model = {title(table).split(" · ")[2]: table for table in tables}
    assert by_model["net + jaccard"].caption.endswith(SOURCES_ONLY)
    assert by_model["flood + jaccard"].headers[3] == "95 % interval (6 sources and seeds)"  # its own


def test_a_test_only_generator_of_a_method_that_was_trained_on_is_called_seen():
    about = {"extra": ("x",), "methods": {"x": "b"}}
    cells = [cell("x", [0.5], train=others(test), **about) for test in "abcd"]
    (table,) = score_tables([*row(FIRST, **about), *cells])
    shown = [line[:2] for line in table.lines if line[1].startswith("x")]
    assert shown == [("w/o a", "x (seen)"), ("w/o b", "x"), ("w/o c", "x (seen)"), ("w/o d", "x (seen)")]
    assert [cell_json(one)["seen"] for one in cells] == [True, False, True, True]


def test_by_generator_has_a_line_a_method_and_its_baselines():
    cells = [*row(FIRST), *row(SECOND, recipe=replace(QUICK, lr=0.001)), *row(FLOOR, **UNTRAINED)]
    (table,) = by_generator(cells)
    assert table.headers == ("model + loss", "recipe", "seeds", "a", "b", "c", "d", "mean")
    assert table.lines == (
        ("net + jaccard", "quick", "0", "0.200", "0.500", "0.600", "0.900", "0.550"),
        ("net + jaccard", "quick, lr=0.001", "0", "0.400", "0.400", "0.600", "1.000", "0.600"),
        ("floor", "-", "-", "0.100", "0.200", "0.300", "0.200", "0.200"),
    )


def test_by_seed_has_a_column_a_seed():
    (table,) = by_seed([*row(FIRST, seed=3), *row(SECOND, seed=7)])
    assert table.headers == ("train on", "test on", "seed 3", "seed 7", "IoU", "sd over seeds")
    assert table.lines[0] == ("w/o a", "a", "0.200", "0.400", "0.300", "0.141")
    assert table.lines[-1] == ("mean", "", "0.550", "0.600", "0.575", "0.035")


def with_areas(one, areas):
    """Return a cell whose masks have these areas out of 1,000 pixels, half of each found and nothing else."""
    tp = np.array(areas) // 2
    none = 0 * tp
    counts = np.stack([tp, none, np.array(areas) - tp, 1000 - np.array(areas), none, none], axis=1)
    return dataclasses.replace(one, records=dataclasses.replace(one.records, counts=counts, histograms=None))


def test_what_has_no_mean_has_none_by_area_either_and_each_seed_that_there_is_by_seed():
    cells = [cell("a", [0.2, 0.4], seed=0), *(cell(test, [0.5, 0.5], seed=1) for test in "bcd")]
    (areas,), (seeds,) = by_area(cells), by_seed(cells)
    assert areas.lines[-1] == ("mean", "", "-", "0", "-", "0", "-", "0")
    assert [line[2:5] for line in seeds.lines] == [
        ("0.300", "-", "0.300"),
        *[("-", "0.500", "0.500")] * 3,
        ("-", "-", "3 of 4"),
    ]


def test_a_test_only_generator_whose_images_changed_between_seeds_has_no_iou_by_area():
    cells = changed_between_seeds()
    (table,) = by_area(cells)
    assert next(line for line in table.lines if line[1] == "x")[2:] == ("-", "0") * 3


def test_predictions_made_elsewhere_are_of_one_seed_and_their_intervals_say_so():
    facts = facts_of(kind="scored", model="closed")
    (table,) = score_tables([cell("a", [0.2, 0.4, 0.1, 0.3], train=(), protocol="score", facts=facts)])
    assert table.caption.endswith(SOURCES_ONLY)


def test_by_area_has_the_iou_of_small_middle_and_large_masks():
    cells = [with_areas(one, [98, 100, 300, 302]) for one in row(FOUR)]
    (table,) = by_area(cells)
    assert table.headers[2:] == ("under 10 %", "images", "10 to 30 %", "images", "over 30 %", "images")
    assert table.lines[0] == ("w/o a", "a", "0.500", "1", "0.500", "2", "0.500", "1")
    assert table.lines[-1] == ("mean", "", "0.500", "4", "0.500", "8", "0.500", "4")
    (table,) = by_area([with_areas(one, [50, 60, 70, 80]) for one in row(FOUR)])
    assert table.lines[0] == ("w/o a", "a", "0.500", "4", "-", "0", "-", "0")


def test_the_interval_of_a_cell_as_json_is_over_its_sources():
    found = cell_json(row(WIDE)[0])
    means = np.reshape(WIDE["a"], (6, 2)).mean(axis=1)
    assert found["interval"] == pytest.approx(stats.t.interval(0.95, 5, means.mean(), stats.sem(means)))
    assert (found["iou"], found["sources"], found["image_auc"], found["seen"]) == (pytest.approx(0.5), 6, None, False)
