"""Python gets as values what the commands print; mistakes are one exception each, told before anything is loaded."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import environment
from runs import facts_of, others, records_of, write_training

import deeploc_bench as dlb
from deeploc_bench.results.export import COLUMNS

NAMES = ("a", "b", "c")
MADE = {"standard_generators": NAMES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder whose runs folder holds two seeds of a model, and a baseline."""
    folder = tmp_path_factory.mktemp("values")
    for seed in (0, 1):
        for test in NAMES:
            ious = [0.2 + 0.1 * seed, 0.4, 0.5, 0.7]
            write_training(folder / "runs", facts_of(others(test, NAMES), seed=seed, **MADE), {test: records_of(ious)})
    facts = facts_of(kind="tested", model="floor", baseline=True, **MADE)
    write_training(folder / "runs", facts, dict.fromkeys(NAMES, records_of([0.1] * 4)))
    return folder


@pytest.fixture
def found(folder):
    return dlb.results(folder / "runs")


def test_rows_are_plain_values_and_csv_is_the_same_rounded(found):
    rows, lines = found.rows(), list(csv.DictReader(found.to_csv().splitlines()))
    assert len(rows) == len(lines) == 2 * 4 and all(tuple(row) == COLUMNS for row in rows)
    assert {type(value) for row in rows for value in row.values()} == {str, int, float, bool, type(None)}
    for row, line in zip(rows, lines, strict=True):
        for key, value in row.items():
            if isinstance(value, float):
                assert float(line[key]) == pytest.approx(value, abs=0.000501)
            else:
                assert line[key] == ("" if value is None else str(value).lower())
    mean = next(row for row in rows if row["test_generator"] is None)
    assert (mean["iou"], mean["above_best_baseline"]) == (pytest.approx(0.4625), pytest.approx(0.3625))


def test_images_are_the_records_of_every_cell(found):
    images = found.images()
    assert len(images) == sum(len(cell.records) for cell in found.cells) == 9 * 4
    first, cell = images[0], found.cells[0]
    assert [first[key] for key in ("tp", "fp", "fn", "tn")] == cell.records.counts[0, :4].tolist()
    assert (first["id"], first["source"], first["seed"], first["iou"]) == ("test-00", "test-0", 0, 0.2)
    by_cell = np.array([image["iou"] for image in images]).reshape(9, 4).mean(axis=1)
    np.testing.assert_allclose(by_cell, [score["iou"] for score in found.scores()])


def test_commands_print_what_the_functions_return_and_need_no_torch(folder):
    code = """
import sys
sys.argv = ["deeploc-bench", "results", "--json"]
import deeploc_bench.results.cells
import deeploc_bench as dlb
found, compared = dlb.results(), dlb.compare("net+jaccard", "floor")
assert "torch" not in sys.modules
from click.testing import CliRunner
from deeploc_bench.cli import cli
def printed(*words):
    return CliRunner().invoke(cli, words, catch_exceptions=False).stdout
assert printed("results") == f"{found}\\n"
assert printed("results", "--format", "csv") == found.to_csv() + "\\n"
assert printed("results", "--format", "latex", "--by", "area") == found.tables("area").to_latex() + "\\n"
assert printed("results", "--format", "csv", "--dialect", "dolos") == found.dialects("dolos").to_csv() + "\\n"
assert printed("results", "--format", "markdown") == found._repr_markdown_() + "\\n"
assert printed("compare", "net+jaccard", "floor") == f"{compared}\\n"
assert "torch" not in sys.modules
import json
print(json.dumps([json.loads(printed("results", "--json"))[0]["cells"], found.scores()]))
print(json.dumps([json.loads(printed("compare", "net+jaccard", "floor", "--json"))["rows"], compared.rows()]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for line in done.stdout.splitlines():
        printed, returned = json.loads(line.replace("NaN", "null"))
        assert len(printed) >= 4 and printed == returned


def test_the_name_results_is_the_function_whatever_was_imported(found):
    assert "deeploc_bench.results.cells" in sys.modules and callable(dlb.results)
    assert dlb.results is dlb.__getattr__("results")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"models": [object()]}, r"models: <object .* is of type object; expected a name.*plugins=\['my_model.py'\]"),
        ({"losses": [0.5]}, "losses: 0.5 is of type float; expected a name"),
        ({"seeds": [0, -1]}, "seeds: -1 is not a whole number from 0 to 2147483647"),
        ({"seeds": "0"}, "seeds: '0' is not a whole number"),
        ({"seeds": [True]}, "seeds: True is not a whole number"),
        ({"settings": ["epochs=2"]}, r"settings: \['epochs=2'\]; expected keys of the recipe and values"),
        ({"settings": {"epoch": 2}}, "unknown recipe key 'epoch'. Did you mean 'epochs'?"),
        ({"engine": "slurm"}, "unknown engine 'slurm'"),
        ({"device": "gpu"}, "device 'gpu' is not a device"),
        ({"threads": 0}, "threads: 0 is not a whole number from 1 to 1024"),
        ({"protocols": "lolo"}, "unknown protocol 'lolo'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_mistake_in_a_run_is_told_before_any_training(tmp_path, asked, told):
    with pytest.raises(dlb.DeeplocError, match=told):
        dlb.run(runs=tmp_path / "runs", **asked)
    assert not (tmp_path / "runs").exists()


def test_a_mistake_in_reading_is_told_with_what_there_is(folder, found, tmp_path):
    for mistake, told in (
        (lambda: dlb.results(tmp_path / "none"), "none: there is no such runs folder"),
        (lambda: found.tables("seeds"), "unknown view 'seeds'. Did you mean 'seed'?"),
        (lambda: found.dialects("dolo"), "unknown dialect 'dolo'"),
        (lambda: found.published("poster"), "publication 'poster' is of suite 'dolos'; the runs hold: made"),
        (lambda: dlb.compare("net", "floor", runs=folder / "runs"), "unknown method or submission 'net'"),
        (lambda: dlb.compare("net+jaccard", "floor", runs=folder / "runs", protocol="lo"), "unknown protocol 'lo'"),
    ):
        with pytest.raises(dlb.DeeplocError, match=told):
            mistake()
