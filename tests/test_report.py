"""The report of a runs folder is one page that needs nothing else; the cost of a model is measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from conftest import run_deeploc
from tiny import COUNTS

from deeploc_bench.results.report import table


@pytest.fixture(scope="module")
def page(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("report")
    tiny = request.path.parent / "tiny.py"
    flags = ["--plugin", tiny, "--suite", "tiny", "--model", "residual-unet", "--recipe", "quick", "--threads", "1"]
    flags += ["--protocol", "loo", "--protocol", "cross", "--set", "epochs=2"]
    assert run_deeploc(folder, "run", *flags).returncode == 0
    done = run_deeploc(folder, "report")
    assert done.returncode == 0, done.stderr
    return folder / "report.html"


class Tags(HTMLParser):
    """Checks that tags close, and gathers names and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_well_formed_without_script_or_anything_from_elsewhere(page):
    text = page.read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and "script" not in tags.seen
    sources = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in sources)


def test_the_page_shows_tables_curves_examples_dialects_and_provenance(page):
    text = page.read_text()
    for told in (
        "loo · residual-unet + jaccard",
        "Trained on (rows), tested on (columns)",
        "Validation IoU by epoch",
        "Examples, best to worst",
        "IoU by dialect",
        "smp-imagewise",
        "Trivial baselines, never trained",
        "seed0-",
    ):
        assert told in text, told
    ious = [float(value) for value in re.findall(r"<figcaption>dark · test-\d+ · IoU ([\d.]+)", text)]
    assert ious == sorted(ious, reverse=True) and 0 < len(ious) <= COUNTS["test"]


def test_text_in_tables_is_escaped():
    assert "<script>" not in table("<script>", ["<script>"], [["<script>"]])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_opens_it_offline_and_keeps_it_within_a_narrow_screen(page, tmp_path):
    shot = tmp_path / "shot.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,2000"]
    command += [f"--screenshot={shot}", f"file://{page}"]
    done = subprocess.run(command, capture_output=True, timeout=100)
    assert done.returncode == 0 and shot.stat().st_size > 10_000


@pytest.mark.slow
def test_speed_measures_a_model_and_counts_its_parameters_and_operations(deeploc, two_layer):
    done = deeploc("speed", "two-layer", "--plugin", two_layer, "--threads", "1", "--json")
    (found,) = json.loads(done.stdout)
    assert found["parameters"] == 3 * 16 * 9 + 16 + 16 + 1
    assert found["flops_per_image"] == 2 * 64 * 64 * (3 * 16 * 9 + 16)
    assert found["latency_ms"] > 0 and found["images_per_second"] > 0 and found["peak_memory_mib"] > 0
    unknown = deeploc("speed", "residual-unett")
    assert (unknown.returncode, "Did you mean 'residual-unet'?" in unknown.stderr) == (2, True)
