"""Heatmaps that a training predicts are scored back to its own records, and recounted by plain numpy."""

from __future__ import annotations

import csv
import shutil

import msgspec
import numpy as np
import pytest
from conftest import printed_json, run_deeploc
from PIL import Image
from trees import dolos_tree

from deeploc_bench.plan import store
from deeploc_bench.plan.facts import identified
from deeploc_bench.training.heatmaps import read_levels
from deeploc_bench.training.pictures import encoded, overlay


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    tree = dolos_tree(folder / "dolos")
    flags = ["--suite", "dolos", "--data", tree, "--recipe", "quick", "--set", "epochs=3", "--threads", "1"]
    flags += ["--model", "residual-unet", "--protocol", "same", "--json"]
    found = printed_json(run_deeploc(folder, "run", *flags, XDG_CACHE_HOME=str(folder / "cache")))
    (cell,) = [cell for cell in found["cells"] if cell["loss"] and cell["test_generator"] == "lama"]
    return tree, folder / "runs" / cell["training"]


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.mark.slow
def test_predictions_score_back_to_the_same_records_and_numpy_counts_the_same(deeploc, trained, tmp_path):
    tree, training = trained
    images = tree / "celebahq/fake/lama/images/test"
    done = deeploc("predict", training, images, "-o", "predicted")
    assert done.returncode == 0, done.stderr
    flags = ["--suite", "dolos", "--data", tree, "--generator", "lama", "--name", "again", "--trained-on", "lama"]
    scored = deeploc("score", "predicted", *flags, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert scored.returncode == 0, scored.stderr
    (again,) = (tmp_path / "runs/dolos/again").rglob("test-lama.csv")
    assert again.read_text() == (training / "test-lama.csv").read_text()
    for row in rows(training / "test-lama.csv"):
        levels = np.asarray(Image.open(tmp_path / "predicted/heatmaps" / f"{row['id']}.png")).astype(np.float64)
        truth = np.asarray(Image.open(tree / "celebahq/fake/lama/masks/test" / f"{row['id']}.png"))[..., 0] == 0
        found = levels / 65535 > 0.5
        counts = [found & truth, found & ~truth, ~found & truth, ~found & ~truth]
        assert [int(row[name]) for name in ("tp", "fp", "fn", "tn")] == [int(part.sum()) for part in counts]


def test_a_heatmap_reads_back_to_the_same_counts_ties_at_half_among_them(tmp_path):
    around = np.float32(0.5) + np.arange(-40, 40, dtype=np.float32) * np.float32(3e-6)
    heatmap = np.concatenate([around, np.linspace(0, 1, 176, dtype=np.float32)]).reshape(16, 16)
    (tmp_path / "a.png").write_bytes(encoded(heatmap))
    back = read_levels(tmp_path / "a.png")
    assert ((back > 0.5) == (heatmap > 0.5)).all() and ((back == 0.5) == (heatmap == 0.5)).all()
    assert (heatmap == 0.5).sum() == 1 and np.abs(back - heatmap).max() < 1e-5


def test_overlays_darken_the_image_show_the_heatmap_in_red_and_outline_the_predicted_mask():
    heatmap = np.zeros((9, 9), np.float32)
    heatmap[2:7, 3:8], heatmap[0, 0] = 1, 0.5
    found = overlay(np.full((9, 9, 3), 100, np.uint8), heatmap)
    assert found[8, 0].tolist() == [80, 80, 80]
    assert found[4, 5].tolist() == [202, 52, 52]  # 0.3 of 80, 0.7 of (255, 40, 40)
    assert found[0, 0].tolist() == [141, 66, 66]  # half of that, and no outline: 0.5 is not predicted
    outline = (found == (255, 230, 0)).all(axis=2)
    assert outline.sum() == 16 and not outline[3:6, 4:7].any()


@pytest.mark.slow
def test_images_of_any_size_and_kind_are_predicted_at_their_own(deeploc, trained, tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "mixed").mkdir()
    Image.fromarray(random.integers(0, 256, (75, 133)).astype(np.uint8)).save(tmp_path / "mixed/gray.png")
    Image.fromarray(random.integers(0, 256, (40, 32, 4)).astype(np.uint8)).save(tmp_path / "mixed/alpha.png")
    Image.fromarray(random.integers(0, 256, (90, 60, 3)).astype(np.uint8)).save(tmp_path / "mixed/photo.jpg")
    assert deeploc("predict", trained[1], "mixed", "-o", "out").returncode == 0
    shapes = {file.stem: np.asarray(Image.open(file)).shape for file in (tmp_path / "out/heatmaps").iterdir()}
    assert shapes == {"gray": (75, 133), "alpha": (40, 32), "photo": (90, 60)}


@pytest.mark.slow
def test_what_cannot_be_predicted_has_one_clear_message(deeploc, trained, two_layer, tmp_path):
    tree, training = trained
    file = tree / "celebahq/fake/lama/images/test/test0001-1.png"
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "out/heatmaps").mkdir(parents=True)
    (tmp_path / "out/heatmaps/kept.png").touch()
    edited = shutil.copytree(training, tmp_path / "edited")
    facts = store.read_facts(edited)
    changed = msgspec.structs.replace(facts, model=msgspec.structs.replace(facts.model, source="0" * 16))
    store.write_facts(edited, identified(changed))
    for arguments, words in [
        ((tmp_path, file, "-o", "new"), "is not a training's folder"),
        ((training, "broken.png", "-o", "new"), "cannot be predicted"),
        ((training, "absent.png", "-o", "new"), "cannot be predicted"),
        ((training, file, file, "-o", "new"), "two images are called 'test0001-1'"),
        ((training, file, "-o", "out"), "nothing is overwritten"),
        ((edited, file, "-o", "new"), "the code of model 'residual-unet' has changed"),
    ]:
        done = deeploc("predict", *arguments)
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (2, True, False), (
            arguments,
            done.stderr,
        )
    assert not (tmp_path / "new").exists()
