"""A generator that a plugin adds to another's suite is tested and shown apart, and nothing of the suite changes."""

from __future__ import annotations

import datetime
import filecmp
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from runs import authentic_of, facts_of, others, records_of, write_training
from test_loading import install

from deeploc_bench.api.compare import compare
from deeploc_bench.api.results import results
from deeploc_bench.contract.errors import PluginError, UsageError
from deeploc_bench.contract.files import to_json
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import load_suite, manifest, silent
from deeploc_bench.leaderboard.collect import Declaration, Selection, collect
from deeploc_bench.plan.facts import keeping_added
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.results.report import render_report
from deeploc_bench.training.engines import current_facts

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "tests/tiny.py")
MOSAIC = re.search(r"```python[^\n]*\n(.*?)```", (ROOT / "docs/suites.md").read_text("utf-8"), re.DOTALL)[1]
PATCH = '''
"""Adds grey patches to the suite `tiny`."""
import numpy as np
from deeploc_bench import GeneratorDataset, Sample, hookimpl

def build(*data):
    image, mask = np.full((64, 64, 3), 99, np.uint8), np.eye(64, dtype=bool)
    return {"test": [Sample(id="test-00", source="grey", image=lambda: image, mask=lambda: mask)]}

@hookimpl
def deeploc_datasets():
    return [GeneratorDataset(name="added", suite="tiny", build=build, role="test-only")]
'''


@pytest.fixture
def patch(tmp_path):
    """Return a maker of the plugin file, with words of it changed."""

    def make(*changes):
        source = PATCH
        for before, after in changes:
            assert before in source
            source = source.replace(before, after)
        (tmp_path / "patch.py").write_text(source)
        return str(tmp_path / "patch.py")

    return make


def suite_of(*plugins, name="tiny"):
    return load_suite(load_plugins(plugins).suite(name), data=None, progress=silent)


@pytest.mark.parametrize("is_first", [False, True], ids=["loaded last", "loaded first"])
def test_an_added_generator_is_there_to_test_and_changes_nothing_of_the_suite(patch, is_first):
    plain = suite_of(TINY)
    suite = suite_of(*([patch(), TINY] if is_first else [TINY, patch()]))
    assert (suite.test_only, suite.added) == (("added",), {"added": "patch"})
    assert suite.fingerprint == plain.fingerprint and suite.standard_fingerprint == plain.standard_fingerprint
    assert to_json(manifest(suite)) == to_json(manifest(plain))
    assert suite.test_fingerprints == {
        **plain.test_fingerprints,
        "added": suite.generators["added"].splits["test"].fingerprint,
    }


def test_a_test_only_generator_of_the_suites_own_plugin_is_a_part_of_the_suite(tmp_path):
    source = Path(TINY).read_text()
    changed = source.replace(
        "build=build(-1))",
        'build=build(-1)),\n        GeneratorDataset(name="x", suite="tiny", build=build(1), role="test-only")',
    )
    (tmp_path / "tiny.py").write_text(changed)
    suite = suite_of(str(tmp_path / "tiny.py"))
    assert suite.added == {} and suite.own == ("bright", "dark", "x")
    assert suite.fingerprint != suite_of(TINY).fingerprint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            (', role="test-only"', ""),
            "adds the standard generator 'added' to it.* Say role='test-only', or make a suite",
        ),
        (('"added"', '"authentic"'), "adds authentic images to it.* Leave them out, or make a suite of another name"),
    ],
    ids=["standard", "authentic"],
)
def test_what_would_make_it_another_suite_is_refused_with_the_way_out(patch, change, told):
    with pytest.raises(PluginError, match=f"suite 'tiny' is owned by plugin 'tiny', and plugin 'patch' {told}"):
        load_plugins([TINY, patch(change)])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((', role="test-only"', ""), "suite 'tiny' is owned by plugin 'patch', and plugin 'tiny' adds the standard"),
        (
            ('"added"', '"authentic"'),
            "suite 'tiny' is owned by plugin 'tiny', and plugin 'patch' adds authentic images",
        ),
    ],
    ids=["standard", "authentic"],
)
def test_it_is_refused_too_where_it_is_loaded_first_and_both_are_named(patch, change, told):
    with pytest.raises(PluginError, match=f"--plugin .*tiny.py: {told}"):
        load_plugins([patch(change), TINY])


def test_authentic_images_that_a_suite_has_are_claimed_twice(patch):
    with pytest.raises(
        PluginError, match="generator photos/authentic is owned by plugin 'photos' and claimed by 'patch'"
    ):
        load_plugins([patch(('"tiny"', '"photos"'), ('"added"', '"authentic"'))])


