"""The main job on a suite that trains in seconds: what is trained, what is reused, what fails alone."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from conftest import printed_json, records_of


def test_loo_leaves_out_each_generator_and_prints_the_baselines_beside_it(deeploc, tiny, tmp_path):
    done = deeploc("run", *tiny, "--set", "epochs=2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "loo · tiny · residual-unet + jaccard · quick, epochs=2 · seed 0"
    headers, _, *rows = [line for line in lines if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == ["w/o bright", "w/o dark", "mean"]
    assert all(name in headers for name in ("all-manipulated", "local-noise", "position-prior"))
    assert done.stdout.endswith("2 trained, 0 reused, 0 failed · runs\n")


def test_a_finished_run_is_reused_byte_for_byte_and_printed_again_by_results(deeploc, tiny, tmp_path):
    first = deeploc("run", *tiny, "--set", "epochs=1")
    before = records_of(tmp_path / "runs")
    second = deeploc("run", *tiny, "--set", "epochs=1")
    assert second.stdout == first.stdout.replace("2 trained, 0 reused", "0 trained, 2 reused")
    assert records_of(tmp_path / "runs") == before
    table = first.stdout.rpartition("\n\n")[0]
    assert deeploc("results").stdout.rstrip() == table.rstrip()


@pytest.mark.slow
def test_where_progress_cannot_be_seen_each_epoch_has_a_line(deeploc, tiny):
    done = deeploc("run", *tiny, "--set", "epochs=2", "--protocol", "loo")
    lines = [line for line in done.stderr.splitlines() if ": epoch " in line]
    assert len(lines) == 2 * 2
    assert re.fullmatch(
        r"residual-unet \+ jaccard on \w+ seed 0: epoch 1 of 2, "
        r"loss \d\.\d{3}, validation IoU \d\.\d{3}, \d+\.\d s",
        lines[0],
    )


@pytest.mark.slow
def test_protocols_share_their_trainings(deeploc, tiny):
    flags = ["--protocol", "same", "--protocol", "loo", "--protocol", "cross", "--set", "epochs=1", "--json"]
    printed = printed_json(deeploc("run", *tiny, *flags))
    cells = [cell for cell in printed["cells"] if cell["loss"]]
    assert printed["trained"] == 2  # of two generators, leaving one out is training on the other
    assert [cell["protocol"] for cell in cells] == ["same"] * 2 + ["loo"] * 2 + ["cross"] * 4
    assert {cell["training"] for cell in cells if cell["protocol"] == "loo"} == {cell["training"] for cell in cells}


@pytest.mark.slow
def test_json_scores_equal_a_recomputation_from_the_csv(deeploc, tiny, tmp_path):
    printed = printed_json(deeploc("run", *tiny, "--set", "epochs=1", "--json"))
    for cell in printed["cells"]:
        path = tmp_path / "runs" / cell["training"] / f"test-{cell['test_generator']}.csv"
        rows = list(csv.DictReader(path.read_text().splitlines()))
        ious = [int(r["tp"]) / (int(r["tp"]) + int(r["fp"]) + int(r["fn"])) for r in rows]
        assert cell["iou"] == float(np.mean(ious))
        assert (cell["images"], cell["sources"]) == (10, 5)


@pytest.mark.slow
def test_baselines_are_cells_without_loss_and_never_counted_as_trained(deeploc, tiny):
    printed = printed_json(deeploc("run", *tiny, "--set", "epochs=1", "--json"))
    baselines = [cell for cell in printed["cells"] if cell["loss"] is None]
    assert sorted({cell["model"] for cell in baselines}) == ["all-manipulated", "local-noise", "position-prior"]
    everything = [cell["iou"] for cell in baselines if cell["model"] == "all-manipulated"]
    np.testing.assert_allclose(everything, 24 * 20 / 64**2)


@pytest.mark.slow
def test_a_nan_loss_fails_alone_with_exit_code_1(deeploc, tiny, tmp_path):
    plugin = tmp_path / "nan_loss.py"
    plugin.write_text(
        "from deeploc_bench import Loss, hookimpl\n"
        "def build():\n    return lambda logits, masks: (logits * float('nan')).mean()\n"
        "@hookimpl\ndef deeploc_losses():\n    return [Loss(name='nan-loss', build=build)]\n"
    )
    flags = ["--plugin", plugin, "--loss", "nan-loss", "--loss", "jaccard", "--set", "epochs=1", "--json"]
    done = deeploc("run", *tiny, *flags)
    printed = printed_json(done)
    assert done.returncode == 1
    assert (printed["trained"], len(printed["failed"])) == (2, 2)
    assert all("the loss is nan in epoch 1" in failure["reason"] for failure in printed["failed"])
    assert all(cell["loss"] != "nan-loss" for cell in printed["cells"])


@pytest.mark.slow
def test_changed_test_data_is_tested_anew_without_training(deeploc, tiny, tmp_path):
    deeploc("run", *tiny, "--set", "epochs=1")
    before = records_of(tmp_path / "runs")
    done = deeploc("run", *tiny, "--set", "epochs=1", TINY_SHIFT="1")
    assert "0 trained, 2 reused" in done.stdout
    assert records_of(tmp_path / "runs") != before


@pytest.mark.slow
def test_an_observer_hears_of_epochs_and_trainings_and_cannot_stop_them(deeploc, tiny, tmp_path):
    plugin = tmp_path / "observer.py"
    plugin.write_text(
        "from deeploc_bench import hookimpl\n"
        "@hookimpl\ndef deeploc_epoch_finished(training, epoch):\n"
        "    open('heard', 'a').write(f\"{training.train_generators} {epoch.epoch}\\n\")\n"
        "@hookimpl\ndef deeploc_training_finished(training, records):\n    raise RuntimeError('deaf')\n"
    )
    done = deeploc("run", *tiny, "--plugin", plugin, "--set", "epochs=2")
    assert done.returncode == 0
    assert len((tmp_path / "heard").read_text().splitlines()) == 4
    assert "warning: observer observer: deeploc_training_finished" in done.stderr


@pytest.mark.slow
def test_the_training_folder_holds_what_the_readme_says(deeploc, tiny, tmp_path):
    deeploc("run", *tiny, "--set", "epochs=2")
    (folder,) = (tmp_path / "runs/tiny/residual-unet+jaccard/dark").iterdir()
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    told, tests = {"samples.json"}, {"test-bright.csv", "test-bright.hist.safetensors"}
    assert names == {"training.json", "environment.json", "epochs.csv", "model.safetensors", "examples", *told, *tests}
    assert json.loads((folder / "training.json").read_text())["identity"].startswith(folder.name[-8:])
    assert [row["epoch"] for row in csv.DictReader((folder / "epochs.csv").read_text().splitlines())] == ["1", "2"]
    assert len(list((folder / "examples").glob("bright-*.png"))) == 3


def test_a_matched_budget_is_another_training_with_as_many_samples_as_one_generator(deeploc):
    flags = ["--protocol", "loo", "--budget", "matched", "--dry-run"]
    done = deeploc("run", *flags)
    assert done.stdout.count("epochs done, 288 samples") == 4 and done.stdout.count("to fit, 288 samples") == 8
    assert done.stdout.splitlines()[-1] == "4 trainings, 8 fits of baselines and 29 tests to do"


@pytest.mark.slow
def test_damaged_records_are_one_message_that_names_the_file(deeploc, tiny, tmp_path):
    deeploc("run", *tiny, "--set", "epochs=1")
    (table,) = (tmp_path / "runs").glob("tiny/residual-unet*/dark/*/test-bright.csv")
    table.write_text(table.read_text().replace(",", ";", 20))
    done = deeploc("run", *tiny, "--set", "epochs=1")
    assert done.returncode == 2
    assert "test-bright.csv is damaged" in done.stderr and "Traceback" not in done.stderr
