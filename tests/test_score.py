"""Predictions made elsewhere are scored like any training's; predictions of known quality get the values by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from conftest import printed_json, records_of
from PIL import Image
from tiny import build
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.plan import store
from deeploc_bench.plan.store import Tested
from deeploc_bench.scoring.dialects import find_dialect

DARK = {sample.id: sample for sample in build(-1)()["test"]}
BASELINES = ("all-manipulated", "local-noise", "position-prior")
AREA, PIXELS, SHIFT = 24 * 20, 64 * 64, 5
KEPT = 24 * (20 - SHIFT)  # of a 24 x 20 patch moved by 5 pixels to the side
# the tiny suite has one patch of 24 x 20 pixels an image: pred_mask of a truth, and its tp, fp and fn by hand
QUALITIES = {
    "truth": (lambda mask: mask, (AREA, 0, 0)),
    "inverted truth": (lambda mask: ~mask, (0, PIXELS - AREA, AREA)),
    "empty": (np.zeros_like, (0, 0, AREA)),
    "shifted": (lambda mask: np.roll(mask, SHIFT, axis=1), (KEPT, AREA - KEPT, AREA - KEPT)),
}


@pytest.fixture
def score(deeploc, tiny, tmp_path):
    def run(predictions, *flags, name="elsewhere", generator="dark"):
        where = ["--suite", "tiny", "--generator", generator, "--name", name, *tiny[:2]]
        return deeploc("score", predictions, *where, *flags)

    return run


def save(folder, heatmaps):
    folder.mkdir()
    for id, heatmap in heatmaps.items():
        Image.fromarray(heatmap).save(folder / f"{id}.png")
    return folder


def truths(change=lambda mask: mask):
    return {id: change(sample.mask()).astype(np.uint8) * 255 for id, sample in DARK.items()}


@pytest.mark.parametrize(
    "quality", ["shifted", *(pytest.param(name, marks=pytest.mark.slow) for name in QUALITIES if name != "shifted")]
)
def test_predictions_of_known_quality_get_the_counts_and_ious_worked_out_by_hand(score, tmp_path, quality):
    change, (tp, fp, fn) = QUALITIES[quality]
    done = score(save(tmp_path / "heatmaps", truths(change)), "--json")
    (cell,) = [cell for cell in printed_json(done)["cells"] if cell["model"] == "elsewhere"]
    assert cell["iou"] == pytest.approx(tp / (tp + fp + fn))
    (file,) = (tmp_path / "runs").glob("*/elsewhere/*/*/test-dark.csv")
    for row in csv.DictReader(file.read_text().splitlines()):
        wide = int(row["tp"]), int(row["fp"]), int(row["fn"])
        assert wide == (tp, fp, fn)
    records = store.read_records(file.parent, Tested(generator="dark"), store.read_facts(file.parent).test_data["dark"])
    by_hand = {"dolos": 0, "declip": 1e-8 / (tp + fp + fn), "smp-batch:4": 1e-7 / (4 * (tp + fp + fn))}
    for name in ("dolos", "declip", "smp-batch:4", "smp-imagewise", "imdlbenco", "photoholmes", "torchmetrics"):
        expected = tp / (tp + fp + fn) + by_hand.get(name, 0)
        assert find_dialect(name).score(records) == pytest.approx(expected, abs=2e-8)


@pytest.mark.slow
def test_every_kind_of_file_gives_the_same_records(score, tmp_path):
    masks = {id: sample.mask() for id, sample in DARK.items()}
    kinds = [
        lambda path, mask: Image.fromarray(mask).save(f"{path}.png"),
        lambda path, mask: Image.fromarray(mask.astype(np.uint8) * 255).save(f"{path}.png"),
        lambda path, mask: Image.fromarray(mask.astype(np.uint16) * 65535).save(f"{path}.png"),
        lambda path, mask: np.save(f"{path}.npy", mask.astype(np.float64)),
        lambda path, mask: np.savez(f"{path}.npz", mask.astype(np.float16)),
        lambda path, mask: np.save(f"{path}.npy", mask[None]),
    ]
    (tmp_path / "mixed").mkdir()
    for place, (id, mask) in enumerate(masks.items()):
        kinds[place % len(kinds)](tmp_path / "mixed" / id, mask)
    np.savez(tmp_path / "all.npz", **masks)
    assert score(tmp_path / "mixed", "--runs", "mixed-runs").returncode == 0
    assert score(tmp_path / "all.npz", "--runs", "archive-runs").returncode == 0
    assert records_of(tmp_path / "mixed-runs") == records_of(tmp_path / "archive-runs")


def mean_iou(heatmaps, way):
    """Return the mean IoU of heatmaps, (h, w), resized by torch to their masks' size, and thresholded there."""
    ious = []
    for id, heatmap in heatmaps.items():
        mask = torch.from_numpy(DARK[id].mask())
        pred = F.interpolate(torch.from_numpy(heatmap)[None, None].float() / 255, size=mask.shape, mode=way)[0, 0] > 0.5
        ious.append(((pred & mask).sum() / (pred | mask).sum()).item())
    return np.mean(ious)


