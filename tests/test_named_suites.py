"""The suites of the field's data sets, by name, each on a small tree of its exact shape."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import printed_json
from deeploc_bench_plugins.described import SUITES
from field_trees import TREES, encoded, mask_pixels, stored, write
from PIL import Image
from pyarrow import parquet

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
DETECTOR = '''"""Takes for manipulated what is red."""
from deeploc_bench import Model, hookimpl

def build():
    from torch import nn

    class Red(nn.Module):
        def forward(self, images):
            return 10 * (images[:, :1] - images[:, 1:2])

    return Red()

@hookimpl
def deeploc_models():
    return [Model(name="red", build=build, reference=None, pretraining="none", trainable=False, trained_on=[])]
'''
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


SCENE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
NO_MASKS = {
    "photograph": np.asarray(Image.fromarray(SCENE[::8, ::8]).resize((48, 40))),
    "gray": np.repeat(SCENE[::8, ::8, :1], 8, axis=0).repeat(8, axis=1).repeat(3, axis=2),
    "negative": 255 - mask_pixels("columbia", np.arange(48) > np.full((40, 1), 20)),
}


@pytest.mark.parametrize("what", NO_MASKS)
def test_a_picture_of_many_colors_is_no_coloured_mask(checked, what):
    planted = stored("columbia")
    planted[0].mask = encoded(NO_MASKS[what], "a.jpg")
    found = told(checked("columbia", planted)[1])
    assert set(found) == {"gray"} and "of its pixels are of no one color; is it a mask?" in found["gray"]


@pytest.mark.parametrize("name", ["casia-v1", "columbia", "tgif", "autosplice"])
def test_a_suffix_in_capitals_is_the_same_type(checked, name):
    planted = stored(name)
    for one in planted[:3]:
        file = Path(one.shot.image)
        one.shot = replace(one.shot, image=str(file.with_suffix(file.suffix.upper())))
    suite, findings = checked(name, planted)
    assert [finding.line for finding in findings if not finding.is_note] == []
    assert {key: len(suite.generators[key].splits["test"]) for key in COUNTS[name]} == {
        key: count[2] for key, count in COUNTS[name].items()
    }


def test_a_folder_that_has_masks_and_no_images_is_named(checked):
    planted = stored("casia-v1")
    for one in planted:
        one.image = None if "Tp/Sp/" in one.shot.image else one.image
    found = told(checked("casia-v1", planted)[1])
    assert set(found) == {"missing"} and "data/Tp/Sp/" in found["missing"]


@pytest.mark.parametrize("name, folder", [("coverage", "mask"), ("cocoglide", "fake"), ("nist16", "probe")])
def test_a_file_in_the_place_of_a_folder_is_named(registry, tmp_path, name, folder):
    root = write(tmp_path / "data", name, stored(name))
    shutil.rmtree(root / folder)
    (root / folder).write_text("a link that the other system did not follow")
    found = told(load_suite(registry.suite(name), data=str(root), progress=silent).findings)
    assert found and all(f"data/{folder}" in text for text in found.values()), found


def test_a_mask_that_covers_all_is_a_warning(checked):
    planted = stored("imd2020")
    first = next(one for one in planted if one.mask)
    first.mask = encoded(np.where(first.shot.truth, 147, 30).astype(np.uint8), first.shot.mask)
    warned = [finding for finding in checked("imd2020", planted)[1] if finding.level == "warning"]
    assert [finding.check for finding in warned] == ["full"] and Path(first.shot.image).name in str(warned[0])


def test_a_single_inverted_mask_is_a_warning_that_names_it(checked):
    planted = stored("coverage")
    one = next(one for one in planted if one.mask)
    one.mask = encoded(mask_pixels("coverage", ~one.shot.truth), one.shot.mask)
    warned = [finding for finding in checked("coverage", planted)[1] if finding.level == "warning"]
    assert [finding.check for finding in warned] == ["elsewhere"]
    assert "edited outside its mask; is it inverted?" in str(warned[0]) and str(warned[0]).startswith(
        "coverage/test: 1"
    )


def test_authentic_photographs_of_training_are_not_called_unused(checked):
    assert "unused" not in {finding.check for finding in checked("imd2020", stored("imd2020"))[1]}


def test_a_right_mask_of_a_flat_edit_among_images_that_changed_all_over_is_not_called_inverted(checked):
    planted = stored("coverage")
    first, *others = (one for one in planted if one.mask)
    for one in others:
        noise = np.random.default_rng(0).integers(-2, 3, one.shot.pixels.shape)
        one.image = encoded((one.shot.pixels + noise).clip(0, 255).astype(np.uint8), one.shot.image)
    truth, (real,) = first.shot.truth[..., None], [one for one in planted if one.shot.image == "image/1.tif"]
    flat, changed = np.where(truth, 120, real.shot.pixels), np.random.default_rng(0).random((40, 48, 1)) < 0.5
    real.image = encoded(flat.astype(np.uint8), "a.tif")
    first.image = encoded((flat + 2 * truth + 30 * changed * ~truth).astype(np.uint8), "a.tif")
    assert not any("inverted" in str(finding) for finding in checked("coverage", planted)[1])


def test_a_mask_of_one_color_on_gray_is_read(checked):
    planted = stored("columbia")
    truth = planted[0].shot.truth
    planted[0].mask = encoded(np.where(truth[..., None], (0, 255, 0), (128, 128, 128)).astype(np.uint8), "a.jpg")
    assert told(checked("columbia", planted)[1]) == {}


ROWS = {
    "no label": ("sid-set", lambda table: table.drop_columns("label"), "has no column 'label'"),
    "empty label": (
        "sid-set",
        lambda table: table.set_column(3, "label", [[None] * len(table)]),
        "row 0: its label is empty",
    ),
    "lost mask": (
        "sid-set",
        lambda table: without_mask(table, "validation_000011"),
        "validation_000011 is edited",
    ),
    "lost masks": ("opensdi", lambda table: without_mask(table, "partial/fake"), "partial/fake/000041 is edited"),
}


def without_mask(table, name):
    """Return a table of which the rows whose first column says so have lost their masks."""
    masks = [
        None if name in id else mask for id, mask in zip(*(table.column(n).to_pylist() for n in (0, 2)), strict=True)
    ]
    return table.set_column(2, "mask", [masks])


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_lost_what_tells_of_them_are_an_error(registry, tmp_path, what):
    name, change, words = ROWS[what]
    root = write(tmp_path / "data", name, stored(name))
    (file,) = root.glob("data/validation-*" if name == "sid-set" else "OpenSDI_test/data/sd15-*")
    table = parquet.read_table(file)
    parquet.write_table(change(table).cast(table.schema) if what != "no label" else change(table), file)
    assert words in told(load_suite(registry.suite(name), data=str(root), progress=silent).findings)["dataset"]


@pytest.mark.parametrize("name", TABLES)
def test_a_download_that_is_not_whole_is_named_and_what_another_system_left_is_not(registry, tmp_path, name):
    root = write(tmp_path / "data", name, stored(name))
    file = next(root.rglob("validation-*" if name == "sid-set" else "flux-*"))
    (file.parent / f"._{file.name}").write_bytes(b"Mac OS X")
    assert not told(load_suite(registry.suite(name), data=str(root), progress=silent).findings)
    file.rename(file.with_name(file.name.replace("00000-of-00001", "00003-of-00070")))
    found = told(load_suite(registry.suite(name), data=str(root), progress=silent).findings)
    assert set(found) == {"dataset"} and "1 of 70 files are here; fetch the rest" in found["dataset"]


def test_a_list_that_says_edited_of_an_image_without_a_mask_is_an_error(registry, tmp_path):
    root = write(tmp_path / "data", "nist16", stored("nist16"))
    table = root / "reference/manipulation/NC2016-manipulation-ref.csv"
    first = next(line for line in table.read_text().splitlines() if line.endswith("|Y"))
    table.write_text(table.read_text().replace(first, first.replace(first.split("|")[2], "")))
    found = told(load_suite(registry.suite("nist16"), data=str(root), progress=silent).findings)
    assert f"{first.split('|')[1]} has label Y and no mask" in found["dataset"]


def test_a_detector_is_tested_on_a_suite_that_nothing_can_be_trained_on(deeploc, tmp_path):
    data = write(tmp_path / "data", "coverage", stored("coverage"))
    (tmp_path / "red.py").write_text(DETECTOR)
    ran = ["run", "--suite", "coverage", "--data", data, "--plugin", "red.py"]
    done = deeploc(*ran, "--model", "red", "--json")
    cells = printed_json(done)["cells"]
    assert {(cell["model"], cell["test_generator"]) for cell in cells} == {
        ("red", "coverage"),
        ("all-manipulated", "coverage"),
    }
    again = deeploc("results")
    assert again.returncode == 0 and "score · coverage · red" in again.stdout, again.stderr
    beside = deeploc("compare", "red", "all-manipulated", "--protocol", "score")
    assert beside.returncode == 0 and "| coverage" in beside.stdout, beside.stderr
    for command, told in (
        (("submit", "red", "--suite", "coverage", "--contact", "me"), "is tested only, and has no leaderboard"),
        ((*ran, "--model", "position-prior"), "Test another suite's training on it"),
        ((*ran, "--model", "red", "--protocol", "loo"), "--protocol and --budget say what is trained on"),
    ):
        refused = deeploc(*command)
        assert refused.returncode == 2 and told in refused.stderr, refused.stderr


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
