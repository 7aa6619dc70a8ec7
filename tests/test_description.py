# ruff: noqa: E501
"""Suites that a TOML file describes: each worked description, on a tree of real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import printed_json
from deeploc_bench_plugins.described import deeploc_find_suite
from field_trees import write_rows
from PIL import Image
from reference import read_mask

from deeploc_bench.contract.errors import DataError
from deeploc_bench.data.decoding import MaskRule, decode
from deeploc_bench.data.folders import paired_samples, sample_id

SUITES = Path(__file__).parents[1] / "docs/suites"
SPLITS = ("train", "valid", "test")


def image(file, level=80):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 36), (level, level, level)).save(file, lossless=True)


def mask(file, level=80):
    """Write a mask whose manipulated rows tell which image it belongs to."""
    file.parent.mkdir(parents=True, exist_ok=True)
    levels = np.zeros((36, 40), np.uint8)
    levels[: level // 10] = 255
    Image.fromarray(levels).save(file)


def pairs(root, names, levels=(30, 90, 150)):
    for level, (picture, truth) in zip(levels, names, strict=False):
        image(root / picture, level)
        mask(root / truth, level)


def images_masks(root):
    for folder in ("training", "validation", "testing"):
        pairs(root, [(f"images/{folder}/{name}.webp", f"masks/{folder}/{name}.png") for name in ("b", "a1", "a")])


def au_tp_gt(root):
    pairs(root, [("Tp/z.png", "Gt/z_gt.png"), ("Tp/a.tif", "Gt/a_gt.png"), ("Tp/a b(1).png", "Gt/a b(1)_gt.bmp")])
    image(root / "Au/real.png")


def lists(root, write):
    for split in SPLITS:
        named = [(f"Tp/{split}-z.png", f"Gt/{split}-1.png"), (f"Tp/{split}-a.png", f"Gt/{split}-2.png")]
        pairs(root, named)
        image(root / f"Au/{split}-real.png")
        write(root, split, named, f"Au/{split}-real.png")


def json_pairs(root):
    def write(root, split, named, real):
        (root / f"{split}.json").write_text(json.dumps([*named, (real, "Negative")]))

    lists(root, write)


def text_list(root):
    def write(root, split, named, real):
        lines = [f"{a} {b} 1" for a, b in named] + [f"{real} None 0"]
        (root / f"{split}.txt").write_text("\n".join(lines))

    lists(root, write)


def csv(root):
    rows = ["image,mask,split,generator,label"]
    for split in SPLITS:
        for generator in ("first", "second"):
            named = [(f"x/{generator}{split}p-{i}.png", f"y/{generator}{split}q-{9 - i}.png") for i in range(2)]
            pairs(root, named)
            rows += [f"{a},{b},{split},{generator},1" for a, b in named]
        image(root / f"x/{split}r-0.png")
        rows.append(f"x/{split}r-0.png,,{split},,0")
    (root / "table.csv").write_text("\n".join(rows))


def parquet(root):
    def row(id, level, label, is_edited=True):
        image(root / "made.png", level)
        mask(root / "made_mask.png", level)
        made, truth = ((root / name).read_bytes() for name in ("made.png", "made_mask.png"))
        return {"name": id, "image": made, "edit": truth if is_edited else None, "label": label}

    for split in SPLITS:
        rows = [row(f"partial/{split}-{name}.png", level, 1) for name, level in (("z", 30), ("a", 90))]
        rows += [
            row(f"whole/{split}", 60, 1),
            row(f"whole/{split}-2", 70, 1, False),
            row(f"real/{split}", 80, 0, False),
        ]
        write_rows(root / f"data/{'validation' if split == 'valid' else split}-00000-of-00001.parquet", rows)


def frames(root):
    for split in SPLITS:
        for level, video in ((30, "a"), (90, "b")):
            for name in ("01", "02"):
                image(root / f"{split}/frames/{split}{video}/{name}.jpg", level)
                mask(root / f"{split}/masks/{split}{video}/{name}.png", level)
                image(root / f"{split}/original/{split}{video}/{name}.png")
        image(root / f"{split}/frames/{split}a/01_preview.png")


# each tree, and what its description finds: how many samples by generator, and a source
TREES = {
    "images-masks": (images_masks, {"my-generator": (3, 3, 3)}, "a"),
    "au-tp-gt": (au_tp_gt, {"edited": (0, 0, 3), "authentic": (0, 0, 1)}, "a"),
    "json-pairs": (json_pairs, {"pairs": (2, 2, 2), "authentic": (0, 0, 1)}, "test-a"),
    "text-list": (text_list, {"listed": (2, 2, 2), "authentic": (0, 0, 1)}, "test-a"),
    "csv": (csv, {"first": (2, 2, 2), "second": (2, 2, 2), "authentic": (1, 1, 1)}, "firsttestp"),
    "frames": (frames, {"inpainted": (4, 4, 4), "authentic": (4, 4, 4)}, "testa"),
    "parquet": (parquet, {"inpainted": (2, 2, 2), "authentic": (1, 1, 1)}, "partial_test-a"),
}


def built(name, root):
    return {spec.name: spec.build(root) for spec in deeploc_find_suite(str(SUITES / f"{name}.toml"))}


@pytest.mark.parametrize("name", TREES)
def test_each_worked_description_finds_its_images_masks_splits_and_sources(name, tmp_path):
    make, counts, source = TREES[name]
    make(tmp_path)
    found = built(name, tmp_path)
    assert {g: tuple(len(splits.get(s, ())) for s in SPLITS) for g, splits in found.items()} == counts
    tested = sorted(sample.source for sample in found[next(iter(counts))]["test"])
    assert source in tested


@pytest.mark.parametrize("name", TREES)
def test_every_image_has_its_own_mask_whatever_the_order_of_the_names(name, tmp_path):
    TREES[name][0](tmp_path)
    for generator, splits in built(name, tmp_path).items():
        for sample in (sample for part in splits.values() for sample in part):
            truth = read_mask(sample, inverted=False)
            level = int(decode(sample, MaskRule()).image[0, 0, 0])
            assert (truth is None) == (generator == "authentic")
            assert truth is None or truth.sum() == 40 * (level // 10)


def test_the_docs_name_every_worked_description():
    text = (SUITES.parent / "suites.md").read_text()
    assert {file.stem for file in SUITES.glob("*.toml")} == set(TREES)
    assert all(f"suites/{name}.toml" in text for name in TREES)


BAD = {
    "no TOML": ("suite = ", "is not TOML"),
    "a misspelt key": ('[[generator]]\nname = "a"\nimagess = "x"', "Did you mean 'images'?"),
    "no generator": ('suite = "a"\ngenerator = []', "needs [[generator]]s"),
    "a template without id": ('[[generator]]\nname = "a"\nimages = "{split}/x.png"\nmasks = "{id}"', "must hold {id}"),
    "a way out": ('[[generator]]\nname = "a"\nimages = "../{split}/{id}.png"\nmasks = "{id}"', "stay below the data root"),
    "no split": ('[[generator]]\nname = "a"\nimages = "{id}.png"\nmasks = "{id}.png"', "say how it is split"),
    "no masks": ('[[generator]]\nname = "a"\nimages = "{split}/{id}.png"', "needs masks"),
    "a bad name": ('[[generator]]\nname = "A B"\nimages = "{split}/{id}"\nmasks = "{id}"', "expected lower-case letters"),
    "a bad role": ('[[generator]]\nname = "a"\nrole = "other"', "'other'; expected one of standard, test-only"),
    "a bad expression": ('source = "("\n[[generator]]\nname = "a"', "missing ), unterminated subpattern"),
    "shares that are not the whole": ('shares = { train = 0.8, test = 0.1 }\n[[generator]]\nname = "a"\nsplit = "test"\nimages = "{id}.png"\nmasks = "m/{id}.png"', "shares are { train = 0.8, test = 0.1 }; each must be above 0, and their sum 1"),
    "a strange color": ('[[generator]]\nname = "a"\nmask_color = "pink"', "'pink'; expected one of blue, green, red"),
    "a color and a level": ('[[generator]]\nname = "a"\nsplit = "test"\nimages = "{id}.png"\nmasks = "m/{id}.png"\nmask_color = "red"\nmask_above = 3', "mask_color='red' and mask_above=3.0; allowed: red, green, blue, without mask_above"),
    "tables and folders": ('[[generator]]\nname = "a"\nparquet = "{split}.parquet"\nmasks = "m/{id}.png"', "drop images, masks and lists, or parquet"),
    "tables without splits": ('[[generator]]\nname = "a"\nparquet = "a.parquet"', "say how it is split in one way"),
    "tables elsewhere": ('[[generator]]\nname = "a"\nparquet = { test = "../a.parquet" }', "parquet: '../a.parquet' leads out of the data root"),
    "rows of no table": ('[[generator]]\nname = "a"\nsplit = "test"\nimages = "{id}.png"\nmasks = "m/{id}.png"\nrows = "x"', "are about parquet, which is not there"),
    "columns of nothing": ('[[generator]]\nname = "a"\nsplit = "test"\nimages = "{id}.png"\nmasks = "m/{id}.png"\ncolumns = { source = "x" }', "columns is about lists or parquet"),
    "rows by a bad expression": ('[[generator]]\nname = "a"\nparquet = "{split}.parquet"\nrows = "("', "is not a regular expression"),
    "what is trained on and may be lacking": ('[[generator]]\nname = "a"\nsplit = "test"\nimages = "{id}.png"\nmasks = "m/{id}.png"\noptional = true', "what is trained on cannot be lacking"),
    "an expression without a group": ('source = "a+"\n[[generator]]\nname = "a"', "has no group"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_description_has_one_clear_message(what, deeploc, tmp_path):
    text, words = BAD[what]
    (tmp_path / "bad.toml").write_text(text if "suite =" in text else f'suite = "bad"\n{text}')
    done = deeploc("data", "check", "bad.toml", "--data", tmp_path)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


@pytest.mark.slow
def test_a_described_suite_is_checked_trained_and_tested(deeploc, tmp_path):
    random = np.random.default_rng(0)
    for folder in ("training", "validation", "testing"):
        for i in range(6):
            mask(tmp_path / f"data/masks/{folder}/{folder}{i}.png", 100 + 10 * i)
            noise = random.integers(0, 256, (36, 40, 3)).astype(np.uint8)
            (tmp_path / f"data/images/{folder}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(tmp_path / f"data/images/{folder}/{folder}{i}.png")
    suite = ["--suite", SUITES / "images-masks.toml", "--data", tmp_path / "data"]
    flags = ["--protocol", "same", "--model", "residual-unet", "--recipe", "quick", "--set", "epochs=1", "--json"]
    done = deeploc("run", *suite, *flags, "--threads", "1", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert printed_json(done)["suite"] == "my-suite" and printed_json(done)["trained"] == 1
    assert (tmp_path / "runs/my-suite/residual-unet+jaccard").is_dir()


def test_a_list_that_leads_out_of_the_data_root_is_refused(tmp_path):
    json_pairs(tmp_path)
    (tmp_path / "test.json").write_text('[["../secret.png", "Gt/a.png"]]')
    with pytest.raises(DataError, match="leads out of the data root"):
        built("json-pairs", tmp_path)


def test_two_masks_for_one_image_are_named(tmp_path):
    au_tp_gt(tmp_path)
    mask(tmp_path / "Gt/z_gt.tif")
    with pytest.raises(DataError, match=r"z_gt.tif and .*z_gt.png both fit"):
        built("au-tp-gt", tmp_path)


def test_paired_samples_pair_by_stem_and_keep_what_lacks_its_partner(tmp_path):
    pairs(tmp_path, [("images/b.png", "masks/b_m.png"), ("images/a.png", "masks/a_m.tif")])
    (tmp_path / "masks/b_m.png").unlink()
    image(tmp_path / "masks/c_m.png")
    (tmp_path / "images/notes.txt").write_text("no image")
    found = paired_samples(tmp_path / "images", tmp_path / "masks", mask_suffix="_m")
    assert [(s.id, s.image.exists(), s.mask.exists()) for s in found] == [
        ("a", True, True),
        ("b", True, False),
        ("c", False, True),
    ]


@pytest.mark.parametrize(
    ("stem", "id"),
    [
        ("a b(1)", "a_b_1_"),
        ("_x", "x_x"),
        ("ä-1", "ue4-1"),
        ("a\u0308-1", "ue4-1"),
        ("京都", "u4eacu90fd"),
        ("a.b", "a.b"),
    ],
)
def test_stems_become_ids(stem, id):
    assert sample_id(stem) == id


def test_long_stems_that_differ_at_their_ends_stay_two_ids():
    first, second = sample_id("京" * 90 + "1"), sample_id("京" * 90 + "2")
    assert (len(first), len(second), first == second) == (200, 200, False)
