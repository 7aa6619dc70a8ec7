"""`deeploc-bench results`: several folders are one, seen by area, generator or seed, in every format."""

from __future__ import annotations

import csv
import dataclasses
import json

import pytest
from msgspec.structs import replace
from runs import QUICK, facts_of, others, records_of, write_training

from deeploc_bench.results.cells import read_cells

NAMES = ("a", "b", "c")
FLOOR = records_of([0.1] * 4)
MADE = {"standard_generators": NAMES}


def held_out(runs, seed, names=NAMES, shift=0.0, **changes):
    for test in names:
        facts = facts_of(others(test, NAMES), seed=seed, **MADE, **changes)
        write_training(runs, facts, {test: records_of([0.2 + shift, 0.4, 0.5, 0.7])})


def test_several_runs_folders_are_read_as_one(deeploc, tmp_path):
    held_out(tmp_path / "one", 0)
    held_out(tmp_path / "two", 1, shift=0.2)
    done = deeploc("results", "one", "two")
    assert done.returncode == 0, done.stderr
    assert "seeds 0, 1" in done.stdout.splitlines()[0]
    assert "| mean       |           | 0.475 " in done.stdout


def test_a_training_that_lies_in_two_folders_counts_once_with_all_that_it_was_tested_on(tmp_path):
    facts = facts_of(others("a", NAMES), extra=("x",), **MADE)
    write_training(tmp_path / "one", facts, {"a": records_of([0.2])})
    write_training(tmp_path / "two", facts, {"a": records_of([0.2]), "x": records_of([0.4])})
    cells = read_cells(tmp_path / "one", tmp_path / "two")
    found = [(cell.pair.test_generator, cell.records.tp.tolist()) for cell in cells]
    assert found == [("a", [20]), ("x", [40])]


def test_a_cell_that_one_folder_lacks_is_made_up_for_by_the_other(deeploc, tmp_path):
    held_out(tmp_path / "one", 0, names=("a",))
    held_out(tmp_path / "two", 0, names=("b", "c"))
    assert "1 of 3" in deeploc("results", "one").stdout
    assert "of 3" not in deeploc("results", "one", "two").stdout


def test_a_folder_that_is_not_there_is_named(deeploc, tmp_path):
    held_out(tmp_path / "one", 0)
    done = deeploc("results", "one", "two")
    assert (done.returncode, "two: there is no such runs folder" in done.stderr, done.stdout) == (2, True, "")


@pytest.fixture
def runs(tmp_path):
    held_out(tmp_path / "runs", 0)
    held_out(tmp_path / "runs", 1, shift=0.2)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("by", "header"),
    [
        ("area", "| train on   | test on   | under 10 %   | images   | 10 to 30 %   |"),
        ("generator", "| model + loss   | recipe   | seeds   | a     | b     | c     | mean   |"),
        ("seed", "| train on   | test on   | seed 0   | seed 1   | IoU   | sd over seeds   |"),
    ],
)
def test_results_are_seen_by_area_generator_or_seed(deeploc, runs, by, header):
    done = deeploc("results", "--by", by)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith(header) for line in done.stdout.splitlines())


def test_csv_is_read_by_any_reader_and_says_what_text_says(deeploc, runs):
    held_out(runs, 0, recipe=replace(QUICK, lr=0.001))
    write_training(runs, facts_of(kind="tested", model="floor", baseline=True, **MADE), dict.fromkeys(NAMES, FLOOR))
    lines = list(csv.DictReader(deeploc("results", "--format", "csv").stdout.splitlines()))
    assert len(lines) == 3 * 4 and all(None not in line and None not in line.values() for line in lines)
    means = {(line["model"], line["recipe"]): line for line in lines if not line["test_generator"]}
    mean = means["net", "quick"]
    assert (mean["protocol"], mean["seeds"], mean["iou"], mean["covers"]) == (
        "loo",
        "0 1",
        "0.475",
        "sources and seeds",
    )
    assert float(mean["low"]) < 0.475 < float(mean["high"])
    assert (mean["above_best_baseline"], means["floor", "never trained"]["above_low"]) == ("0.375", "")


def test_csv_of_several_kinds_of_tables_is_refused(deeploc, runs):
    done = deeploc("results", "--format", "csv", "--by", "seed", "--dialect", "all")
    assert (done.returncode, "one kind of table" in done.stderr) == (2, True)
    for flags in (["--json", "--by", "area"], ["--format", "json", "--by", "area"], ["--json", "--format", "csv"]):
        done = deeploc("results", *flags)
        assert (done.returncode, "prints cells; leave --by" in done.stderr) == (2, True)


def test_one_training_with_other_records_in_each_folder_is_told(deeploc, tmp_path):
    facts = facts_of(others("a", NAMES), **MADE)
    for folder, iou in (("one", 0.2), ("two", 0.9)):
        records = records_of([iou])
        if iou > 0.5:
            records = dataclasses.replace(records, preds=("f" * 16,))
        write_training(tmp_path / folder, facts, {"a": records})
    done = deeploc("results", "one", "two")
    assert (done.returncode, "hold one training with different records of a" in done.stderr) == (2, True)


def test_markdown_and_latex_hold_the_same_numbers(deeploc, runs):
    page, latex = (deeploc("results", "--format", form).stdout for form in ("markdown", "latex"))
    assert page.startswith("loo · made · net + jaccard") and "| mean       |           | 0.475 |" in page
    assert "\\begin{tabular}" in latex and "0.475" in latex and "95 \\% interval" in latex


def test_json_as_a_format_is_the_flag(deeploc, runs):
    one, other = (deeploc("results", *flags).stdout for flags in (["--format", "json"], ["--json"]))
    assert one == other and len(json.loads(one)[0]["cells"]) == 6


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--by", "seeds"], "--by: unknown view 'seeds'. Did you mean 'seed'? Known: area, generator, seed."),
        (["--format", "tex"], "--format: unknown format 'tex'. Did you mean 'text'?"),
    ],
)
def test_a_view_or_a_format_of_nobody_is_answered_with_those_there_are(deeploc, runs, flags, words):
    done = deeploc("results", *flags)
    assert (done.returncode, words in done.stderr) == (2, True)


def test_two_recipes_are_two_lines_by_generator(deeploc, runs):
    held_out(runs, 0, recipe=replace(QUICK, lr=0.001), shift=0.1)
    lines = [line for line in deeploc("results", "--by", "generator").stdout.splitlines() if "net + jaccard" in line]
    assert sorted(line.split("|")[2].strip() for line in lines) == ["quick", "quick, lr=0.001"]
