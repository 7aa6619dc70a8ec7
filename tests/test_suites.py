"""Suites: what is known of their data, and what is refused before any training."""

from __future__ import annotations

from pathlib import Path

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.files import read_json
from deeploc_bench.data.suites import Manifest, load_suite, manifest, silent
from deeploc_bench.leaderboard.folder import read_manifests

KEPT = Path(__file__).parents[1] / "leaderboard/suites/photos.json"


def test_the_manifest_of_the_embedded_suite_is_the_one_that_is_kept(registry):
    kept = read_json(KEPT, Manifest, "manifest", DataError)
    assert manifest(load_suite(registry.suite("photos"), data=None, progress=silent)) == kept


def test_a_suites_fingerprint_is_that_of_its_generators():
    kept = read_json(KEPT, Manifest, "manifest", DataError)
    assert kept.fingerprint_of(kept.generators) == kept.fingerprint
    assert kept.fingerprint_of(["latent"]) != kept.fingerprint


def test_what_is_known_of_dolos_names_the_generators_of_its_plugin(registry):
    known = read_manifests(KEPT.parents[1])["dolos"]
    datasets = {owned.spec.name: owned.spec.role for owned in registry.suite("dolos")}
    assert {name: part.role for name, part in known.generators.items()} == datasets
    counts = {name: [part.splits[s].samples for s in part.splits] for name, part in known.generators.items()}
    assert counts["lama"] == counts["repaint-p2"] == [9000, 900, 900] and counts["repaint-p2-full"] == [8472]


def test_a_source_on_both_sides_is_refused_with_the_files(deeploc, tiny, tmp_path):
    source = (Path(__file__).parent / "tiny.py").read_text()
    (tmp_path / "leaky.py").write_text(source.replace('source=f"{split}-{i // 2}"', 'source=f"photo-{i}"'))
    flags = ["--plugin", "leaky.py", "--suite", "tiny", "--model", "residual-unet"]
    done = deeploc("run", *flags)
    assert done.returncode == 2
    assert "source 'photo-0' stands in bright/train: train-00 and in bright/test: test-00" in done.stderr
    assert deeploc("data", "check", "tiny", "--plugin", "leaky.py").returncode == 1
