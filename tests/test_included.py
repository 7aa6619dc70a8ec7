"""Suites that include others: their generators stand in it under names of their own, and nothing is packed twice."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from breaking import PLUGINS
from conftest import printed_json, run_deeploc
from PIL import Image
from runs import cell, facts_of

import deeploc_bench as dlb
from deeploc_bench.contract.errors import DataError, UsageError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.owned import included
from deeploc_bench.data.suites import load_suite, silent
from deeploc_bench.data.survey import survey
from deeploc_bench.plan import store
from deeploc_bench.plan.protocols import PROTOCOLS, lodo

OTHER = PLUGINS[1].with_name("other.py")
LOADED = ["--plugin", OTHER, *PLUGINS]
FILES = """
suite = "files"

[[generator]]
name = "lama"
images = "images/{split}/{id}.png"
masks = "masks/{split}/{id}.png"
"""
STANDARD = ("a.one", "a.two", "b.one")
OF = {"a.one": "a", "a.two": "a", "b.one": "b"}


@pytest.fixture(scope="module")
def loaded():
    return load_plugins([str(OTHER), str(PLUGINS[1])])


def files_in(folder):
    """Write the images and masks of a small suite, `FILES`, and return their folder."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        for i in range(count):
            pixels = {"images": random.integers(0, 256, (40, 40, 3), np.uint8), "masks": np.zeros((40, 40), np.uint8)}
            pixels["masks"][:9, : i + 3] = 255
            for kind, values in pixels.items():
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(folder / kind / split / f"{split}{i}.png")
    return folder


def suite_of(registry, name, data=None):
    return load_suite(registry.suite(name), data=data, progress=silent)


def test_a_suite_of_two_has_the_generators_of_both_and_one_set_of_authentic_images(loaded):
    suite = suite_of(loaded, "tiny+other")
    assert suite.name == "other-and-tiny"
    assert suite.standard == ("other.dark", "other.stripes", "tiny.bright", "tiny.dark") and suite.test_only == ()
    assert suite.included == {name: name.partition(".")[0] for name in suite.standard}
    assert suite.methods["tiny.dark"] == suite.methods["other.dark"] == "dark"
    alone = suite_of(loaded, "tiny").generators["dark"].splits["test"]
    both = suite.generators["tiny.dark"].splits["test"]
    assert both.ids == tuple(f"tiny.{id}" for id in alone.ids)
    assert both.sources == tuple(f"tiny.{source}" for source in alone.sources)
    assert (both.images == alone.images).all() and both.fingerprint != alone.fingerprint
    assert not survey(suite)


def test_the_order_in_which_suites_are_named_changes_nothing(loaded):
    one, other = (suite_of(loaded, name) for name in ("tiny+other", "other+tiny"))
    assert (one.name, one.fingerprint) == (other.name, other.fingerprint)


def test_authentic_images_of_several_suites_are_one_set(tmp_path):
    (tmp_path / "third.py").write_text(OTHER.read_text().replace('suite="other"', 'suite="third"'))
    suite = suite_of(load_plugins([str(OTHER), str(tmp_path / "third.py")]), "third+other")
    own = suite_of(load_plugins([str(OTHER)]), "other").generators["authentic"].splits["test"]
    both = suite.generators["authentic"].splits["test"]
    assert len(both) == 2 * len(own) and both.ids == tuple(sorted(both.ids))
    place = both.ids.index(f"third.{own.ids[3]}")
    assert (both.flat(place)[0] == own.flat(3)[0]).all()


def test_a_default_stays_where_all_that_have_one_agree(loaded):
    (one, *_), (other, *_) = loaded.suite("tiny"), loaded.suite("other")
    named = [
        [replace(owned, spec=replace(owned.spec, default_model=model))]
        for owned, model in ((one, "mine"), (other, None), (other, "yours"))
    ]
    assert {owned.spec.default_model for owned in included("both", named[:2])} == {"mine"}
    assert {owned.spec.default_model for owned in included("both", named[::2])} == {None}


def test_a_description_includes_suites_by_name_and_by_file(loaded, tmp_path):
    (tmp_path / "inner.toml").write_text('suite = "inner"\ninclude = ["tiny"]')
    (tmp_path / "outer.toml").write_text('suite = "outer"\ninclude = ["inner.toml", "other"]')
    suite = suite_of(loaded, str(tmp_path / "outer.toml"))
    assert suite.standard == ("inner.tiny.bright", "inner.tiny.dark", "other.dark", "other.stripes")
    assert suite.included["inner.tiny.dark"] == "inner"
    assert suite.generators["inner.tiny.dark"].splits["test"].ids[0] == "inner.tiny.test-00"