def test_a_suite_that_an_installed_plugin_intrudes_upon_is_not_used_in_silence(tmp_path, deeploc):
    install(tmp_path, "zintruder", PATCH.replace('"tiny"', '"photos"').replace(', role="test-only"', ""))
    done = deeploc("run", "--dry-run", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: suite 'photos' cannot be used: plugin zintruder (zintruder 1.2) left out" in done.stderr
    assert done.stderr.rstrip().endswith("Switch one off with --plugin no:NAME")


def test_a_suite_of_another_name_includes_the_others_generators(tmp_path):
    page = (ROOT / "docs/suites.md").read_text("utf-8")
    source = next(text for text in re.findall(r"```python[^\n]*\n(.*?)```", page, re.DOTALL) if "photos-plus" in text)
    assert "    ...  # the samples of each split" in source
    (tmp_path / "plus.py").write_text(source.replace("    ...  #", "    return datasets_of_latent().build()  #"))
    with (tmp_path / "plus.py").open("a") as file:
        file.write("\ndef datasets_of_latent():\n    return list(photos.deeploc_datasets())[1]\n")
    suite = suite_of(str(tmp_path / "plus.py"), name="photos-plus")
    assert suite.standard == ("cyclegan", "ddpm", "latent", "more", "patchmatch") and suite.added == {}
    assert suite_of(str(tmp_path / "plus.py"), name="photos").fingerprint == suite_of(name="photos").fingerprint


def test_a_description_takes_the_name_of_no_suite_and_may_be_added_to(tmp_path, patch):
    description = tmp_path / "mine.toml"
    text = '[[generator]]\nname = "one"\nimages = "{split}/{id}.png"\nmasks = "masks/{split}/{id}.png"\n'
    description.write_text(f'suite = "photos"\n{text}')
    with pytest.raises(
        PluginError, match="suite 'photos' is owned by plugin 'photos', and plugin 'described' adds the st"
    ):
        load_plugins().suite(str(description))
    description.write_text(f'suite = "tiny"\n{text}')
    found = load_plugins([patch()]).suite(str(description))
    assert [(owned.spec.name, owned.plugin.name) for owned in found] == [("added", "patch"), ("one", "described")]


def test_data_that_only_an_added_generator_needs_is_asked_for_in_its_name(patch, tmp_path):
    plugins = (TINY, patch(('role="test-only"', 'role="test-only", needs_data="the folder of patches"')))
    with pytest.raises(
        UsageError, match=r"generator 'added' of plugin 'patch' needs --data PATH .*the folder of patches"
    ):
        suite_of(*plugins)
    given = load_suite(load_plugins(plugins).suite("tiny"), data=str(tmp_path), progress=silent)
    assert given.added == {"added": "patch"}


def test_an_added_generator_sets_no_default_and_makes_no_other_training(patch):
    plugins = (TINY, patch(('role="test-only"', 'role="test-only", default_model="smp-none", default_recipe="quick"')))
    plain, more = (
        prepare(Job(suite="tiny", models=models, plugins=used), silent)
        for models, used in ((["residual-unet"], plugins[:1]), (["residual-unet"], plugins))
    )
    assert list(plain.plan.trainings) == list(more.plan.trainings)
    assert {training.recipe.name for training in more.plan.trainings.values()} == {"poster"}
    assert {t.name for tests in more.plan.tests.values() for t in tests} == {"added", "bright", "dark"}
    facts = next(iter(more.plan.trainings.values())).facts
    assert facts.added == {"added": "patch"} and set(facts.test_data) == {"added", "bright", "dark"}


def test_facts_keep_what_was_added_before_and_not_what_the_suite_has_now():
    before = facts_of(others("a"), extra=("x", "y"), added={"x": "mine", "y": "mine"}, methods={"x": "other"})
    now = facts_of(others("a"), extra=("y",), data="new")
    kept = keeping_added(now, before)
    assert (kept.added, kept.methods) == ({"x": "mine"}, {"x": "other"})
    assert kept.test_data == {**now.test_data, "x": before.test_data["x"]}
    assert keeping_added(before, before) == before and kept.identity == now.identity


def test_a_run_without_the_plugin_leaves_what_was_added_where_it_is(tmp_path):
    before = facts_of(others("a"), extra=("x",), added={"x": "mine"})
    folder = write_training(tmp_path, before, {"a": records_of([0.5]), "x": records_of([0.9])})
    facts = current_facts(SimpleNamespace(facts=facts_of(others("a"), fingerprint="0" * 32)), folder)
    assert facts == replace(before, fingerprint="0" * 32)


ABC = ("a", "b", "c")


def write_runs(runs, added=None):
    """Write two seeds of a method and a baseline, tested on what a plugin adds too, if it does."""
    more = {"added": added, "extra": (*added, "authentic")} if added else {"extra": ("authentic",)}
    tests = dict.fromkeys(added or (), records_of([0.9, 0.8, 0.7, 0.6, 0.5, 0.9]))
    authentic = authentic_of([0.25, 0.5])
    for seed in (0, 1):
        for test in ABC:
            facts = facts_of(others(test, ABC), seed=seed, standard_generators=ABC, pretraining="none", **more)
            own = records_of([0.2 + 0.1 * seed, 0.4, 0.5, 0.7])
            write_training(runs, facts, {test: own, **tests}, authentic=authentic)
    facts = facts_of(kind="tested", model="floor", baseline=True, standard_generators=ABC, **more)
    write_training(runs, facts, {**dict.fromkeys(ABC, records_of([0.1] * 4)), **tests}, authentic=authentic)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with runs without and with what a plugin adds, whose name sorts before all others."""
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder / "plain")
    write_runs(folder / "more", {"0-new": "mine"})
    return folder


@pytest.fixture(scope="module")
def both(folder):
    return results(folder / "plain"), results(folder / "more")


@pytest.mark.parametrize("by", [None, "area", "generator", "seed"])
def test_the_suites_own_tables_are_the_same_and_what_was_added_has_its_own(both, by):
    plain, more = ([*found.tables(by)] for found in both)
    added = [table for table in more if "added by plugin mine" in table.caption]
    assert plain and len(added) == len(plain)
    assert [table for table in more if table not in added] == plain
    assert all("0-new" in str(table) and "'mean'" not in str(table) for table in added)


def test_the_rows_cells_and_dialects_of_the_suite_itself_are_the_same(both):
    for values in (lambda found: found.rows(), lambda found: found.scores()):
        plain, more = map(values, both)
        assert [value for value in more if value["added_by"] is None] == plain
        assert {value["test_generator"] for value in more if value["added_by"] == "mine"} == {"0-new"}
    plain, more = ([*found.dialects("all")] for found in both)
    assert more[0] == plain[0] and more[1].caption == "IoU by dialect · added by plugin mine"
    assert (len(plain), len(more)) == (1, 2)


def test_a_comparison_has_the_same_lines_and_those_on_what_was_added_below(folder):
    plain, more = (compare("net+jaccard", "floor", runs=folder / name) for name in ("plain", "more"))
    assert more.rows()[:4] == plain.rows() and [row["added_by"] for row in more.rows()[4:]] == ["mine"] * 3
    assert [*more.tables][0] == [*plain.tables][0]
    assert [*more.tables][1].caption.startswith("loo · made · net+jaccard minus floor · added by plugin mine")


def test_a_submission_holds_the_suites_own_generators_alone(folder):
    wish = Selection(suite="made", model="net", loss="jaccard")
    said = Declaration(name="entry", contact="me", date=datetime.date(2026, 1, 31))
    plain, more = (collect(folder / name, wish, said) for name in ("plain", "more"))
    assert to_json(more) == to_json(plain)


def test_a_report_shows_what_was_added_apart(both):
    page = render_report(both[1].cells)
    assert page.count("loo · made · added by plugin mine · net + jaccard") >= 1
    assert "IoU by dialect · added by plugin mine" in page and "Image level · added by plugin mine" in page


@pytest.mark.slow
def test_a_real_generator_added_to_photos_leaves_every_file_of_the_suite_as_it_was(deeploc, tmp_path):
    (tmp_path / "mosaic.py").write_text(MOSAIC)
    flags = ["run", "--set", "epochs=1", "--threads", "1"]
    first = deeploc(*flags)
    shutil.copytree(tmp_path / "runs", tmp_path / "before")
    more = deeploc(*flags, "--plugin", "mosaic.py")
    own, _, added = more.stdout.rpartition("\n\n")[0].partition("\n\nloo · photos · added by plugin mosaic · ")
    assert own == first.stdout.rpartition("\n\n")[0] and added.count("| mosaic") == 4
    assert "0 trained, 4 reused, 0 failed" in more.stdout
    files = [path.relative_to(tmp_path / "before") for path in (tmp_path / "before").rglob("*.*") if path.is_file()]
    kept = [str(file) for file in files if file.name != "training.json"]  # which tells of one test set more
    assert filecmp.cmpfiles(tmp_path / "before", tmp_path / "runs", kept, shallow=False) == (kept, [], [])
    for runs in ("before", "runs"):
        file = tmp_path / f"board-{runs}/submissions/photos/entry.json"
        shutil.copytree(ROOT / "leaderboard/suites", tmp_path / f"board-{runs}/suites")
        said = ["--contact", "me", "--date", "2026-01-31", "--runs", runs, "-o", file]
        assert deeploc("submit", "residual-unet+jaccard", *said).returncode == 0
        assert deeploc("verify", file, "--leaderboard", f"board-{runs}").returncode == 0
    assert filecmp.cmp(tmp_path / "board-before/submissions/photos/entry.json", file, shallow=False)
    again = deeploc(*flags)
    assert again.stdout == first.stdout.replace("4 trained, 0 reused", "0 trained, 4 reused")
    assert deeploc("results").stdout.count("| mosaic") == 4  # nothing of it is lost
