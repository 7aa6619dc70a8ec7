"""The suites of the field's data sets, by name, each on a small tree of its exact shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import printed_json
from deeploc_bench_plugins.described import SUITES
from field_trees import TREES, encoded, mask_pixels, stored, write
from PIL import Image

from deeploc_bench.data.suites import load_suite, manifest, silent
from deeploc_bench.data.survey import survey

COUNTS = {
    "autosplice": {"dall-e-2": (0, 0, 5), "dall-e-2-jpeg90": (0, 0, 5), "dall-e-2-jpeg75": (0, 0, 5)},
    "br-gen": dict.fromkeys(("brushnet", "lama", "mat", "powerpaint", "sdxl"), (3, 2, 3)),
    "casia": {"casia-v2": (3, 2, 3)},
    "casia-v1": {"casia-v1": (0, 0, 4)},
    "cocoglide": {"glide": (0, 0, 3)},
    "columbia": {"columbia": (0, 0, 3)},
    "coverage": {"coverage": (0, 0, 4)},
    "imd2020": {"imd2020": (6, 4, 4)},
    "nist16": {"nist16": (0, 0, 4)},
    "opensdi": {"sd15": (4, 2, 3), "sd2": (0, 0, 3), "sdxl": (0, 0, 3), "sd3": (0, 0, 1), "flux": (0, 0, 1)},
    "sid-set": {"tampered": (2, 2, 3)},
    "tgif": {"ps-sp": (5, 2, 3), "sd2-sp": (5, 2, 3)},
    "tgif-fr": {"sd2-fr": (5, 2, 3), "sdxl-fr": (5, 2, 3)},
}
"""How many images train, validate and test each generator in its tree."""
KINDS = {
    **dict.fromkeys(("autosplice", "casia", "casia-v1", "cocoglide", "nist16", "tgif-fr"), {"regenerated"}),
    **dict.fromkeys(("columbia", "opensdi", "sid-set"), set()),
    "imd2020": {"regenerated"},
}
"""What comparing it with its authentic images tells of each tree: JPEG changes all pixels a little."""
TABLES = ("opensdi", "sid-set")
TRAINED = tuple(name for name, counts in COUNTS.items() if any(train for train, _, _ in counts.values()))


@pytest.fixture
def checked(registry, tmp_path, monkeypatch):
    """Return a function that writes a tree, and returns its suite and all that is found in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def check(name, all_stored):
        root = write(tmp_path / "data", name, all_stored)
        suite = load_suite(registry.suite(name), data=str(root), progress=silent)
        return suite, survey(suite)

    return check


def told(findings):
    """Return the messages of each check that found an error."""
    found = {}
    for finding in findings:
        if finding.is_error:
            found[finding.check] = f"{found.get(finding.check, '')}{finding}\n"
    return found


def test_each_description_has_a_tree_and_is_in_the_table_of_the_docs():
    text = (SUITES.parents[2] / "docs/suites.md").read_text()
    names = {file.stem for file in SUITES.glob("*.toml")}
    assert names == set(TREES) == set(COUNTS)
    assert all(f"| `{name}` |" in text for name in names)


def test_the_list_of_suites_has_their_licences_and_addresses_and_what_was_regenerated(deeploc):
    listed = [one for one in printed_json(deeploc("list", "suites", "--json")) if one["name"] in TREES]
    assert {one["name"] for one in listed} == set(TREES)
    assert all(one["license"] and one["reference"].startswith("https://") for one in listed)
    assert {one["generator"] for one in listed if one["regenerated"]} == {"sd2-fr", "sdxl-fr"}


def test_a_description_of_another_copy_stands_for_the_suite(registry, tmp_path):
    text = (SUITES / "coverage.toml").read_text().replace("image/{id}t.tif", "edited/{id}t.tif")
    (tmp_path / "mine.toml").write_text(text)
    found = registry.suite(str(tmp_path / "mine.toml"))
    assert [owned.spec.name for owned in found] == ["authentic", "coverage"]
    assert found[1].spec.build.args[0].images == "edited/{id}t.tif"


@pytest.mark.parametrize("name", TREES)
def test_a_right_tree_is_clean_with_each_mask_where_the_edit_is(checked, name):
    suite, findings = checked(name, stored(name))
    assert [finding.line for finding in findings if not finding.is_note] == []
    counts = {
        generator.name: tuple(len(generator.splits.get(split, ())) for split in ("train", "valid", "test"))
        for generator in suite.generators.values()
    }
    assert counts.pop("authentic")[2] > 0 and counts == COUNTS[name]
    assert {finding.check for finding in findings} - {"unused"} == KINDS.get(name, {"spliced"})
    whole = tuple(name for name, part in manifest(suite).generators.items() if part.regenerated)
    assert whole == (("sd2-fr", "sdxl-fr") if name == "tgif-fr" else ())
    for generator in counts:
        areas = [entry.mask_area for entry in suite.generators[generator].splits["test"].entries]
        assert areas == pytest.approx([16 * 18] * len(areas), rel=0.05)