def test_one_image_in_two_suites_is_a_leak_that_names_both_files(tmp_path):
    copy = (OTHER.with_name("tiny.py").read_text()).replace('suite="tiny"', 'suite="copy"')
    (tmp_path / "copy_of.py").write_text(copy.replace('"test": 10}', '"test": 10}\nORDER = {"train": "test"}'))
    text = (tmp_path / "copy_of.py").read_text()
    assert "def samples(split, sign):\n" in text
    swapped = text.replace(
        "def samples(split, sign):\n", "def samples(given, sign):\n    split = ORDER.get(given, given)\n"
    )
    (tmp_path / "copy_of.py").write_text(swapped)
    suite = suite_of(load_plugins([str(tmp_path / "copy_of.py"), str(PLUGINS[1])]), "tiny+copy")
    said = [str(finding) for finding in survey(suite) if finding.check == "leak"]
    assert "one image stands in copy.bright/train: test-00 and in tiny.bright/test: test-00" in said


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("tiny+tiny", UsageError, "suite 'tiny' stands twice"),
        ("tiny+tinny", UsageError, "unknown suite 'tinny'. Did you mean 'tiny'?"),
        ("round.toml", DataError, "includes itself"),
        ("round-by-sum.toml", DataError, "includes itself"),
        ("none.toml", DataError, "needs [[generator]]s"),
    ],
)
def test_what_cannot_be_included_is_one_message(loaded, tmp_path, monkeypatch, name, error, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "round.toml").write_text('suite = "round"\ninclude = ["round.toml"]')
    (tmp_path / "round-by-sum.toml").write_text('suite = "round"\ninclude = ["round-by-sum.toml+tiny"]')
    (tmp_path / "none.toml").write_text('suite = "none"')
    with pytest.raises(error) as raised:
        loaded.suite(name)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("suites", "said"),
    [
        ({"a": "b.c", "a.b": "c"}, "two generators of 'a-and-a.b' would both be called 'a.b.c'; rename one"),
        ({"a" * 60: "c", "b" * 60: "c"}, "Include them in one description of a shorter name"),
    ],
    ids=["alike", "long"],
)
def test_suites_whose_generators_or_names_cannot_be_joined_are_one_message(loaded, suites, said):
    (owned, *_) = loaded.suite("tiny")
    datasets = [replace(owned, spec=replace(owned.spec, suite=suite, name=name)) for suite, name in suites.items()]
    with pytest.raises(UsageError, match=said):
        replace(loaded, datasets=tuple(datasets)).suite("+".join(suites))


def test_lodo_holds_out_each_suite_with_all_its_generators():
    pairs = [(pair.train_generators, pair.test_generator) for pair in lodo(STANDARD, ["x"], OF)]
    assert pairs == [
        (("b.one",), "a.one"),
        (("b.one",), "a.two"),
        (("b.one",), "x"),
        (("a.one", "a.two"), "b.one"),
        (("a.one", "a.two"), "x"),
    ]
    with pytest.raises(UsageError, match="needs a suite of several others"):
        PROTOCOLS["lodo"](STANDARD, ())


def test_a_held_out_generator_is_seen_where_another_suite_has_its_method():
    methods = {"a.one": "one", "a.two": "two", "b.one": "one"}
    about = {"standard_generators": STANDARD, "methods": methods, "included": OF}
    assert [cell(test, [0.5] * 4, **about).is_seen for test in STANDARD] == [True, False, True]
    held = cell("b.one", [0.5] * 4, train=("a.one", "a.two"), protocol="lodo", **about)
    assert (held.is_seen, held.train) == (True, "w/o b")


def test_the_data_of_each_suite_is_named_and_packed_once(deeploc, tmp_path):
    tree = files_in(tmp_path / "data")
    (tmp_path / "files.toml").write_text(FILES)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    alone = deeploc("data", "pack", "files.toml", "--data", tree, **cache)
    assert alone.returncode == 0, alone.stderr
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("index.json")}
    flags = [*LOADED, "--data", f"files={tree}"]
    done = deeploc("data", "pack", "files.toml+tiny", *flags, **cache)
    assert done.returncode == 0 and "files.lama (standard): 4 train, 2 valid, 2 test" in done.stdout, done.stderr
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("index.json")}
    assert after == before and len(after) == 3
    assert done.stdout.endswith(f"packed in {tmp_path / 'cache/deeploc-bench'}\n")


