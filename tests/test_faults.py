"""What goes wrong around a run: damaged files, other data, edited code, failures; and no number changes its place."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import printed_json, run_deeploc
from safetensors.torch import save_file

TINY = Path(__file__).parent / "tiny.py"
ONE_EPOCH = ["--recipe", "quick", "--threads", "1", "--set", "epochs=1"]
# a model that fails where the environment says so, for seed 1 trained on dark patches; and a detector never trained
PLUGIN = """
import os
from deeploc_bench import Model, hookimpl

def build():
    import torch
    from torch import nn

    class Failing(nn.Sequential):
        seed = torch.initial_seed()

        def forward(self, images):
            is_dark = self.training and images.min() < 20 / 255
            fails = is_dark and self.seed == 1 and "FAIL" in os.environ
            return super().forward(images) * (float("nan") if fails else 1)

    return Failing(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

def detect():
    from torch import nn
    return nn.Sequential(nn.AvgPool2d(5, 1, 2), nn.Conv2d(3, 1, 1))

@hookimpl
def deeploc_models():
    about = {"reference": None, "pretraining": "none"}
    return [
        Model(name="failing", build=build, **about),
        Model(name="detector", build=detect, trainable=False, **about),
    ]
"""


@pytest.mark.parametrize("command", [["data", "check", "photos"], ["run", "--dry-run"]], ids=" ".join)
def test_data_of_the_environment_does_not_disturb_the_embedded_suite(deeploc, command):
    done = deeploc(*command, DEEPLOC_DATA="/nowhere")
    assert done.returncode == 0, done.stderr


def tiny_run(folder, *flags, model="failing", **environment):
    plugins = ["--plugin", TINY, "--plugin", "plugin.py"]
    return run_deeploc(folder, "run", *plugins, "--suite", "tiny", "--model", model, *ONE_EPOCH, *flags, **environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a plugin and finished trainings of its model and its detector."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "plugin.py").write_text(PLUGIN)
    done = tiny_run(folder, "--model", "detector")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    place = content.index(b'"train": "') + 12
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda content: b"", cut, flipped], ids=["empty", "cut", "a flipped bit"])
def test_a_damaged_training_is_one_message_and_is_restored_without_training_anew(copied, damage):
    before = run_deeploc(copied, "results").stdout
    (file,) = copied.glob("runs/tiny/failing+jaccard/dark/*/training.json")
    file.write_bytes(damage(file.read_bytes()))
    for done in (tiny_run(copied), run_deeploc(copied, "results")):
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
        assert f"training {file.relative_to(copied)}" in done.stderr and "and run its command again." in done.stderr
    file.unlink()
    again = tiny_run(copied, "--json")
    assert (printed_json(again)["trained"], printed_json(again)["reused"]) == (0, 2)
    assert run_deeploc(copied, "results").stdout == before


@pytest.mark.slow
def test_a_runs_folder_copied_below_itself_counts_each_training_once(copied):
    before = run_deeploc(copied, "results")
    shutil.copytree(copied / "runs", copied / "runs/backup")
    again = run_deeploc(copied, "results")
    assert (again.returncode, again.stdout) == (0, before.stdout)
    assert len(json.loads(run_deeploc(copied, "results", "--json").stdout)[0]["cells"]) == 2 + 2 + 3 * 2


@pytest.mark.slow
def test_an_edited_helper_of_a_plugin_is_trained_anew(copied):
    source = PLUGIN.replace("import os\n", "import os\nfrom width import WIDTH\n").replace("8", "WIDTH")
    (copied / "plugin.py").write_text(source)
    (copied / "width.py").write_text("WIDTH = 8\n")
    assert [printed_json(tiny_run(copied, "--json"))["trained"] for _ in range(2)] == [2, 0]
    (copied / "width.py").write_text("WIDTH = 4\n")
    assert [printed_json(tiny_run(copied, "--json"))["trained"] for _ in range(2)] == [2, 0]
    tables = tables_of_text(run_deeploc(copied, "results").stdout)
    experiments = [caption for caption in tables if "failing + jaccard" in caption]
    assert len(experiments) == 3 and all(" · experiment " in caption for caption in experiments)


@pytest.mark.slow
def test_weights_of_a_file_reach_the_model_and_count_by_their_content(deeploc, tiny, tmp_path):
    from segmentation_models_pytorch.encoders import get_encoder

    (tmp_path / "there").mkdir()
    torch.manual_seed(1)
    save_file(get_encoder("resnet18", weights=None).state_dict(), tmp_path / "w.safetensors")
    where = ["run", *tiny[:4], "--model", "unet-resnet18", *ONE_EPOCH, "--json"]
    plain = printed_json(deeploc(*where, "--runs", "plain"))
    loaded = printed_json(deeploc(*where, "--set", "weights=w.safetensors"))
    assert plain["trained"] == loaded["trained"] == 2
    ious = [{cell["model"]: cell["iou"] for cell in one["cells"]} for one in (plain, loaded)]
    assert ious[0]["all-manipulated"] == ious[1]["all-manipulated"]
    # after one epoch both may mark everything: that they are other models shows in the loss
    losses = [[epoch["loss"] for epoch in epochs_below(tmp_path / runs)] for runs in ("plain", "runs")]
    assert len(losses[0]) == 2 and losses[0] != losses[1]
    (tmp_path / "w.safetensors").rename(tmp_path / "there/v.safetensors")
    moved = printed_json(deeploc(*where, "--set", "weights=there/v.safetensors"))
    assert (moved["trained"], moved["reused"]) == (0, 2)
    assert {cell["training"] for cell in moved["cells"]} == {cell["training"] for cell in loaded["cells"]}


def epochs_below(runs):
    """Return every row of the epochs.csv files of a runs folder."""
    files = sorted(runs.rglob("epochs.csv"))
    return [row for file in files for row in csv.DictReader(file.read_text().splitlines())]


@pytest.mark.slow
def test_seeds_tested_on_different_images_are_not_averaged(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    assert tiny_run(tmp_path, "--seed", "0").returncode == 0
    assert tiny_run(tmp_path, "--seed", "1", TINY_SHIFT="1").returncode == 0
    apart = tables_of_text(run_deeploc(tmp_path, "results").stdout)
    seeds = sorted(re.search(r"seeds? .*", caption)[0] for caption in apart if "failing" in caption)
    assert seeds == ["seed 0", "seed 1"]
    together = tiny_run(tmp_path, "--seed", "0", "--seed", "1", TINY_SHIFT="1")
    assert "0 trained, 2 reused" not in together.stdout and "0 trained, 4 reused" in together.stdout
    assert any("seeds 0, 1" in caption for caption in tables_of_text(run_deeploc(tmp_path, "results").stdout))


def tables_of_text(text):
    """Return the tables of printed text by caption, each as lines of fields, the headers first."""
    found, caption = {}, ""
    for line in text.splitlines():
        if line.startswith("|-"):
            continue
        if line.startswith("|"):
            found.setdefault(caption, []).append([field.strip() for field in line.strip("|").split("|")])
        elif line and not line.startswith("intervals: "):
            caption = line
    return found


def tables_of_page(text):
    """Return the tables of a report by caption, each as lines of fields, the headers first."""
    found = {}
    for caption, table in re.findall(r'class="caption"[^>]*>(.*?)</.*?(<table.*?</table>)', text, re.DOTALL):
        lines = re.findall(r"<tr\b[^>]*>(.*?)</tr>", table, re.DOTALL)
        fields = [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", line, re.DOTALL) for line in lines]
        found[html.unescape(caption).partition("\n")[0]] = [
            [html.unescape(field).strip() for field in line] for line in fields
        ]
    return found


def ious_of_csv(file):
    rows = [{key: int(row[key]) for key in ("tp", "fp", "fn")} for row in csv.DictReader(file.read_text().splitlines())]
    return np.array([row["tp"] / (row["tp"] + row["fp"] + row["fn"]) for row in rows])


def lr_of(file):
    return json.loads((file.parent / "training.json").read_text())["recipe"]["lr"]


@pytest.fixture(scope="module")
def scene(finished, tmp_path_factory):
    """Two experiments of two seeds, one of which failed once, a third of one seed that failed once; what each run said.

    A training on dark patches of seed 1 fails: the cell w/o bright.
    """
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("scene") / "scene")
    shutil.rmtree(folder / "runs")
    both = ["--seed", "0", "--seed", "1", "--json", "--model", "detector"]
    runs = {
        0.001: tiny_run(folder, "--set", "lr=0.001", *both, FAIL="1"),
        0.01: tiny_run(folder, "--set", "lr=0.01", *both),
        0.02: tiny_run(folder, "--set", "lr=0.02", "--seed", "1", "--json", FAIL="1"),
    }
    return folder, {lr: printed_json(done) for lr, done in runs.items()}


def expected_ious(folder, lr, seeds):
    """Return the IoU of each pair of an experiment over some seeds, from the csv files alone."""
    found = {}
    for train, test in (("dark", "bright"), ("bright", "dark")):
        files = [
            file
            for seed in seeds
            for file in folder.glob(f"runs/tiny/failing+jaccard/{train}/seed{seed}-*/test-{test}.csv")
            if lr_of(file) == lr
        ]
        found[f"w/o {test}", test] = np.mean([ious_of_csv(file) for file in files]) if files else np.nan
    return found


def table_of(tables, lr):
    """Return the caption and the lines of the table of an experiment."""
    name = f"loo · tiny · failing + jaccard · quick, epochs=1, lr={lr} · "
    (found,) = [(caption, table) for caption, table in tables.items() if caption.startswith(name)]
    return found


@pytest.mark.slow
def test_what_failed_is_told_once_and_the_others_are_done(scene):
    _, runs = scene
    assert {lr: (one["trained"], len(one["failed"])) for lr, one in runs.items()} == {
        0.001: (3, 1),
        0.01: (4, 0),
        0.02: (1, 1),
    }
    (failure,) = runs[0.001]["failed"]
    assert (failure["seed"], failure["train_generators"], failure["test_generator"]) == (1, ["dark"], "bright")
    assert "the loss is nan in epoch 1" in failure["reason"]


@pytest.fixture(scope="module")
def shown(scene):
    """The tables that `results` prints of the scene, and those of its report."""
    folder, _ = scene
    printed = run_deeploc(folder, "results")
    assert run_deeploc(folder, "report").returncode == 0
    return tables_of_text(printed.stdout), tables_of_page((folder / "report.html").read_text("utf-8"))


# the lr of an experiment, its seeds that are averaged, what its table is called after, and its mean
EXPERIMENTS = [
    (0.001, (0,), "seed 0 (incomplete, left out: 1)", None),
    (0.01, (0, 1), "seeds 0, 1", None),
    (0.02, (1,), "seed 1", "1 of 2"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("lr", "seeds", "title", "mean"), EXPERIMENTS)
def test_results_and_report_print_the_means_of_the_csv_files(scene, shown, lr, seeds, title, mean):
    caption, (headers, *lines) = table_of(shown[0], lr)
    assert caption.endswith(f" · {title}") and table_of(shown[1], lr) == (caption, [headers, *lines])
    found = {(line[0], line[1]): dict(zip(headers, line, strict=True)) for line in lines}
    expected = expected_ious(scene[0], lr, seeds)
    assert set(found) == {*expected, ("mean", "")}
    for pair, iou in expected.items():
        assert found[pair]["IoU"] == ("-" if np.isnan(iou) else rounded(iou, found[pair]["IoU"]))
    total = found["mean", ""]["IoU"]
    assert total == (mean or rounded(np.mean(list(expected.values())), total))
    everything = [row["all-manipulated"] for row in found.values()]
    assert everything == [rounded(24 * 20 / 64**2, everything[0])] * 3


def rounded(value, like):
    """Return a fraction with as many digits as another, and its star."""
    return f"{value:.{len(like.rstrip('*').partition('.')[2])}f}" + "*" * like.count("*")


@pytest.mark.slow
def test_run_and_results_print_the_same_cells_as_json(scene):
    folder, runs = scene
    (listed,) = json.loads(run_deeploc(folder, "results", "--json").stdout)
    own = [cell for cell in listed["cells"] if cell["model"] == "failing"]
    assert len(own) == 3 + 4 + 1
    for lr, run in runs.items():
        for cell in (cell for cell in run["cells"] if cell["model"] == "failing"):
            assert cell in own and f"lr={lr}" in cell["recipe"]
    for cell in own:
        file = folder / "runs" / cell["training"] / f"test-{cell['test_generator']}.csv"
        assert cell["iou"] == float(np.mean(ious_of_csv(file)))


@pytest.mark.slow
def test_a_detector_that_is_never_trained_has_a_table_of_its_own_everywhere(copied):
    told = tables_of_text(tiny_run(copied, "--model", "detector").stdout)
    text = tables_of_text(run_deeploc(copied, "results").stdout)
    run_deeploc(copied, "report")
    page = tables_of_page((copied / "report.html").read_text("utf-8"))
    name = "loo · tiny · detector · trained elsewhere: not declared · seed 0"
    headers, *lines = told[name]
    assert told[name] == text[name] == page[name]
    for line in lines[:2]:
        (file,) = copied.glob(f"runs/tiny/detector/untrained/*/test-{line[1]}.csv")
        assert line[2] == rounded(ious_of_csv(file).mean(), line[2])
    others = [table[0] for caption, table in text.items() if "failing" in caption] + [headers]
    assert all("detector" not in names and "all-manipulated" in names for names in others)


@pytest.mark.slow
def test_a_submission_claims_what_results_print(scene, shown, tmp_path):
    folder, _ = scene
    what = ["submit", "failing+jaccard", "--suite", "tiny", "--recipe", "quick, epochs=1, lr=0.01"]
    done = run_deeploc(folder, *what, "--contact", "nobody", "-o", tmp_path / "entry.json")
    assert done.returncode == 0, done.stderr
    claims = json.loads((tmp_path / "entry.json").read_text("utf-8"))["claims"]["loo"]
    expected = expected_ious(folder, 0.01, (0, 1))
    for (_, test), iou in expected.items():
        assert claims["by_generator"][test] == pytest.approx(iou, abs=1e-6)
    _, (headers, *lines) = table_of(shown[0], 0.01)
    mean = dict(zip(headers, lines[2], strict=True))
    assert mean["train on"] == "mean" and mean["IoU"] == rounded(claims["iou"], mean["IoU"])
    bounds = mean[next(header for header in headers if header.startswith("95 % interval"))]
    low, high = map(float, bounds.split(" to "))
    assert low < claims["iou"] < high and high - low > 2 * 1.96 * claims["standard_error"]
    assert mean["sd over seeds"] == rounded(claims["spread"], mean["sd over seeds"])


@pytest.mark.slow
def test_a_generator_called_gap_keeps_its_numbers_on_results_and_leaderboard(tmp_path):
    (tmp_path / "gap_suite.py").write_text(TINY.read_text().replace('"dark"', '"gap"').replace('"tiny"', '"gappy"'))
    plugin = ["--plugin", "gap_suite.py"]
    flags = ["--suite", "gappy", "--model", "residual-unet", "--protocol", "same", "--protocol", "loo", *ONE_EPOCH]
    assert run_deeploc(tmp_path, "run", *plugin, *flags).returncode == 0
    (file,) = tmp_path.glob("runs/gappy/residual-unet+jaccard/bright/*/test-gap.csv")
    iou = ious_of_csv(file).mean()
    tables = tables_of_text(run_deeploc(tmp_path, "results").stdout)
    (lines,) = [table for caption, table in tables.items() if caption.startswith("loo · gappy · residual-unet")]
    assert [line[2] for line in lines if line[1] == "gap"] == [rounded(iou, lines[1][2])]
    board = tmp_path / "leaderboard"
    (board / "suites").mkdir(parents=True)
    manifest = run_deeploc(tmp_path, "data", "manifest", "gappy", *plugin)
    (board / "suites/gappy.json").write_text(manifest.stdout)
    entry = board / "submissions/gappy/entry.json"
    done = run_deeploc(tmp_path, "submit", "residual-unet+jaccard", "--suite", "gappy", "--contact", "me", "-o", entry)
    assert done.returncode == 0, done.stderr
    assert run_deeploc(tmp_path, "leaderboard", board).returncode == 0
    page = tables_of_text((board / "README.md").read_text("utf-8"))
    headers, line = page["### Held-out IoU by generator"]
    folded = next(table for caption, table in page.items() if table[0][-1] == "gap" and len(table[0]) == 5)
    ious = {
        (train, test): ious_of_csv(*tmp_path.glob(f"runs/gappy/residual-unet*/{train}/*/test-{test}.csv")).mean()
        for train in ("bright", "gap")
        for test in ("bright", "gap")
    }
    held_out, same = (ious["bright", "gap"], ious["gap", "bright"]), (ious["bright", "bright"], ious["gap", "gap"])
    place = headers.index("gap")
    assert line[place] == rounded(held_out[0], line[place])
    assert folded[1][1] == rounded(np.mean(same), folded[1][1])
