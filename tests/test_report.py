"""The report of a runs folder is one page that needs nothing else; every number in it is recomputed here by hand."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from conftest import run_deeploc
from PIL import Image
from runs import QUICK, facts_of, histograms_of, others, write_training
from scipy import stats
from tiny import COUNTS

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.results.cells import read_cells
from deeploc_bench.results.report import render_report
from deeploc_bench.scoring.records import Records

NAMES = ("a", "b", "c")
SLOW = msgspec.structs.replace(QUICK, lr=0.001)
MOST = 12
IMAGES, UNTOUCHED = 10, 9


def drawn_records(random, count, manipulated=1):
    """Return records of made-up counts on the same masks, two to three images a source, no two alike."""
    area = (100 + 37 * np.arange(count) % 300) * manipulated
    tp = (area * random.uniform(0, random.uniform(0.2, 1), count)).astype(int)
    fn, fp = area - tp, random.integers(1, random.integers(50, 400), count)
    tn = 1200 - area - fp
    ties = [random.integers(0, side // 2 + 1) for side in (fn, tn)]
    counts = np.stack([tp, fp, fn, tn, *ties], axis=1)
    return Records(
        ids=tuple(f"test-{i:02}" for i in range(count)),
        sources=tuple(f"photo-{4 * i // 9}" for i in range(count)),
        counts=counts,
        preds=("0" * 16,) * count,
        histograms=histograms_of(counts),
    )


def write_drawn(runs, facts, tests):
    """Write a training with drawn records, on authentic images too, and three examples of each test generator."""
    random = np.random.default_rng([*facts.identity.encode()])
    tests = {test: drawn_records(random, IMAGES) for test in tests}
    authentic = drawn_records(random, UNTOUCHED, manipulated=0)
    folder = write_training(runs, facts, tests, curve=[0.1, 0.3, 0.4], authentic=authentic)
    (folder / "examples").mkdir()
    for test in tests:
        for place in (0, 4, 9):
            pixels = random.integers(0, 256, (32, 96, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "examples" / f"{test}-test-{place:02}.png")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a runs folder of two recipes, two seeds, one of which failed once, and everything else there may be."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    made = {"standard_generators": NAMES, "extra": ("x", "authentic")}
    for recipe in (QUICK, SLOW):
        for seed in (0, 1):
            for test in NAMES:
                facts = facts_of(others(test, NAMES), recipe=recipe, seed=seed, **made)
                folder = write_drawn(runs, facts, (test, "x"))
    fail(folder)
    for train in NAMES[:2]:
        write_drawn(runs, facts_of((train,), **made), NAMES)
    for source in ("old", "new"):
        write_drawn(runs, facts_of(others("a", NAMES), model="twin", source=source, **made), ("a",))
    write_drawn(runs, facts_of(kind="tested", model="floor", baseline=True, **made), (*NAMES, "x"))
    write_drawn(runs, facts_of(kind="tested", model="detector", **made), (*NAMES, "x"))
    write_drawn(runs, facts_of(kind="scored", model="closed", **made), ("b",))
    write_drawn(runs, facts_of(others("a", NAMES), suite="second", **made), ("a",))
    return runs


def fail(folder):
    """Make a finished training one that failed: its facts are there, but neither a model nor records."""
    for file in [folder / "model.safetensors", *folder.glob("test-*.csv")]:
        file.unlink()


@pytest.fixture(scope="module")
def page(runs):
    done = run_deeploc(runs.parent, "report")
    assert done.returncode == 0, done.stderr
    return runs.parent / "report.html"


class Page(HTMLParser):
    """Checks that tags close, and gathers attributes, headings, tables, and the captions below each heading."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes = [], []
        self.headings, self.tables, self.below, self.caption = [], [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append(SimpleNamespace(caption=self.caption, lines=[], fields=[]))
        if tag == "tr":
            self.tables[-1].lines.append([])
        if tag in ("th", "td"):
            self.tables[-1].lines[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag in ("th", "td"):
            self.tables[-1].lines[-1][-1] += data
            self.tables[-1].fields.append((data, attributes))
        if attributes.get("class") == "caption":
            self.caption = data
        if tag == "h3":
            self.headings.append(data)
            self.below[data] = []
        if tag == "figcaption":
            self.below[self.headings[-1]].append(data)


@pytest.fixture(scope="module")
def seen(page):
    return Page(page.read_text("utf-8"))


def tables_of(seen):
    """Return the lines of each table by its caption, the headers first."""
    return {table.caption.partition("\n")[0]: [tuple(line) for line in table.lines] for table in seen.tables}


# Everything below reads csv and json by itself, and computes by numpy alone.


def trainings_of(runs):
    """Return the finished trainings of the suite `made`: facts as plain JSON, and counts of each test set, (N, 6)."""
    found = []
    for file in sorted(runs.glob("made/*/*/*/training.json")):
        facts = json.loads(file.read_text())
        if facts["kind"] != "trained" or (file.parent / "model.safetensors").exists():
            tests = {path.stem.removeprefix("test-"): read_csv(path) for path in file.parent.glob("test-*.csv")}
            lr = facts["recipe"]["lr"] if facts["recipe"] else None
            about = {"model": facts["model"]["name"], "code": facts["model"]["source"], "lr": lr}
            about |= {"train": tuple(facts["train_generators"]), "seed": facts["seed"], "place": file.parent}
            found.append(SimpleNamespace(**about, tests=tests))
    return found


def read_csv(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    columns = ("tp", "fp", "fn", "tn", "tie_manipulated", "tie_authentic")
    return SimpleNamespace(
        ids=[row["id"] for row in rows],
        sources=[row["source"] for row in rows],
        counts=np.array([[int(row[column]) for column in columns] for row in rows], float),
    )


def ious_of(test):
    tp, fp, fn = test.counts[:, :3].T
    return tp / (tp + fp + fn)


ALONE = (0.0, 0)
"""No variance between seeds is known."""


def row_of(trainings, test, floor, between=ALONE):
    """Return the fields from IoU to the baseline of seeds on one test generator, as they must be printed."""
    return line_of([[training.tests[test] for training in trainings]], trainings, [floor.tests[test]], between)


def mean_of(columns, trainings, floor, between=ALONE):
    tests = [[training.tests[test] for training in own] for test, own in columns.items()]
    return line_of(tests, trainings, [floor.tests[test] for test in columns], between)


def line_of(columns, trainings, floors, between):
    mean, shares = mean_and_shares(columns)
    spread = [f"{np.std(by_seed(columns), ddof=1):.3f}"] if len(columns[0]) > 1 else []
    variance, freedom = between
    reach = reach_of(shares, variance / len(columns[0]), freedom)
    floor, floor_shares = mean_and_shares([[test] for test in floors])
    above = reach_of(shares - floor_shares, variance / len(columns[0]), freedom)
    untouched = [training.tests["authentic"].counts for training in trainings]
    alarm = np.mean([(counts[:, 1] / counts[:, :4].sum(axis=1)).mean() for counts in untouched])
    bounds = f"{max(0, mean - reach):.3f} to {min(1, mean + reach):.3f}"
    over = f"{mean - floor:+.3f}, {mean - floor - above:+.3f} to {mean - floor + above:+.3f}"
    star = "*" if mean < floor else ""
    over = over.replace("-0.000", "+0.000")
    return (f"{mean:.3f}{star}", bounds, *spread, over, f"{alarm:.3f}", f"{floor:.3f}")


def mean_and_shares(columns):
    averages = [(tests[0].sources, np.mean([ious_of(test) for test in tests], axis=0)) for tests in columns]
    mean = np.mean([average.mean() for _, average in averages])
    names = sorted({source for sources, _ in averages for source in sources})
    shares = np.zeros(len(names))
    for sources, average in averages:
        for source, iou in zip(sources, average, strict=True):
            shares[names.index(source)] += (iou - average.mean()) / len(average) / len(averages)
    return mean, shares


def reach_of(shares, between, freedom):
    count = len(shares)
    within = count / (count - 1) * (shares**2).sum()
    parts = within**2 / (count - 1) + (between**2 / freedom if freedom else 0)
    return stats.t.ppf(0.975, (within + between) ** 2 / parts) * np.sqrt(within + between)


def by_seed(columns):
    return [np.mean([ious_of(test).mean() for test in tests]) for tests in zip(*columns, strict=True)]


def iou_text(training, test):
    return f"{ious_of(training.tests[test]).mean():.3f}"


def marked(training, floor, test):
    iou = iou_text(training, test)
    return iou + "*" if iou < iou_text(floor, test) else iou


def held_out_of(trainings, test):
    return [one for one in trainings if one.train == others(test, NAMES)]


RECIPES = [
    (0.003, (0, 1), "quick · seeds 0, 1"),
    (0.001, (0,), "quick, lr=0.001 · seed 0 (incomplete, left out: 1)"),
]


@pytest.mark.parametrize(("lr", "seeds", "words"), RECIPES)
def test_the_numbers_of_a_held_out_table_are_those_of_the_csv_files(runs, seen, lr, seeds, words):
    every = trainings_of(runs)
    net = [one for one in every if one.model == "net" and one.lr == lr and one.seed in seeds]
    (floor,) = (one for one in every if one.model == "floor")
    own = {test: held_out_of(net, test) for test in NAMES}
    # the other recipe has two seeds: the variance between them is pooled over both tables, with one degree of freedom
    several = {
        test: held_out_of([one for one in every if (one.model, one.lr) == ("net", 0.003)], test) for test in NAMES
    }

    def between(*tests, of=None):
        return np.var(by_seed([[one.tests[of or test] for one in several[test]] for test in tests]), ddof=1), 1

    expected = [("w/o " + test, test, *row_of(own[test], test, floor, between(test))) for test in NAMES]
    together = [one for ones in own.values() for one in ones]
    expected.append(("mean", "", *mean_of(own, together, floor, between(*NAMES))))
    expected += [("w/o " + test, "x", *row_of(own[test], "x", floor, between(test, of="x"))) for test in NAMES]
    headers, *lines = tables_of(seen)[f"loo · made · net + jaccard · {words}"]
    assert lines == expected
    spread = ("sd over seeds",) if len(seeds) > 1 else ()
    interval = ("IoU", "95 % interval (5 sources and seeds)", *spread)
    assert headers == ("train on", "test on", *interval, "above best baseline", "false alarm area", "floor")


def test_the_numbers_of_a_same_generator_table_and_of_the_matrix_are_those_of_the_csv_files(runs, seen):
    by_train = {one.train[0]: one for one in trainings_of(runs) if len(one.train) == 1}
    (floor,) = (one for one in trainings_of(runs) if one.model == "floor")
    tables = tables_of(seen)
    same = {line[0]: line for line in tables["same · made · net + jaccard · quick · seed 0"]}
    for test in ("a", "b"):
        assert same[test] == (test, test, *row_of([by_train[test]], test, floor))
    assert same["c"][:6] == ("c", "c", "-", "-", "-", "-") and same["mean"][1:3] == ("", "2 of 3")
    assert tables["cross · made · net + jaccard · quick · seed 0"] == [
        ("train on \\ test on", *NAMES),
        *((train, *(marked(by_train[train], floor, test) for test in NAMES)) for train in ("a", "b")),
        ("c", "-", "-", "-"),
    ]


def test_a_detector_that_is_only_tested_and_predictions_made_elsewhere_have_tables_like_any_model(runs, seen):
    every = {one.model: one for one in trainings_of(runs)}
    tables = tables_of(seen)
    lines = tables["loo · made · detector · trained elsewhere: not declared · seed 0"]
    for test in NAMES:
        assert ("not declared", test, *row_of([every["detector"]], test, every["floor"])) in lines
    closed = tables["score · made · closed · made elsewhere · seed 0"]
    assert closed[1][:5] == ("not declared", "a", "-", "-", "-")
    assert closed[2] == ("not declared", "b", *row_of([every["closed"]], "b", every["floor"]))


def test_two_codes_of_one_model_are_two_tables_told_apart_by_their_hash(runs, seen):
    twins = [one for one in trainings_of(runs) if one.model == "twin"]
    captions = [caption for caption in tables_of(seen) if "twin" in caption]
    assert all(re.search(r"quick · experiment [0-9a-f]{8} · seed 0$", caption) for caption in captions)
    found = [tables_of(seen)[caption][1][2].rstrip("*") for caption in captions]
    assert len(captions) == 2 and sorted(found) == sorted(iou_text(twin, "a") for twin in twins)
    assert [heading for heading in seen.headings if "twin" in heading] == [c.rpartition(" · ")[0] for c in captions]


# Each dialect's mean over images, as its authors' code computes it, of intersections and unions above and at 0.5.


def dialect_iou(name, counts):
    tp, fp, fn, _, tie_in, tie_out = counts.T
    inter, union = tp, tp + fp + fn
    if name == "declip":
        return np.mean((inter + 1e-8) / (union + 1e-8))
    if name == "imdlbenco":
        return np.mean(inter / (union + 1e-8))
    if name == "smp-batch":
        batches = [slice(start, start + 16) for start in range(0, len(counts), 16)]
        return np.mean([(inter[batch].sum() + 1e-7) / (union[batch].sum() + 1e-7) for batch in batches])
    if name == "smp-imagewise":
        return np.mean((inter + tie_in) / (union + tie_out))
    if name in ("photoholmes", "torchmetrics"):
        return inter.sum() / union.sum()
    return np.mean(inter / union)


def listed_together(test, authentic):
    """Return the counts of both, in the order of their ids, an authentic image after the edited one of its id."""
    named = list(zip(test.ids, test.counts, strict=True))
    named += [(f"{id}-authentic", counts) for id, counts in zip(authentic.ids, authentic.counts, strict=True)]
    return np.array([counts for _, counts in sorted(named, key=lambda one: one[0])])


def test_the_numbers_of_the_dialect_table_are_those_of_the_csv_files(runs, seen):
    headers, *lines = next(table for table in tables_of_all(seen) if table[0][-1] == "torchmetrics")
    names = headers[5:]
    assert {"iou", "dolos", "declip", "smp-batch:16 + authentic", "smp-imagewise + authentic"} <= set(names)
    printed = {line[:5]: line[5:] for line in lines}
    checked = 0
    for one in trainings_of(runs):
        if one.model == "net" and one.lr == 0.003 and len(one.train) == 2:
            (left_out,) = set(NAMES) - set(one.train)
            for test in (left_out, "x"):
                key = ("loo", "net + jaccard", str(one.seed), "+".join(one.train), test)
                together = listed_together(one.tests[test], one.tests["authentic"])
                counts = [together if name.endswith("authentic") else one.tests[test].counts for name in names]
                expected = [
                    dialect_iou(re.split("[ :]", name)[0], own) for name, own in zip(names, counts, strict=True)
                ]
                found = [line[5:] for line in lines if line[:5] == key]
                assert tuple(f"{value:.3f}" for value in expected) in found
                checked += 1
    assert checked == 12 and len(printed) < len(lines)  # both recipes have a line of each cell


def tables_of_all(seen):
    return [[tuple(line) for line in table.lines] for table in seen.tables]


def test_the_report_and_results_print_the_same_tables(runs, seen):
    done = run_deeploc(runs.parent, "results", "--dialect", "all")
    assert done.returncode == 0, done.stderr
    tables, lines = [], done.stdout.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("|") and not lines[place - 1].startswith("|"):
            tables.append([])
        if line.startswith("|") and not line.startswith("|-"):
            tables[-1].append(tuple(field.strip() for field in line.strip("|").split("|")))
    shown = [table for table in tables_of_all(seen) if table[0][0] != "training" and table[0][-1] != "false positives"]
    assert tables == shown and len(tables) > 8
    captions = [line for table in seen.tables for line in table.caption.split("\n")]
    assert all(line in lines for line in captions if line not in ("Trainings", "Image level"))


def test_examples_go_from_best_to_worst_and_say_their_iou(runs, seen):
    every = {(one.model, one.lr, "+".join(one.train), one.seed): one for one in trainings_of(runs)}
    by_heading = captions_by_heading(seen)
    captions = by_heading["loo · made · net + jaccard · quick"]
    parts = [caption.split(" · ") for caption in captions]
    assert len(parts) == MOST and all(len(part) == 5 for part in parts)
    for test, id, train, seed, iou in parts:
        generators = "+".join(others(train.removeprefix("w/o "), NAMES))
        found = every["net", 0.003, generators, int(seed.removeprefix("seed "))].tests[test]
        assert iou == f"IoU {ious_of(found)[found.ids.index(id)]:.3f}"
    ious = [float(part[4].removeprefix("IoU ")) for part in parts]
    assert ious == sorted(ious, reverse=True)
    kept = [
        ious_of(one.tests[test])[place]
        for one in every.values()
        if one.model == "net" and one.lr == 0.003 and len(one.train) == 2
        for test in one.tests
        if test != "authentic"
        for place in (0, 4, 9)
    ]
    assert (ious[0], ious[-1]) == pytest.approx((max(kept), min(kept)), abs=5.1e-4)


def captions_by_heading(seen):
    """Return the captions of the examples below each heading."""
    return {heading: [c for c in own if "IoU 0" in c or "IoU 1" in c] for heading, own in seen.below.items()}


def test_a_model_that_is_never_trained_shows_each_example_once(seen):
    captions = captions_by_heading(seen)["loo · made · detector · trained elsewhere: not declared"]
    assert len(captions) == len(set(captions)) == MOST and all(len(caption.split(" · ")) == 3 for caption in captions)


def test_examples_are_of_the_seeds_that_the_table_is_of(seen):
    captions = captions_by_heading(seen)
    seeds = {
        recipe: set(re.findall("seed [0-9]", str(captions[f"loo · made · net + jaccard · {recipe}"])))
        for recipe in ("quick", "quick, lr=0.001")
    }
    assert seeds == {"quick": {"seed 0", "seed 1"}, "quick, lr=0.001": {"seed 0"}}


def test_figures_stand_where_there_is_something_to_draw(seen):
    figures = {heading: [c for c in own if " · " not in c] for heading, own in seen.below.items()}
    drawn = ["Validation IoU by epoch", "IoU of each test image"]
    assert figures["loo · made · net + jaccard · quick"] == figures["same · made · net + jaccard · quick"] == drawn
    assert figures["loo · made · detector · trained elsewhere: not declared"] == drawn[1:]
    assert figures["score · made · closed · made elsewhere"] == drawn[1:]
    assert figures["cross · made · net + jaccard · quick"] == []


def test_provenance_has_a_line_for_each_training_and_says_what_is_known(runs, seen):
    lines = {line[0]: line for table in seen.tables if table.caption == "Trainings" for line in map(tuple, table.lines)}
    for one in trainings_of(runs):
        place, facts = str(one.place.relative_to(runs)), json.loads((one.place / "training.json").read_text())
        made = ("-",) * 5 if one.model == "closed" else ("Abacus 2000", "fp32", "2", "12.2", "torch 2.7.0")
        assert lines[place][2:] == (facts["identity"][:16], *made)
        assert lines[place][1] in read_experiments(runs)
    assert not any(place in lines for place in unfinished(runs))


def read_experiments(runs):
    return {cell.facts.experiment[:8] for cell in read_cells(runs)}


def unfinished(runs):
    folders = [file.parent for file in runs.rglob("training.json") if not list(file.parent.glob("test-*.csv"))]
    assert len(folders) == 1
    return [str(folder.relative_to(runs)) for folder in folders]


def test_numbers_stand_to_the_right_and_a_matrix_is_shaded_by_its_fractions(seen):
    matrix = next(table for table in seen.tables if table.caption.startswith("cross · made · net"))
    shades = [(data, attributes.get("style")) for data, attributes in matrix.fields if data.startswith("0.")]
    assert len(shades) == 6 and all(style == f"--share:{data.rstrip('*')}" for data, style in shades)
    plain = [field for table in seen.tables if not table.caption.startswith("cross") for field in table.fields]
    assert all("style" not in attributes for _, attributes in plain)
    right = {data for data, attributes in plain if "n" in attributes.get("class", "").split()}
    assert {"-", "2 of 3"} < right and not {"a", "x", "mean", "net + jaccard", "fp32"} & right
    assert all(re.fullmatch(r"[-+]?[\d.]+\*?(,? ?[-+]?[\d.]* to [-+]?[\d.]+| of \d)?|-", data) for data in right)


def test_the_page_is_whole_and_well_formed_without_script_or_anything_from_elsewhere(page, seen):
    assert seen.open == [] and "<script" not in page.read_text("utf-8")
    addresses = [value for _, name, value in seen.attributes if name in ("src", "href", "xlink:href")]
    inside = ("data:image/png;base64,", "data:image/svg+xml;base64,", "#")
    assert len(addresses) > 20 and all(value.startswith(inside) for value in addresses)
    targets = {value for _, name, value in seen.attributes if name == "id"}
    assert {value[1:] for value in addresses if value.startswith("#")} == targets == {"made", "second"}


def test_pictures_have_words_and_wide_tables_can_be_scrolled_by_keyboard(seen):
    names = [(tag, name) for tag, name, _ in seen.attributes]
    assert names.count(("img", "alt")) == names.count(("img", "src"))
    assert names.count(("div", "tabindex")) == names.count(("div", "aria-label")) == len(seen.tables)


def test_text_from_a_runs_folder_is_escaped(tmp_path):
    facts = facts_of(others("a"), recipe=msgspec.structs.replace(QUICK, name="<script>alert(1)</script>"))
    write_training(tmp_path, facts, {"a": drawn_records(np.random.default_rng(0), 4)})
    text = render_report(read_cells(tmp_path))
    assert "<script>" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_runs_folder_without_anything_tested_makes_a_page_that_says_so(tmp_path):
    fail(write_training(tmp_path, facts_of(others("a")), {}))
    assert "No training in this runs folder has been tested yet" in render_report(read_cells(tmp_path))


@pytest.mark.parametrize("name", ["examples/a-test-00.png", "epochs.csv", "environment.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    facts = facts_of(others("a", NAMES), standard_generators=NAMES, extra=("authentic",))
    file = write_drawn(tmp_path, facts, ("a",)) / name
    file.write_bytes(file.read_bytes()[:40].replace(b"valid_iou", b"iou"))
    with pytest.raises(StoreError) as error:
        render_report(read_cells(tmp_path))
    assert str(file) in str(error.value)


NARROW = 400
FRAME = """<!doctype html><iframe id="frame" width="{width}" height="900" srcdoc="{page}"></iframe><pre id="told"></pre>
<script>addEventListener("load", () => {{
  const page = document.getElementById("frame").contentDocument
  page.querySelectorAll("details").forEach(one => {{ one.open = true }})
  const images = [...page.images]
  const wide = [...page.querySelectorAll(".wide")]
  document.getElementById("told").textContent = JSON.stringify({{
    width: page.documentElement.clientWidth, scroll: page.documentElement.scrollWidth,
    images: images.length, drawn: images.filter(one => one.naturalWidth > 0).length,
    scrolling: wide.filter(one => one.scrollWidth > one.clientWidth).length,
  }})
}})</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [NARROW, 1000])
def test_a_browser_opens_it_offline_and_keeps_it_within_a_narrow_screen(page, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(page.read_text("utf-8"))), "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        f"file://{frame}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', done.stdout)[1])
    assert 0 < told["width"] <= width and told["scroll"] == told["width"]
    assert told["drawn"] == told["images"] > 20
    assert told["scrolling"] > 0 or width > NARROW  # wide tables scroll by themselves


@pytest.mark.slow
def test_a_report_of_a_real_run_shows_its_curves_examples_and_baselines(tmp_path, tiny):
    flags = ["--protocol", "loo", "--protocol", "cross", "--set", "epochs=2"]
    assert run_deeploc(tmp_path, "run", *tiny, *flags).returncode == 0
    done = run_deeploc(tmp_path, "report")
    assert (done.returncode, done.stdout[:17]) == (0, "wrote report.html"), done.stderr
    seen = Page((tmp_path / "report.html").read_text("utf-8"))
    heading = "loo · tiny · residual-unet + jaccard · quick, epochs=2"
    assert seen.below[heading][:2] == ["Validation IoU by epoch", "IoU of each test image"]
    ious = [
        float(value)
        for value in re.findall(r"dark · test-\d+ · w/o dark · seed 0 · IoU ([\d.]+)", "\n".join(seen.below[heading]))
    ]
    assert ious == sorted(ious, reverse=True) and 0 < len(ious) <= COUNTS["test"]
    headers = tables_of(seen)[f"{heading} · seed 0"][0]
    assert {"all-manipulated", "local-noise", "position-prior"} < set(headers)
    assert f"cross · {heading.partition(' · ')[2]} · seed 0" in tables_of(seen)