def test_the_caches_of_all_its_suites_are_cleaned_or_of_those_that_are_named(deeploc, tmp_path):
    tree, cache = files_in(tmp_path / "data"), {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "files.toml").write_text(FILES)
    assert deeploc("data", "pack", "files.toml", "--data", tree, **cache).returncode == 0
    (tree / "images/test/test0.png").unlink()
    clean = ["data", "clean", "files.toml+tiny", *LOADED]
    for named in (tmp_path, tree.parent):
        assert "0.0 MiB removed" in deeploc(*clean, "--data", f"tiny={named}", **cache).stdout
    done = deeploc(*clean, **cache)
    assert (done.returncode, done.stdout.count("removed: ")) == (0, 1), done.stderr
    assert "/files, " in done.stdout and done.stdout.endswith("/tiny\n")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "suite 'files' needs --data PATH"),
        (["--data", "file=."], "'file' is no suite of these: files, tiny"),
        (["--data", "tiny=."], "suite 'files' needs its data, too: add --data files=PATH"),
        (["--data", "files=.", "--data", "tiny=."], "suite 'tiny' takes no --data"),
        (["--data", "files=nowhere"], "nowhere: there is no such folder"),
        (["--data", ".", "--data", "files=."], "of several, each names its suite"),
        (["--data", "files=.", "--data", "files=nowhere"], "suite 'files' has two folders"),
    ],
)
def test_data_that_is_named_wrongly_is_one_message(deeploc, tmp_path, data, said):
    (tmp_path / "files.toml").write_text(FILES)
    done = deeploc("data", "check", "files.toml+tiny", *LOADED, *data)
    assert done.returncode == 2 and said in done.stderr, done.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return a folder in which each generator and each suite of two was held out, and what that printed."""
    folder = tmp_path_factory.mktemp("both")
    short = ["--model", "small", "--recipe", "quick", "--threads", "1", "--set", "epochs=1", "--set", "size=32"]
    flags = ["--suite", "tiny", "--suite", "other", "--protocol", "loo", "--protocol", "lodo", "--budget", "matched"]
    done = run_deeploc(folder, "run", *LOADED, *flags, *short)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_a_run_of_two_suites_holds_out_generators_and_suites_beside_baselines(ran):
    folder, printed = ran
    assert "6 trained, 0 reused, 0 failed" in printed
    found = dlb.results(folder / "runs")
    text = str(found)
    assert text == printed.rpartition("\n\n")[0]
    lines = [line for line in text.partition("lodo (matched budget) · other-and-tiny")[2].splitlines() if "|" in line]
    trained = [line.split("|")[1].strip() for line in lines if "---" not in line][1:]
    assert trained == ["w/o other", "w/o other", "w/o tiny", "w/o tiny", "mean"]
    assert "all-manipulated" in lines[0] and "other.dark (seen)" in text
    counts = {cell.facts.train_generators: cell.facts.train_samples for cell in found.cells if cell.facts.loss}
    assert counts["other.dark", "other.stripes"] == (4, 4) and counts["tiny.bright", "tiny.dark"] == (8, 8)


@pytest.mark.slow
def test_a_training_of_two_suites_is_tested_on_a_third(deeploc, ran, tmp_path):
    shutil.copytree(ran[0] / "runs", tmp_path / "runs")
    printed = printed_json(deeploc("test", "runs/other-and-tiny/small+jaccard", *LOADED, "--suite", "easy", "--json"))
    assert {cell["test_generator"] for cell in printed["cells"]} == {"bright"} and printed["reused"] == 6


def test_the_folder_of_many_generators_has_a_name_that_a_file_system_takes():
    many = tuple(f"suite-{i}.generator-{i}" for i in range(20))
    places = [store.place_of(facts_of(names, standard_generators=many)) for names in (many[:10], many[:19], many[1:])]
    assert "+".join(many[:10]) in places[0]
    assert "/19-generators-" in places[1] and len({place.rpartition("/")[0] for place in places}) == 3


def test_folders_named_in_the_environment_may_be_of_other_suites(loaded, monkeypatch):
    monkeypatch.setenv("DEEPLOC_DATA", "elsewhere=nowhere")
    assert suite_of(loaded, "tiny+other").data is None
