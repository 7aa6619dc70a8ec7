"""The page: nothing in a submission or a publication can break it, and every number stands in its own column."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import re

import pytest
from boards import entry_of, improved, submission, untrained, with_claims
from msgspec.structs import replace

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.leaderboard.page import command, figures, render
from deeploc_bench.leaderboard.ranking import rank
from deeploc_bench.leaderboard.submission import parse
from deeploc_bench.results.published import Publication, Published, published


def entry(name="entry", **options):
    return entry_of(submission(name, **options))


def about(one, **changes):
    return dataclasses.replace(one, about=replace(one.about, **changes))


def table(page, heading):
    """Return the table below a heading, its cells by place."""
    lines = page.split(f"### {heading}\n\n")[1].split("\n\n")
    rows = next(part for part in lines if part.startswith("|")).splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (rows[0], *rows[2:])]


def column(page, heading, place):
    header, *rows = table(page, heading)
    return [row[header.index(place) if isinstance(place, str) else place] for row in rows]


def test_the_order_of_the_files_does_not_matter():
    entries = [entry(name, seed=seed) for seed, name in enumerate("abc")]
    assert render(entries, {}, ["synthetic"]) == render(entries[::-1], {}, ["synthetic"])


def turned(value):
    if isinstance(value, dict):
        return {key: turned(part) for key, part in reversed(value.items())}
    return [turned(part) for part in value] if isinstance(value, list) else value


def test_the_order_of_keys_and_trainings_in_a_file_does_not_matter():
    values = submission("a")
    other = turned(values)
    other["trainings"] = other["trainings"][::-1]
    assert render([entry_of(values)], {}, []) == render([entry_of(other)], {}, [])
    assert figures([entry_of(values)]) == figures([entry_of(other)])


@pytest.mark.parametrize("name", ["gap", "worst", "date", "rank", "link", "model"])
def test_a_generator_called_like_a_column_keeps_its_numbers(name):
    one = entry("a", generators=("alpha", name))
    page = render([one], {}, [])
    place = 6 + list(one.about.generators).index(name)
    assert column(page, "Held-out generator (loo)", place) == [f"{one.claims.loo.by_generator[name]:.2f}"]
    header = table(page, "Held-out generator (loo)")[0]
    assert header[6:8] == list(one.about.generators)
    later = {title: place for place, title in enumerate(header) if place > 7}
    assert column(page, "Held-out generator (loo)", later["worst"]) == [f"{one.claims.worst:.2f}"]
    assert column(page, "Held-out generator (loo)", later["gap"]) == [f"{one.claims.gap:.2f}"]
    assert column(page, "Held-out generator (loo)", later["date"]) == ["2026-01-31"]
    assert column(page, "Same generator", 4 + place - 6) == [f"{one.claims.same.by_generator[name]:.2f}"]


def test_an_entry_of_one_seed_shares_its_rank_and_its_spread_is_unknown():
    best = entry_of(improved("best", 0.8, seed=1, images=60, seeds=(0,)))
    page = render([best, entry("one", seed=2, images=60)], {}, [])
    assert column(page, "Held-out generator (loo)", "rank") == ["1", "1"]
    assert column(page, "Held-out generator (loo)", "sd")[0] == "?"


def test_a_matched_budget_is_shown_beside_its_row_and_not_ranked():
    matched = entry_of(with_claims(submission("small", seed=4) | {"budget": "matched"}))
    page = render([entry("full", seed=5), matched], {}, [])
    rows = dict(
        zip(column(page, "Held-out generator (loo)", "rank"), table(page, "Held-out generator (loo)")[1:], strict=True)
    )
    place = table(page, "Held-out generator (loo)")[0].index("matched")
    assert rows["1"][place] == f"{matched.claims.loo.iou:.2f}"
    assert "[small]" in rows["-"][1]


def test_only_baselines_are_called_trivial_and_a_tested_detector_is_ranked():
    trivial = entry_of(untrained(submission("trivial", seed=1)))
    detector = entry_of(untrained(submission("detector", seed=2), baseline=False))
    page = html.unescape(render([trivial, detector], {}, []))
    what = column(page, "Held-out generator (loo)", "model + loss")
    division = column(page, "Held-out generator (loo)", "division")
    rows = dict(zip(what, zip(column(page, "Held-out generator (loo)", "rank"), division, strict=True), strict=True))
    assert rows == {"net (trivial baseline)": ("-", "baseline"), "net (only tested)": ("1", "open")}
    assert column(page, "Held-out generator (loo)", "sd") == ["-", "-"]
    assert "- detector: `deeploc-bench run --suite synthetic" in page and "- trivial: `" not in page


def test_the_matrix_and_its_drawing_are_of_the_same_entry_and_never_of_a_baseline():
    trivial = entry_of(improved("trivial", 0.9) | {"baseline": True})
    entries = [trivial, entry("net", seed=1)]
    page = render(entries, {}, [])
    assert rank(entries)[0].entry is trivial
    assert "net, the first row above that has it:" in page and "![train x test, net]" in page
    assert ">net</text>" in figures(entries)["synthetic-cross.svg"]


def test_figures_are_drawn_of_what_was_submitted():
    drawn = figures([entry("a"), entry("b", seed=1)])
    assert sorted(drawn) == ["synthetic-cross.svg", "synthetic-gap.svg"]
    best = rank([entry("a"), entry("b", seed=1)])[0].entry
    assert all(f">{value:.2f}<" in drawn["synthetic-cross.svg"] for value in best.claims.cross["lama"].values())


def test_the_command_of_a_row_reproduces_its_trainings():
    values = copy.deepcopy(submission())
    values["recipe"] |= {"lr": 0.001}
    assert command(entry_of(values)) == (
        "deeploc-bench run --suite synthetic --protocol loo --protocol same --protocol cross "
        "--model net --loss jaccard --recipe quick --set lr=0.001 --seed 0 --seed 1"
    )


def test_published_rows_stand_apart_with_their_dialect():
    page = render([], published(), [])
    assert "### Published, not recomputed" in page and "Be the first" in page
    rows = table(page, "Published, not recomputed")[1:]
    poster = next(
        row for row in rows if row[:2] == ["Deepfake Localization: Unet++ with ResNet-50, Jaccard loss", "same"]
    )
    assert poster[2:8] == ["0.76", "0.90", "0.51", "0.90", "0.74", "not stated; most likely smp-batch"]


def test_a_published_row_that_lacks_generators_has_no_mean():
    rows = {
        "full": Publication(name="full", title="full", citation="c", dialect="d", loo={"a": 0.2, "b": 0.4}),
        "half": Publication(name="half", title="half", citation="c", dialect="d", loo={"a": 0.5}),
    }
    page = render([], {"s": Published(suite="s", entry=tuple(rows.values()))}, [])
    assert column(page, "Published, not recomputed", "IoU") == ["0.30", "1 of 2"]


HOSTILE = [
    "<script>alert(1)</script>",
    "a | b",
    "`rm -rf`",
    "[x](javascript:alert(1))",
    "a\nb\n\n# title",
    "![i](x)",
    "&lt;b&gt;",
    "**bold** _it_ ~~x~~",
    "{{ suites }}{% raw %}",
    "\\| \\`",
]
# what a page shows of an entry as text; links, numbers and commands are below
SHOWN = {
    "name": lambda text: about(entry(), name=text),
    "model": lambda text: about(entry(), model=replace(entry().about.model, name=text)),
    "loss expression": lambda text: about(entry(), loss_expression=text),
    "division": lambda text: about(entry(), division=text),
    "budget": lambda text: about(entry(), budget=text),
    "generators": lambda text: about(entry(), generators=("lama", text)),
}


def assert_harmless(page, text, calm):
    """The text is shown, word for word, and the page has the same marks as with a calm text in its place."""
    assert " ".join(text.split()) in html.unescape(page)
    for mark in ("<", ">", "|", "[", "]", "(", "`", "\n", "#", "*", "_", "{", "~", "\\"):
        count = (page.replace("&#", "").count(mark), calm.replace("&#", "").count(mark))
        assert count[0] == count[1], mark


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", SHOWN)
def test_no_text_of_a_submission_can_break_or_script_the_page(field, text):
    page, calm = (render([SHOWN[field](value)], {}, []) for value in (text, "calm"))
    assert_harmless(without_commands(page), text, without_commands(calm))


def without_commands(page):
    """Return the page without what has rules of its own: commands, which are code, and quoted addresses."""
    page = re.sub(r"\]\([^()]*\)", "](address)", page)
    page = re.sub(r"`deeploc-bench run[A-Za-z0-9 .*+=_-]*`", "command", page)
    return re.sub(r" +|-{2,}", " ", page)  # columns are as wide as their widest text


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["title", "citation", "dialect", "generator", "trained on"])
def test_no_published_text_can_break_or_script_the_page(field, text):
    def page_with(value):
        words = {"title": "t", "citation": "c", "dialect": "d"} | (
            {field: value} if field in ("title", "citation", "dialect") else {}
        )
        test, train = (value if field == place else "lama" for place in ("generator", "trained on"))
        one = Publication(name="n", reference=None, loo={test: 0.5}, cross={train: {"lama": 0.25}}, **words)
        return without_commands(render([], {"s": Published(suite="s", entry=(one,))}, []))

    assert_harmless(page_with(text), text, page_with("calm"))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_suite_name_can_break_the_page(text):
    page = render([], {text: Published(suite=text, entry=())}, [])
    (heading,) = re.findall("^## .*$", page, re.MULTILINE)
    assert re.fullmatch(r"## [A-Za-z0-9._-]*", heading)
    assert "<" not in page and "javascript:" not in page and "{{" not in page and "{%" not in page


@pytest.mark.parametrize("text", HOSTILE)
def test_no_recipe_can_break_out_of_a_command(text):
    one = entry()
    hostile = dataclasses.replace(one, recipe=replace(one.recipe, name=text, weights=text))
    hostile = about(hostile, suite=text, loss_expression=text, model=replace(one.about.model, name=text))
    assert re.fullmatch(r"[A-Za-z0-9 .*+=_-]+", command(hostile))


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "http://example.org", "data:text/html,x", "//x.org", " https://x"]
)
def test_only_https_addresses_become_links(target):
    publication = Publication(name="n", title="title", citation="c", dialect="d", reference=target, loo={"a": 0.5})
    page = render([about(entry(), code=target)], {"s": Published(suite="s", entry=(publication,))}, [])
    assert "[title]" not in page and "[code]" not in page and target.strip() not in page.replace("&#40;", "(")
    values = submission() | {"code": target}
    with pytest.raises(SubmissionError, match="code"):
        parse(json.dumps(values).encode(), "entry.json")


def test_an_address_cannot_end_its_link_early():
    page = render([about(entry(), code="https://example.org/a)(b|c<d>`e`\n[f]")], {}, [])
    assert column(page, "Held-out generator (loo)", "link") == [
        "[code](https://example.org/a%29%28b%7Cc%3Cd%3E%60e%60%0A%5Bf%5D)"
    ]


NOT_SHOWN = ("contact", "license", "reference")


@pytest.mark.parametrize("field", NOT_SHOWN)
def test_what_is_only_for_the_file_is_not_on_the_page(field):
    assert "planted-text" not in render([about(entry(), **{field: "planted-text"})], {}, [])
