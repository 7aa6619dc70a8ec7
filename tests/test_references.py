"""What is to be cited for a report or for tables in LaTeX: references.bib."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from runs import facts_of, others, records_of, write_training

import deeploc_bench
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.results.cells import read_cells
from deeploc_bench.results.references import bibliography

NAMES = ("a", "b")
PAPERS = tomllib.loads((Path(deeploc_bench.__file__).parent / "results/papers.toml").read_text("utf-8"))
FOCAL = "https://arxiv.org/abs/1708.02002"
CITED = {"model my_net": "https://example.org/net", "loss focal": FOCAL, "loss my-focal": FOCAL}


def folder_with(runs, references):
    for test in NAMES:
        facts = facts_of(others(test, NAMES), standard_generators=NAMES, references=references)
        write_training(runs, facts, {test: records_of([0.2, 0.4])})
    return runs


def test_each_address_is_one_entry_that_says_what_it_is_cited_for(tmp_path):
    text = bibliography(read_cells(folder_with(tmp_path / "runs", CITED)))
    assert re.findall(r"@misc\{([^,]+),", text) == ["lin2017focal", "model-my-net"]
    assert r"note = {Used for: loss focal, loss my-focal}" in text and r"note = {Used for: model my\_net}" in text
    assert "title = {{Focal Loss for Dense Object Detection}}" in text and rf"\url{{{FOCAL}}}" in text


def test_no_two_entries_have_one_key(tmp_path):
    folder_with(tmp_path / "runs", {"model my_net": "https://example.org/1", "model my-net": "https://example.org/2"})
    keys = re.findall(r"@misc\{([^,]+),", bibliography(read_cells(tmp_path / "runs")))
    assert len({*keys}) == 2 and "model-my-net" in keys


@pytest.mark.parametrize(
    ("reference", "written"),
    [
        ("see the paper", "see the paper"),
        ("Müller {et al.}, \\input{x} % 2020", r"Muller et al. , input x \% 2020"),
        ("doi.org/10.1/x_y & z", r"doi.org/10.1/x\_y \& z"),
        ("HTTPS://A.b/c", r"\url{HTTPS://A.b/c}"),
        ("https://example.org/{a", r"\url{https://example.org/%7Ba}"),
        ("https://a.b/\\input", r"\url{https://a.b/%5Cinput}"),
        ("https://doi.org/10.1016/0004-3702(81)90024-2", r"\url{https://doi.org/10.1016/0004-3702(81)90024-2}"),
        ("https://a.b/Müller", r"\url{https://a.b/M%C3%BCller}"),
    ],
)
def test_any_reference_is_an_entry_that_neither_bibtex_nor_tex_obeys(tmp_path, reference, written):
    text = bibliography(read_cells(folder_with(tmp_path / "runs", {"model net": reference})))
    assert f"howpublished = {{{written}}}" in text


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["results", "--format", "latex"], "references.bib"),
        (["results", "--format", "latex", "--references", "cited.bib"], "cited.bib"),
        (["report", "-o", "there/page.html"], "there/references.bib"),
    ],
    ids=["latex", "named", "report"],
)
def test_latex_and_a_report_write_what_is_to_be_cited_and_write_over_no_other_file(deeploc, tmp_path, command, file):
    folder_with(tmp_path / "runs", CITED)
    for _ in range(2):
        done = deeploc(*command)
        assert done.returncode == 0, done.stderr
        assert "lin2017focal" in (tmp_path / file).read_text()
    (tmp_path / file).write_text("@misc{mine}\n")
    done = deeploc(*command)
    assert (done.returncode, (tmp_path / file).read_text()) == (2, "@misc{mine}\n")
    assert f"{file} was not written by deeploc-bench, and is not written over; move it" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format", "latex", "--references", "runs"], "runs was not written by deeploc-bench"),
        (["--references", "cited.bib"], "--references goes with --format latex"),
    ],
    ids=["folder", "text"],
)
def test_references_that_cannot_be_written_are_one_message(deeploc, tmp_path, flags, said):
    folder_with(tmp_path / "runs", CITED)
    done = deeploc("results", *flags)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_text_table_writes_no_file(deeploc, tmp_path):
    folder_with(tmp_path / "runs", CITED)
    assert deeploc("results").returncode == 0
    assert not (tmp_path / "references.bib").exists()


def test_a_training_writes_down_the_addresses_of_its_model_its_loss_and_its_generators(finished_runs):
    facts = [json.loads(file.read_text()) for file in sorted(finished_runs.rglob("training.json"))]
    trained = next(one for one in facts if one["kind"] == "trained")
    assert trained["references"]["loss jaccard"] == "https://arxiv.org/abs/2302.05666"


def test_papers_are_of_addresses_that_plugins_give_and_mean_nothing_else_to_tex():
    registry = load_plugins(())
    given = {owned.spec.reference for owned in (*registry.models.values(), *registry.losses.values())}
    given |= {owned.spec.reference for owned in registry.datasets}
    names = ("declip-vitb16-linear", "dinov2-small-linear", "iml-vit", "bayar+fpn-resnet18", "noiseprint+fpn-resnet18")
    given |= {registry.model(name).spec.reference for name in names}
    assert PAPERS.keys() <= given
    assert len({paper["key"] for paper in PAPERS.values()}) == len(PAPERS)
    for paper in PAPERS.values():
        assert not re.search(r"[\\{}%$#&_^~]", paper["author"] + paper["title"] + paper["key"])
