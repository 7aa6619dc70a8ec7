# ruff: noqa: E501
"""The page: the same bytes on any machine, nothing in a submission can break it, ranks that are earned."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from boards import board, entry_of, submission, with_claims, write

from deeploc_bench.leaderboard.page import command, escape, figures, rank, render, trust
from deeploc_bench.leaderboard.submission import Submission
from deeploc_bench.results.published import published
from deeploc_bench.scoring.statistics import is_separable

KEPT = Path(__file__).parents[1] / "leaderboard"


def entry(name="entry", **options):
    return entry_of(submission(name, **options))


def improved(name, share, **options):
    """A submission that finds `share` of what its like misses."""
    values = submission(name, **options)
    for training in values["trainings"]:
        for part in training["tests"].values():
            found = [int(share * fn) for fn in part["fn"]]
            part["tp"] = [tp + more for tp, more in zip(part["tp"], found, strict=True)]
            part["fn"] = [fn - more for fn, more in zip(part["fn"], found, strict=True)]
    return entry_of(with_claims(values))


def test_the_kept_page_is_what_its_submissions_render_to(deeploc):
    done = deeploc("leaderboard", KEPT, "--check")
    assert done.returncode == 0, done.stderr


def test_a_stale_page_is_told_and_rendered_again(deeploc, tmp_path):
    folder = board(tmp_path / "board", [submission("a"), submission("b", seed=1)])
    assert deeploc("leaderboard", folder, "--check").returncode == 1
    assert deeploc("leaderboard", folder).returncode == 0
    page = (folder / "README.md").read_bytes()
    assert deeploc("leaderboard", folder, "--check").returncode == 0
    write(folder, submission("c", seed=2))
    done = deeploc("leaderboard", folder, "--check")
    assert (done.returncode, "README.md; run: deeploc-bench leaderboard" in done.stderr) == (1, True)
    assert (folder / "README.md").read_bytes() == page


def test_a_submission_that_fails_its_checks_is_never_rendered(deeploc, tmp_path):
    folder = board(tmp_path / "board")
    values = submission("bad")
    values["claims"]["loo"]["iou"] = 0.99
    write(folder, values)
    done = deeploc("leaderboard", folder)
    assert (done.returncode, "bad.json is not accepted [claims]" in done.stderr) == (2, True)
    assert not (folder / "README.md").exists()


def test_the_order_of_the_files_does_not_matter():
    entries = [entry(name, seed=seed) for seed, name in enumerate("abc")]
    assert render(entries, {}, ["synthetic"]) == render(entries[::-1], {}, ["synthetic"])


def test_a_clearly_better_entry_ranks_alone_and_like_ones_share_a_rank():
    entries = [
        improved("best", 0.8, seed=1, images=60),
        entry("one", seed=2, images=60),
        entry("two", seed=3, images=60),
    ]
    assert [(one.rank, one.submission.name) for one in rank(entries)][0] == (1, "best")
    assert sorted(one.rank for one in rank(entries)) == [1, 2, 2]


def test_an_entry_of_one_seed_never_splits_a_group():
    entries = [improved("best", 0.8, seed=1, images=60, seeds=(0,)), entry("one", seed=2, images=60)]
    assert [one.rank for one in rank(entries)] == [1, 1]
    assert "| ? " in render(entries, {}, [])


def test_a_matched_budget_is_shown_beside_its_row_and_not_ranked():
    matched = entry_of(with_claims(submission("small", seed=4) | {"budget": "matched"}))
    entries = [entry("full", seed=5), matched]
    assert {one.submission.name: one.rank for one in rank(entries)} == {"full": 1, "small": None}
    row = next(line for line in render(entries, {}, []).splitlines() if line.startswith("| 1 "))
    assert f"| {matched.submission.claims.loo.iou:.2f} " in row


def test_separability_is_rare_where_there_is_no_difference_and_sure_where_there_is():
    random = np.random.default_rng(0)
    sources = [f"p{i // 2}" for i in range(80)]

    def row(level):
        noise = np.repeat(random.normal(0, 0.1, 40), 2)
        return [(sources, [np.clip(level + noise + random.normal(0, 0.05, 80), 0, 1) for _ in range(3)])]

    assert sum(is_separable(row(0.5), row(0.5)) for _ in range(100)) <= 12
    assert all(is_separable(row(0.65), row(0.5)) for _ in range(10))


def test_trust_needs_another_party_that_agrees():
    first = entry("first").submission
    values = submission("again") | {"reproduces": "first"}
    again = msgspec.convert({**values, "contact": "another party"}, Submission)
    assert trust(first, [again]) == "reproduced"
    assert trust(first, [msgspec.convert({**values, "contact": first.contact}, Submission)]) == "self-reported"
    far = msgspec.structs.replace(improved("far", 0.9).submission, reproduces="first", contact="another party")
    assert trust(first, [far]) == "self-reported"


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "a | b", "`rm -rf`", "[x](javascript:1)", "a\nb", "# title", "![i](x)", "&lt;"],
)
def test_no_text_can_break_or_script_the_page(text):
    shown = escape(text)
    assert not set(shown) & set("<>|`[]()*\n!\\")
    values = submission() | {"contact": text}
    values["model"] = {**values["model"], "version": text.strip() or "x"}
    page = render([entry_of(values)], {}, [])
    assert text not in page or text == "&lt;"


def test_figures_are_well_formed_and_show_every_number():
    drawn = figures([entry("a"), entry("b", seed=1)])
    assert sorted(drawn) == ["synthetic-cross.svg", "synthetic-gap.svg"]
    for text in drawn.values():
        ElementTree.fromstring(text)
    best = rank([entry("a"), entry("b", seed=1)])[0].submission
    assert all(f">{value:.2f}<" in drawn["synthetic-cross.svg"] for value in best.claims.cross["lama"].values())


def test_the_command_of_a_row_reproduces_its_trainings():
    values = copy.deepcopy(submission())
    values["recipe"] |= {"lr": 0.001}
    words = command(msgspec.convert(values, Submission))
    assert words == (
        "deeploc-bench run --suite synthetic --protocol loo --protocol same --protocol cross "
        "--model net --loss jaccard --recipe quick --set lr=0.001 --seed 0 --seed 1"
    )


def test_published_rows_stand_apart_with_their_dialect():
    page = render([], published(), [])
    assert "### Published, not recomputed" in page and "0.51" in page and "smp-batch" in page
    assert "Be the first" in page


@pytest.mark.slow
def test_the_whole_way_from_a_run_to_the_page(deeploc, tiny, tmp_path):
    """Run, submit, verify, render: on a suite without a manifest."""
    flags = ["--protocol", "loo", "--protocol", "same", "--set", "epochs=1", "--seed", "0", "--seed", "1"]
    assert deeploc("run", *tiny, *flags).returncode == 0
    (tmp_path / "leaderboard").mkdir()
    for what in ("residual-unet+jaccard", "all-manipulated", "centre-prior"):
        done = deeploc("submit", what, "--suite", "tiny", "--contact", "me")
        assert done.returncode == 0, done.stderr
    again = deeploc("submit", "residual-unet+jaccard", "--suite", "tiny", "--contact", "me")
    assert (again.returncode, "nothing is overwritten" in again.stderr) == (2, True)
    files = sorted((tmp_path / "leaderboard/submissions/tiny").iterdir())
    assert deeploc("verify", *files).returncode == 0
    assert deeploc("leaderboard").returncode == 0
    page = (tmp_path / "leaderboard/README.md").read_text()
    assert "residual-unet-jaccard" in page and "all-manipulated (trivial baseline)" in page.replace("&#40;", "(")
    shutil.rmtree(tmp_path / "leaderboard/submissions")
    deeploc("run", *tiny, *flags, "--set", "lr=0.01")
    several = deeploc("submit", "residual-unet+jaccard", "--suite", "tiny", "--contact", "me")
    assert (several.returncode, "2 candidates to submit; choose one" in several.stderr) == (2, True)
    for recipe in ("quick, epochs=1", "quick, epochs=1, lr=0.01"):
        name = recipe.replace(", ", "-").replace("=", "-")
        done = deeploc(
            "submit", "residual-unet+jaccard", "--suite", "tiny", "--contact", "me", "--recipe", recipe, "--name", name
        )
        assert done.returncode == 0, done.stderr