@pytest.mark.parametrize("name", TREES)
def test_a_mask_of_another_size_a_broken_image_and_a_lacking_mask_are_named(checked, name):
    planted = stored(name)
    tested = {one.shot.mask or one.shot.image: one for one in planted if one.mask and "training" not in one.shot.image}
    small, lacking, broken = list(tested.values())[:3]
    broken.image = broken.image[: len(broken.image) // 3]
    for one in planted:
        if one is small or (one.shot.mask and one.shot.mask == small.shot.mask):
            one.mask = encoded(mask_pixels(name, small.shot.truth[:20, :24]), small.shot.mask or "")
        if one is lacking or (one.shot.mask and one.shot.mask == lacking.shot.mask):
            one.mask = encoded(np.zeros((40, 48), np.uint8), "") if name in TABLES else None
    found = told(checked(name, planted)[1])
    wrong = {"size": small, "unreadable": broken, "empty" if name in TABLES else "missing": lacking}
    assert set(found) == set(wrong)
    for check, one in wrong.items():
        file, _, row = one.shot.image.partition("#")
        assert (file if row or check == "unreadable" else Path(one.shot.mask).stem) in found[check]


@pytest.mark.parametrize("name", ["coverage", "imd2020", "nist16", "tgif"])
def test_masks_that_are_inverted_are_named(checked, name):
    planted = stored(name)
    for one in planted:
        one.mask = one.mask and encoded(mask_pixels(name, ~one.shot.truth), one.shot.mask)
    assert "the masks are inverted" in told(checked(name, planted)[1])["edit"]


def test_a_coloured_mask_without_its_color_is_named(checked):
    planted = stored("columbia")
    planted[0].mask = encoded(np.full((40, 48, 3), (255, 0, 0), np.uint8), "a.jpg")
    found = told(checked("columbia", planted)[1])
    assert set(found) == {"empty"} and "none is more green than of another color" in found["empty"]


@pytest.mark.parametrize("name", ["tgif", "tgif-fr"])
def test_a_photograph_that_is_trained_and_tested_on_is_named(checked, name):
    planted = stored(name)
    for one in [one for one in planted if "training/dog/000002" in one.shot.image]:
        image, mask = ((text or "").replace("training", "testing") for text in (one.shot.image, one.shot.mask))
        planted.append(replace(one, shot=replace(one.shot, image=image, mask=mask or None)))
    found = told(checked(name, planted)[1])
    assert set(found) == {"leak"} and "source '000002' stands in" in found["leak"]


def test_a_folder_that_is_another_is_answered_with_the_one_that_is_meant(registry, tmp_path):
    (tmp_path / "probe").mkdir()
    suite = load_suite(registry.suite("tgif"), data=str(tmp_path), progress=silent)
    found = told(suite.findings)
    words = "give the folder that holds masks, original, SD2-sp and PS-sp of TGIF. Where they lie otherwise, change"
    assert set(found) == {"dataset"} and found["dataset"].count(words) == 2
    assert suite.absent == ("authentic",)


def test_what_a_suite_may_lack_is_left_out(checked):
    suite, findings = checked("br-gen", [one for one in stored("br-gen") if "Au/" not in one.shot.image])
    assert suite.absent == ("authentic",) and not any(finding.is_error for finding in findings)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_model_is_trained_and_tested_on_a_tree(deeploc, tmp_path, name):
    data = write(tmp_path / "data", name, stored(name))
    flags = ["--protocol", "same", "--model", "residual-unet", "--recipe", "quick", "--set", "epochs=1", "--json"]
    done = deeploc("run", "--suite", name, "--data", data, *flags, "--threads", "1", XDG_CACHE_HOME=str(tmp_path / "c"))
    cells = [cell for cell in printed_json(done)["cells"] if cell["model"] == "residual-unet"]
    assert {cell["test_generator"] for cell in cells} == set(COUNTS[name])
    if name == "tgif-fr":
        assert "sd2-fr, sdxl-fr: masks say where the edit was asked for" in deeploc("results").stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TREES if name not in TRAINED])
def test_predictions_are_scored_on_a_tree_that_is_tested_only(deeploc, registry, tmp_path, name):
    data = write(tmp_path / "data", name, stored(name))
    generator = next(iter(COUNTS[name]))
    (spec,) = (owned.spec for owned in registry.suite(name) if owned.spec.name == generator)
    (tmp_path / "heatmaps").mkdir()
    for sample in spec.build(data)["test"]:
        Image.new("L", (48, 40), 255).save(tmp_path / f"heatmaps/{sample.id}.png")
    where = ["--suite", name, "--generator", generator, "--name", "all", "--data", data, "--json"]
    done = deeploc("score", "heatmaps", *where, XDG_CACHE_HOME=str(tmp_path / "c"))
    (cell,) = [cell for cell in printed_json(done)["cells"] if cell["model"] == "all"]
    assert cell["iou"] == pytest.approx(16 * 18 / (48 * 40), rel=0.05)
