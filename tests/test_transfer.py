"""A finished training is tested on another suite: what is written and shown of it, and what leaks into it."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from breaking import PLUGINS, break_everywhere, training_in
from conftest import printed_json, records_of, run_deeploc
from runs import cell, edit, facts_of, hash_of, write_training
from runs import records_of as made_records
from safetensors.numpy import load_file, save

import deeploc_bench as dlb
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import TestedSuite
from deeploc_bench.results.sections import sections
from deeploc_bench.results.transfers import transfer_tables

OTHER = ["--plugin", PLUGINS[1].with_name("other.py"), *PLUGINS, "--suite", "other"]
LEAK = '''"""The suite `leak`: one image of `tiny` that was validated on is among its test images."""
import sys
from dataclasses import replace

sys.path.append({tests!r})
import tiny

from deeploc_bench import hookimpl

def build():
    stolen = list(tiny.samples("valid", -1))[2]
    return tiny.build(1)() | {"test": [replace(stolen, id="new-name", source="new-source")]}

@hookimpl
def deeploc_datasets():
    return [replace(tiny.deeploc_datasets()[0], name="found", suite="leak", build=build)]
'''


@pytest.fixture(scope="module")
def tested(finished_runs, tmp_path_factory):
    """Return a folder in which the trainings of `tiny` were tested on `other`, and what that printed."""
    folder = shutil.copytree(finished_runs, tmp_path_factory.mktemp("transfer") / "tested")
    return folder, printed_json(run_deeploc(folder, "test", "runs/tiny/small+jaccard", *OTHER, "--json"))


@pytest.fixture
def copied(finished_runs, tmp_path):
    """Return a copy of the finished trainings in an empty folder."""
    shutil.copytree(finished_runs / "runs", tmp_path / "runs")
    return tmp_path


def test_every_training_is_tested_on_each_generator_of_the_other_suite_beside_its_baselines(tested):
    _, printed = tested
    cells = [cell for cell in printed["cells"] if cell["loss"]]
    assert (printed["suite"], printed["trained"], printed["reused"], printed["failed"]) == ("other", 0, 4, [])
    asked = {(cell["train_generators"][0], cell["test_generator"], cell["seed"]) for cell in cells}
    assert asked == {(t, g, s) for t in ("bright", "dark") for g in ("dark", "stripes") for s in (0, 1)}
    assert {(c["protocol"], c["test_suite"], c["images"], c["sources"]) for c in cells} == {("transfer", "other", 6, 3)}
    assert all(cell["false_alarm_area"] is not None for cell in cells)
    beside = [cell for cell in printed["cells"] if not cell["loss"]]
    assert {cell["model"] for cell in beside} == {"all-manipulated", "local-noise", "position-prior"}
    assert len(beside) == 3 * 2 * 2


def test_a_generator_of_the_other_suite_that_was_trained_on_is_marked_as_seen(tested):
    folder, printed = tested
    seen = {(c["train_generators"][0], c["test_generator"]) for c in printed["cells"] if c["seen"]}
    assert seen == {("dark", "dark")}
    shown = run_deeploc(folder, "results").stdout
    matrix = shown[shown.index("transfer · from tiny") :].splitlines()
    assert "dark (seen)" in shown
    assert [line.count("(seen)") for line in matrix[3:5]] == [0, 1] and matrix[4].startswith("| tiny/dark")


def test_results_show_a_table_of_each_training_set_and_a_matrix_of_all(tested):
    folder, _ = tested
    lines = run_deeploc(folder, "results").stdout.splitlines()
    start = lines.index(next(line for line in lines if line.startswith("transfer · from tiny")))
    cells = [[field.strip() for field in line.strip("|").split("|")] for line in lines[start + 1 : start + 5]]
    assert cells[0] == ["train on \\ test on", "other/dark", "other/stripes", "other/mean"]
    assert [line[0] for line in cells[2:]] == ["tiny/bright", "tiny/dark"]
    ious = [float(field.rstrip("*")) for field in cells[2][1:]]
    assert ious[2] == pytest.approx(sum(ious[:2]) / 2, abs=0.0011)
    assert any(line.startswith("transfer · tiny to other · small + jaccard") for line in lines)


def test_what_was_tested_on_other_images_has_a_column_and_baselines_of_its_own():
    def tested_on(data, train, kind="trained"):
        about = TestedSuite(fingerprint=hash_of(data), test_data={"x": hash_of(data)}, standard_generators=("x",))
        facts = facts_of((train,), kind=kind, baseline=kind == "fitted", transfers={"there": about})
        made = cell("x", [0.5] * 4, train=(train,), protocol="transfer", facts=facts)
        return dataclasses.replace(made, transferred="there")

    old, new = tested_on("old", "a"), tested_on("new", "b")
    (matrix,) = transfer_tables([old, new])
    assert matrix.headers[1:] == tuple(f"there/x (data {hash_of(data)[:8]})" for data in ("old", "new"))
    assert [line[1:] for line in matrix.lines] == [("0.500", "-"), ("-", "0.500")]
    assert [len(sections([old, tested_on(data, "a", "fitted")])[0].baselines) for data in ("old", "new")] == [1, 0]


def test_what_was_regenerated_in_the_other_suite_is_told_below_its_tables_and_cited(tested):
    folder, _ = tested
    own, transferred = run_deeploc(folder, "results").stdout.split("transfer · ", 1)
    tables = ["transfer · " + table for table in transferred.split("transfer · ")]
    assert "asked for" not in own
    assert len(tables) == 3 and all("\nstripes: masks say where the edit was asked for" in table for table in tables)
    facts = json.loads((training_in(folder) / "training.json").read_text())
    assert facts["references"]["generator other/stripes"] == "https://example.org/stripes"
    assert facts["references"]["loss jaccard"]


def test_the_tables_of_the_own_suite_are_those_of_before(tested, finished_runs):
    before, after = (run_deeploc(folder, "results").stdout for folder in (finished_runs, tested[0]))
    assert after.startswith(before.rstrip())


def test_the_report_has_the_matrix_and_the_examples_of_the_other_suite(tested):
    folder, _ = tested
    assert run_deeploc(folder, "report").returncode == 0
    page = (folder / "report.html").read_text()
    assert "Trained on tiny, tested on other suites" in page and '<th scope="row">tiny/dark</th>' in page
    assert "other/stripes · test-" in page


def test_a_submission_holds_the_tests_on_another_suite_and_the_page_shows_them(tested):
    folder, _ = tested
    submit = [
        "submit",
        "small+jaccard",
        "--suite",
        "tiny",
        "--contact",
        "me",
        "--name",
        "beyond",
        "--transfer",
        "other",
    ]
    refused = run_deeploc(folder, *submit)
    assert refused.returncode == 2 and "transfer to other: suite 'other' has no manifest" in refused.stderr
    manifest = run_deeploc(folder, "data", "manifest", *OTHER[:-2], "other").stdout
    (folder / "leaderboard/suites/other.json").write_text(manifest)
    done = run_deeploc(folder, *submit)
    assert done.returncode == 0, done.stderr
    file = "leaderboard/submissions/tiny/beyond.json"
    claims = json.loads((folder / file).read_text())["claims"]["transfers"]
    assert {suite: sorted(by_train) for suite, by_train in claims.items()} == {"other": ["bright", "dark"]}
    assert run_deeploc(folder, "verify", file).returncode == 0
    assert run_deeploc(folder, "leaderboard").returncode == 0
    assert "tested on other suites too" in (folder / "leaderboard/README.md").read_text()


def test_what_was_not_tested_elsewhere_is_not_submitted_as_if_it_were(deeploc, copied):
    submit = ["submit", "small+jaccard", "--suite", "tiny", "--contact", "me", "--transfer", "other"]
    done = deeploc(*submit)
    assert done.returncode == 2 and "4 trainings were not tested on other, the first: seed 0" in done.stderr
    assert not list(copied.rglob("leaderboard/**/*.json"))


def test_another_call_tests_nothing_again_and_python_returns_the_same(tested, monkeypatch):
    folder, printed = tested
    before = records_of(folder / "runs")
    done = run_deeploc(folder, "test", "tiny/small+jaccard", *OTHER)
    assert done.stdout.endswith("0 tests done, 27 reused, 0 failed · runs\n"), done.stdout
    monkeypatch.chdir(folder)
    found = dlb.test("runs/tiny/small+jaccard", suite="other", plugins=[str(one) for one in OTHER[1:6:2]])
    assert json.loads(json.dumps(found.scores())) == printed["cells"] and found.reused == 4
    assert records_of(folder / "runs") == before


def test_csv_and_views_name_the_suite_that_was_tested(tested):
    folder, _ = tested
    rows = dlb.results(folder / "runs").rows()
    assert {row["test_suite"] for row in rows if row["protocol"] == "transfer"} == {"other"}
    assert {row["test_suite"] for row in rows if row["protocol"] == "loo"} == {"tiny"}
    by_generator = run_deeploc(folder, "results", "--by", "generator", "--dialect", "dolos").stdout
    assert "transfer · tiny to other · trained on bright · IoU by generator" in by_generator
    assert "other/stripes" in by_generator


@pytest.mark.slow
def test_a_run_of_the_own_suite_keeps_what_was_tested_elsewhere(tested):
    folder, _ = tested
    flags = ["--suite", "tiny", "--model", "small", "--recipe", "quick", "--threads", "1", "--seed", "0", "--seed", "1"]
    before = records_of(folder / "runs")
    done = run_deeploc(folder, "run", *PLUGINS, *flags, "--set", "epochs=2", "--set", "size=32")
    assert "0 trained, 4 reused" in done.stdout, done.stderr
    assert records_of(folder / "runs") == before
    assert "transfer · tiny to other · small + jaccard" in run_deeploc(folder, "results").stdout


def test_an_image_that_was_trained_on_is_a_leak_whatever_it_is_called(deeploc, copied):
    (copied / "leak.py").write_text(LEAK.replace("{tests!r}", repr(str(PLUGINS[1].parent))))
    training = training_in(copied).relative_to(copied)
    flags = ["--plugin", "leak.py", *PLUGINS, "--suite", "leak"]
    done = deeploc("test", training, *flags)
    assert done.returncode == 2 and not list(copied.rglob("test-leak*"))
    assert "1 of its test images were trained or validated on" in done.stderr
    assert "one image stands in tiny/dark/valid: valid-02 and in leak/found/test: new-name" in done.stderr


def test_a_source_of_the_same_name_is_a_warning(deeploc, copied):
    training = training_in(copied).relative_to(copied)
    done = deeploc("test", training, *OTHER, NAMESAKE="train")
    assert done.returncode == 0, done.stderr
    assert "warning: 3 sources are called alike in what was trained on and in suite 'other', such as" in done.stderr


@pytest.mark.slow
def test_the_other_suites_images_may_change_and_are_tested_again(tested, tmp_path):
    folder = shutil.copytree(tested[0], tmp_path / "again")
    done = run_deeploc(folder, "test", "runs/tiny/small+jaccard", *OTHER, OTHER_SHIFT="1")
    assert done.stdout.endswith("27 tests done, 0 reused, 0 failed · runs\n"), done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "samples.json").unlink(), "does not tell what was trained on"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is not finished"),
        (
            lambda folder: edit(folder / "samples.json", lambda text: text.replace('"train"', '"valid"')),
            "is not of what",
        ),
        (lambda folder: (folder / "samples.json").write_text("{}"), "is damaged"),
        (lambda folder: folder.rename(folder.with_name("moved")), "was moved"),
    ],
    ids=["untold", "unfinished", "other-samples", "damaged", "moved"],
)
def test_what_is_not_whole_is_one_message(deeploc, copied, change, said):
    folder = training_in(copied)
    change(folder)
    asked = folder if folder.exists() else folder.with_name("moved")
    done = deeploc("test", asked.relative_to(copied), *OTHER)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2 and said in done.stderr, done.stderr


@pytest.mark.slow
def test_what_a_run_before_did_not_tell_of_is_told_by_another(copied, deeploc):
    folder = training_in(copied)
    told = (folder / "samples.json").read_bytes()
    (folder / "samples.json").unlink()
    flags = ["--suite", "tiny", "--model", "small", "--recipe", "quick", "--threads", "1", "--set", "epochs=2"]
    done = deeploc("run", *PLUGINS, *flags, "--set", "size=32")
    assert "0 trained, 2 reused" in done.stdout, done.stderr
    assert (folder / "samples.json").read_bytes() == told


def test_a_test_that_failed_is_not_told_to_be_done(deeploc, copied):
    model = training_in(copied) / "model.safetensors"
    broken = {
        name: values if values.dtype.kind == "i" else values + np.nan for name, values in load_file(model).items()
    }
    store.write_tensors(model, save, broken, about=None)
    done = deeploc("test", model.parent.relative_to(copied), *OTHER)
    assert done.returncode == 1 and "logits are NaN" in done.stderr, done.stderr
    assert done.stdout.endswith("9 tests done, 0 reused, 3 failed · runs\n"), done.stdout


def test_mistakes_are_one_message_each(deeploc, copied):
    training = training_in(copied).relative_to(copied)
    for asked, flags, said in (
        (training, [*PLUGINS, "--suite", "tiny"], "was trained on suite 'tiny' itself"),
        ("nowhere", OTHER, "nowhere is not a training's folder"),
        (training, [*OTHER[:-1], "othr"], "unknown suite 'othr'. Did you mean 'other'?"),
        (training, [*OTHER, "--data", "runs"], "takes no --data"),
        (training, [*OTHER, "--perturb", "fog:1"], "fog"),
        (training, [*OTHER[:4], *OTHER[6:]], "unknown model 'small'"),
    ):
        done = deeploc("test", asked, *flags)
        assert done.returncode == 2 and said in done.stderr, (asked, flags, done.stderr)
    facts = facts_of(("a", "b", "c"), kind="scored")
    folder = write_training(copied / "runs", facts, {"d": made_records([0.5] * 4)})
    done = deeploc("test", folder, *OTHER)
    assert done.returncode == 2 and "holds predictions made elsewhere" in done.stderr


def test_several_suites_are_tested_by_one_call_and_stand_in_one_matrix(deeploc, copied):
    far = (PLUGINS[1].with_name("other.py")).read_text().replace('"other"', '"far"')
    (copied / "far.py").write_text(far)
    asked = ["test", training_in(copied).relative_to(copied), *OTHER, "--plugin", "far.py"]
    done = deeploc(*asked, "--suite", "far")
    matrix = done.stdout[done.stdout.rindex("transfer · from tiny") :]
    assert done.returncode == 0 and done.stdout.count("transfer · from tiny") == 1, done.stderr
    assert "| other/dark" in matrix and "| far/dark" in matrix and "other/mean" in matrix and "far/mean" in matrix, (
        matrix
    )
    assert {*store.read_facts(training_in(copied)).transfers} == {"other", "far"}
    again = deeploc(*asked, "--suite", "far", "--suite", "other")  # the same suite named twice is one
    assert again.stdout[: again.stdout.rindex("\n\n")] == done.stdout[: done.stdout.rindex("\n\n")]
    assert "\n0 tests done, 24 reused, 0 failed" in again.stdout, again.stdout


def test_one_suite_under_two_names_is_told(deeploc, copied):
    text = 'suite = "coverage"\n[[generator]]\nname = "g"\nsplit = "test"\nimages = "i/{id}.png"\nmasks = "m/{id}.png"'
    (copied / "mine.toml").write_text(text)
    asked = ["test", training_in(copied).relative_to(copied), *PLUGINS, "--suite", "coverage", "--suite", "mine.toml"]
    done = deeploc(*asked, "--data", ".")
    assert done.returncode == 2 and "coverage and mine.toml are both suite 'coverage'; name one" in done.stderr


@pytest.mark.parametrize(
    "data, said",
    [
        (["nowhere"], "--data nowhere: there is no such folder. Give the folder that holds masks, original"),
        (["strange=nowhere"], "'strange' is no suite of these: other, tgif"),
        (["tgif=nowhere"], "--data nowhere: there is no such folder"),
    ],
)
def test_of_several_suites_each_gets_its_own_folder(deeploc, copied, data, said):
    done = deeploc("test", training_in(copied).relative_to(copied), *OTHER, "--suite", "tgif", "--data", *data)
    assert done.returncode == 2 and said in done.stderr, done.stderr


@pytest.mark.slow
def test_perturbed_images_of_the_other_suite_are_columns(deeploc, copied):
    training = training_in(copied).relative_to(copied)
    done = deeploc("test", training, *OTHER, "--perturb", "blur:2")
    assert done.returncode == 0 and "blur-2" in done.stdout, done.stderr
    assert (copied / training / "test-other+dark@blur-2.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "full"])
def test_broken_at_any_write_it_goes_on(forked, tested, copied, how):
    asked = ["test", str(training_in(copied).relative_to(copied)), *OTHER]
    assert break_everywhere(forked, copied, asked, how) > 3
    found = {name: content for name, content in records_of(copied / "runs").items() if "other+" in name}
    whole = records_of(tested[0] / "runs")
    assert found and all(whole[name] == content for name, content in found.items())