def test_heatmaps_of_another_size_are_resized_bilinearly_before_thresholding(score, tmp_path):
    small = {id: mask[::6, ::6] // 5 * 3 for id, mask in truths().items()}  # 0.6 where manipulated
    done = score(save(tmp_path / "small", small), "--json")
    assert printed_json(done)["cells"][0]["iou"] == pytest.approx(mean_iou(small, "bilinear"), rel=1e-6)
    assert abs(mean_iou(small, "bilinear") - mean_iou(small, "nearest")) > 0.05


def test_all_that_is_missing_extra_or_unreadable_is_listed(score, tmp_path):
    folder = save(tmp_path / "heatmaps", truths())
    (folder / "test-00.png").unlink()
    (folder / "test-03.png").write_bytes(b"no picture")
    (folder / "test-04.png").unlink()
    np.save(folder / "test-04.npy", np.full((64, 64), 3.5))
    Image.new("L", (64, 64)).save(folder / "stranger.png")
    ones = np.zeros((64, 64), np.uint8)
    ones[:8] = 1
    Image.fromarray(ones).save(folder / "test-05.png")
    done = score(folder)
    assert done.returncode == 2
    for told in (
        "1 missing: test-00",
        "1 left out, not called by the id of a test image: stranger",
        "3 unreadable:",
        "test-03: cannot identify",
        "test-04: values from 3.5 to 3.5",
        "test-05: its levels are 0 and 1, those of others 0 and full scale",
    ):
        assert told in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_what_it_was_trained_on_decides_the_row(score, tmp_path):
    folder = save(tmp_path / "heatmaps", truths())
    protocols = {
        flags: [cell["protocol"] for cell in printed_json(score(folder, *flags, "--json"))["cells"]]
        for flags in [(), ("--trained-on", "bright"), ("--trained-on", "dark"), ("--trained-on", "dark,bright")]
    }
    assert [found[0] for found in protocols.values()] == ["score", "loo", "same", "score"]
    models = [cell["model"] for cell in printed_json(score(folder, "--trained-on", "dark,bright", "--json"))["cells"]]
    assert models == ["elsewhere", "all-manipulated", "local-noise", "position-prior"]
    table = score(folder, "--trained-on", "bright").stdout
    assert "loo · tiny · elsewhere · made elsewhere · seed 0" in table and "w/o dark" in table
    assert "| all-manipulated   | local-noise   | position-prior   |" in table


@pytest.fixture
def whole_set(tmp_path):
    """Return a set of predictions on both generators, those on the first inverted."""
    (tmp_path / "set").mkdir()
    save(tmp_path / "set/bright", {id: ~level for id, level in truths().items()})
    save(tmp_path / "set/dark", truths(lambda mask: np.roll(mask, SHIFT, axis=1)))
    return tmp_path / "set"


def test_a_whole_loo_set_is_scored_by_one_command(deeploc, tiny, whole_set):
    where = ["--suite", "tiny", "--name", "elsewhere", "--protocol", "loo", *tiny[:2]]
    done = deeploc("score", "set", *where, "--seed", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert "warning: set/bright: IoU 0.000, but 1.000 if the predictions were inverted" in done.stderr
    found = [cell for cell in printed_json(done)["cells"] if cell["model"] == "elsewhere"]
    assert [(c["protocol"], c["seed"], *c["train_generators"], c["test_generator"]) for c in found] == [
        ("loo", 1, "dark", "bright"),
        ("loo", 1, "bright", "dark"),
    ]
    assert [cell["iou"] for cell in found] == [0, pytest.approx(KEPT / (2 * AREA - KEPT))]
    assert {cell["model"] for cell in printed_json(done)["cells"]} == {"elsewhere", *BASELINES}


@pytest.mark.slow
def test_of_a_whole_set_all_is_kept_or_nothing(score, deeploc, tiny, whole_set, tmp_path):
    where = ["--suite", "tiny", "--name", "elsewhere", "--trained-on", "bright", *tiny[:2]]
    (whole_set / "dark").rename(tmp_path / "dark")
    lacking = deeploc("score", "set", *where)
    assert (lacking.returncode, "missing: dark" in lacking.stderr, (tmp_path / "runs").exists()) == (2, True, False)
    assert score("dark", "--trained-on", "bright").returncode == 0
    before = records_of(tmp_path / "runs")
    save(whole_set / "dark", truths())
    refused = deeploc("score", "set", *where)
    assert (refused.returncode, "nothing is overwritten" in refused.stderr) == (2, True)
    assert records_of(tmp_path / "runs") == before


@pytest.mark.slow
def test_other_records_are_never_overwritten(score, tmp_path):
    folder = save(tmp_path / "heatmaps", truths())
    assert [score(folder).returncode for _ in range(2)] == [0, 0]
    before = records_of(tmp_path / "runs")
    done = score(save(tmp_path / "others", truths(np.zeros_like)))
    assert (done.returncode, "nothing is overwritten" in done.stderr) == (2, True)
    assert records_of(tmp_path / "runs") == before


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--name", "Bad Name"], "expected lower-case letters"),
        (["--name", "residual-unet"], "is a model of plugin 'residual-unet'"),
        (["--generator", "darc"], "Did you mean 'dark'?"),
        (["--trained-on", "brigt"], "Did you mean 'bright'?"),
    ],
)
def test_bad_flags_have_one_clear_message(score, tmp_path, flags, told):
    done = score(save(tmp_path / "heatmaps", truths()), *flags)
    assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (2, True, False)


@pytest.mark.slow
def test_results_show_a_scored_row(score, deeploc, tmp_path):
    score(save(tmp_path / "heatmaps", truths()), "--trained-on", "bright")
    shown = deeploc("results", "--dialect", "smp-batch:4").stdout
    assert "loo · tiny · elsewhere" in shown and "smp-batch:4" in shown
