"""The command: the same bytes on any machine, stale pages told, nothing refused is ever rendered."""

from __future__ import annotations

import html
import shutil
from pathlib import Path

import pytest
from boards import board, submission, write

KEPT = Path(__file__).parents[1] / "leaderboard"


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


def test_a_figure_that_no_submission_has_any_more_is_removed(deeploc, tmp_path):
    folder = board(tmp_path / "board", [submission("a")])
    assert deeploc("leaderboard", folder).returncode == 0
    left = folder / "figures/gone-gap.svg"
    left.write_text("<svg/>")
    done = deeploc("leaderboard", folder, "--check")
    assert (done.returncode, "gone-gap.svg" in done.stderr) == (1, True)
    assert deeploc("leaderboard", folder).stdout.startswith("changed: 1, as they were: 2, in ")
    assert not left.exists()


def test_a_submission_that_fails_its_checks_is_never_rendered(deeploc, tmp_path):
    folder = board(tmp_path / "board")
    values = submission("bad")
    values["claims"]["loo"]["iou"] = 0.99
    write(folder, values)
    done = deeploc("leaderboard", folder)
    assert (done.returncode, "bad.json is not accepted [claims]" in done.stderr) == (2, True)
    assert not (folder / "README.md").exists()


def test_a_missing_folder_and_a_damaged_manifest_are_one_message(deeploc, tmp_path):
    gone = deeploc("leaderboard", "nowhere")
    assert (gone.returncode, gone.stderr.count("\n"), "is no leaderboard folder" in gone.stderr) == (2, 1, True)
    folder = board(tmp_path / "board", [submission("a")])
    (folder / "suites/synthetic.json").write_text('{"schema": 1, "suite": "synthetic"}')
    for command in (
        ["leaderboard", folder],
        ["verify", folder / "submissions/synthetic/a.json", "--leaderboard", folder],
    ):
        done = deeploc(*command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "synthetic.json: the key 'fingerprint' is missing" in done.stderr
        assert "deeploc-bench data manifest synthetic" in done.stderr


def test_the_folder_of_submissions_is_no_leaderboard(deeploc, tmp_path):
    folder = board(tmp_path / "board", [submission("a")])
    for inner in (folder / "submissions", folder / "submissions/synthetic"):
        done = deeploc("leaderboard", inner)
        assert (done.returncode, "name the one that holds submissions/" in done.stderr) == (2, True)
        assert not (inner / "README.md").exists()


@pytest.mark.slow
def test_the_whole_way_from_a_run_to_the_page(deeploc, tiny, tmp_path):
    """Run, submit, verify, render: on a suite that gets its manifest on the way."""
    flags = ["--protocol", "loo", "--protocol", "same", "--set", "epochs=1", "--seed", "0", "--seed", "1"]
    assert deeploc("run", *tiny, *flags).returncode == 0
    (tmp_path / "leaderboard").mkdir()
    for what in ("residual-unet+jaccard", "all-manipulated", "local-noise"):
        done = deeploc("submit", what, "--suite", "tiny", "--contact", "me")
        assert done.returncode == 0, done.stderr
    again = deeploc("submit", "residual-unet+jaccard", "--suite", "tiny", "--contact", "somebody else")
    assert (again.returncode, "nothing is overwritten" in again.stderr) == (2, True)
    files = sorted((tmp_path / "leaderboard/submissions/tiny").iterdir())
    refused = deeploc("verify", *files)
    assert (refused.returncode, "suite 'tiny' has no manifest" in refused.stdout) == (1, True)
    (tmp_path / "leaderboard/suites").mkdir()
    made = deeploc("data", "manifest", "tiny", *tiny[:2]).stdout
    (tmp_path / "leaderboard/suites/tiny.json").write_text(made)
    assert deeploc("verify", *files).returncode == 0
    assert deeploc("leaderboard").returncode == 0
    page = html.unescape((tmp_path / "leaderboard/README.md").read_text())
    assert "residual-unet-jaccard" in page and "all-manipulated (baseline)" in page
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
    for choice in [line.split()[1] for line in several.stderr.splitlines() if "--experiment" in line]:
        flags = ["--suite", "tiny", "--contact", "me", "--experiment", choice, "--name", f"by-hash-{choice}"]
        assert deeploc("submit", "residual-unet+jaccard", *flags).returncode == 0
