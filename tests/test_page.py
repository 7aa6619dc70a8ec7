"""The page: nothing in a submission or a publication can break it, and every number stands in its own column."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import re

import pytest
from boards import entry_of, improved, scored, submission, untrained, with_claims
from msgspec.structs import replace

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.data.suites import Manifest, ManifestGenerator
from deeploc_bench.leaderboard.claims import shown_of
from deeploc_bench.leaderboard.page import command, figures, render, standings_of
from deeploc_bench.leaderboard.submission import parse
from deeploc_bench.results.published import Publication, Published, PublishedRow, published


def entry(name="entry", **options):
    return entry_of(submission(name, **options))


def about(one, **changes):
    return dataclasses.replace(one, about=replace(one.about, **changes))


def page_of(entries, published=None, suites=()):
    manifests = {name: Manifest(suite=name, fingerprint=None, generators={}) for name in [*suites, *(published or {})]}
    return render(standings_of(entries), published or {}, manifests)


def table(page, heading):
    """Return the table below a heading (of the suite, a section or folded), its cells by place."""
    rows = next(part for part in page.split(heading, 1)[1].split("\n\n") if part.startswith("|")).splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (rows[0], *rows[2:])]


def column(page, heading, place):
    header, *rows = table(page, heading)
    return [row[header.index(place) if isinstance(place, str) else place] for row in rows]


SUITE, GENERATORS, SAME, ABOUT = (
    "## synthetic",
    "### Held-out IoU by generator",
    "Same generator:",
    "What the entries are",
)
MATCHED, CROSS = "Matched budget:", "Trained on one (rows)"


def test_the_order_of_the_files_does_not_matter():
    entries = [entry(name, seed=seed) for seed, name in enumerate("abc")]
    assert page_of(entries, suites=["synthetic"]) == page_of(entries[::-1], suites=["synthetic"])


def test_the_page_says_of_which_generators_the_masks_are_only_where_edits_were_asked_for():
    parts = {
        name: ManifestGenerator(role="standard", test=None, regenerated=name == "sdxl") for name in ("lama", "sdxl")
    }
    manifest = Manifest(suite="synthetic", fingerprint=None, generators=parts)
    page = render(standings_of([entry()]), {}, {"synthetic": manifest})
    assert "\n- sdxl: masks say where the edit was asked for; other pixels changed, too.\n" in page
    assert "asked for" not in page_of([entry()], suites=["synthetic"])


def turned(value):
    if isinstance(value, dict):
        return {key: turned(part) for key, part in reversed(value.items())}
    return [turned(part) for part in value] if isinstance(value, list) else value


def test_the_order_of_keys_and_trainings_in_a_file_does_not_matter():
    values = submission("a")
    other = turned(values)
    other["trainings"] = other["trainings"][::-1]
    one, two = (standings_of([entry_of(each)]) for each in (values, other))
    assert render(one, {}, {}) == render(two, {}, {}) and figures(one) == figures(two)


def test_suites_that_have_submissions_stand_first_and_a_table_has_at_most_eight_columns():
    page = page_of([entry("a")], {"dolos": published()["dolos"]}, ["aaa"])
    assert re.findall("^## (.*)$", page, re.MULTILINE) == ["synthetic", "aaa", "dolos", "Columns"]
    assert table(page, SUITE)[0] == [
        *("rank", "entry", "IoU", "above best baseline", "false alarm", "seeds", "trust", "code")
    ]
    assert all(line.count("|") <= 9 for line in page.splitlines() if line.startswith("|"))


def test_the_main_table_says_what_the_records_say():
    trivial = entry_of(untrained(submission("trivial", seed=1)))
    one = entry_of(improved("good", 0.8, seed=2))
    page = page_of([one, trivial])
    rank, name, iou, above, alarm, seeds, trusted, code = table(page, SUITE)[1]
    claims, row = one.claims, standings_of([one, trivial])["synthetic"].rows[0]
    assert (rank, name) == ("1", "[good](submissions/synthetic/good.json)")
    assert iou == f"{claims.loo.iou:.3f} ({row.interval.low:.3f} to {row.interval.high:.3f})"
    assert above == f"{row.above.difference:+.3f}, {row.above.low:+.3f} to {row.above.high:+.3f}"
    assert (alarm, seeds) == (f"{claims.false_alarm_area:.3f}", "2")
    assert (trusted, code) == ("self-reported", "[code](https://example.org/code)")


@pytest.mark.parametrize("name", ["gap", "worst", "date", "rank", "link", "model", "entry", "iou"])
def test_a_generator_called_like_a_column_keeps_its_numbers(name):
    one = entry("a", generators=("alpha", name))
    page = page_of([one])
    place = list(one.about.generators).index(name)
    assert column(page, GENERATORS, 1 + place) == [f"{one.claims.loo.by_generator[name]:.3f}"]
    assert column(page, GENERATORS, 3) == [f"{one.claims.worst:.3f}"]
    assert table(page, GENERATORS)[0] == ["entry", *one.about.generators, "worst"]
    assert column(page, SAME, 2 + place) == [f"{one.claims.same.by_generator[name]:.3f}"]


def test_a_cell_below_the_best_baseline_has_a_star_that_is_explained():
    trivial = entry_of(improved("trivial", 0.9, seed=1) | {"baseline": True})
    page = html.unescape(page_of([entry("weak", seed=2), trivial]))
    rows = {row[0]: row[1:-1] for row in table(page, GENERATORS)[1:]}
    assert all(field.endswith("*") for field in rows["weak"])
    assert not any(field.endswith("*") for field in rows["trivial"])
    assert "* below the best baseline of the line" in page
    assert "Not shown to be better than the best baseline: weak." in page


def test_what_can_and_cannot_be_told_apart_is_said_in_words():
    entries = [entry(name, seed=seed) for seed, name in enumerate("ab", start=1)]
    page = page_of(entries)
    standing = standings_of(entries)["synthetic"]
    first, second = (row.entry.name for row in standing.rows)
    assert f"Ranked with the best: {second}." in page
    case = f"Compared alone, two rows of 3 seeds each that differ by {standing.smallest:.3f}"
    assert f"{case} are told apart in 80 % of cases." in page
    assert "over 6 sources and over seeds (sd between seeds 0.0" in page


def test_one_source_alone_tells_nothing_and_the_page_says_no_number_for_it():
    values = [submission(name, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    for each in values:
        each["sources"] = {name: ["photo-0000"] * len(sources) for name, sources in each["sources"].items()}
    page = page_of([entry_of(with_claims(each)) for each in values])
    assert "told apart in 80 %" not in page and "nan" not in page
    ious = sorted((each["claims"]["loo"]["iou"] for each in values), reverse=True)
    assert column(page, SUITE, "IoU") == [f"{iou:.3f}" for iou in ious]


def test_a_page_without_several_seeds_ranks_nothing_and_says_what_its_intervals_lack():
    page = page_of([entry("one", seed=2, seeds=(0,))])
    assert column(page, SUITE, "rank") == ["one seed"]
    assert "Intervals: sources only; another seed or machine may fall outside" in page
    assert "Reproduce the first row" not in page and figures(standings_of([entry("one", seeds=(0,))])) == {}


def test_a_matched_budget_is_shown_beside_its_method_and_not_ranked():
    matched = entry_of(with_claims(submission("small", seed=4) | {"budget": "matched"}))
    full = entry("full", seed=5)
    page = page_of([full, matched])
    assert table(page, MATCHED)[1] == ["small", f"{matched.claims.loo.iou:.3f}", f"{full.claims.loo.iou:.3f}"]
    assert dict(zip(column(page, SUITE, "entry"), column(page, SUITE, "rank"), strict=True)) == {
        "[full](submissions/synthetic/full.json)": "1",
        "[small](submissions/synthetic/small.json)": "matched",
    }


def test_a_command_quotes_a_loss_with_brackets():
    assert "--loss jaccard --recipe" in command(entry())
    one = about(entry(), loss_expression="0.5*focal(gamma=3)+dice")
    assert "--loss '0.5*focal(gamma=3)+dice' --recipe quick --seed 0" in command(one)


def test_only_baselines_are_called_so_and_a_detector_has_a_word_in_place_of_a_rank():
    trivial = entry_of(untrained(submission("trivial", seed=1)))
    detector = entry_of(untrained(submission("detector", seed=2), baseline=False))
    page = html.unescape(page_of([trivial, detector]))
    assert "detector (not declared)" in column(page, GENERATORS, "entry") and "*seen*, on some of them" in page
    assert "*seen*" not in page_of([trivial])
    what = zip(column(page, ABOUT, "model + loss"), column(page, ABOUT, "division"), strict=True)
    assert set(what) == {("net (baseline)", "-"), ("net (only tested; trained elsewhere: not declared)", "open")}
    assert sorted(column(page, SUITE, "rank")) == ["baseline", "not declared"]
    assert column(page, SUITE, "seeds") == ["-", "-"]
    assert "- detector: `deeploc-bench run --suite synthetic" in page and "- trivial: `" not in page


def test_predictions_made_elsewhere_are_ranked_in_the_open_division_and_said_to_be_so():
    best = entry_of(scored(improved("elsewhere", 0.9, seed=1, images=60)))
    page = page_of([best, entry(seed=2, images=60), entry_of(untrained(submission("floor", seed=3, images=60)))])
    assert table(page, SUITE)[1][0] == "1" and column(page, SUITE, "seeds")[0] == "2"
    assert best.rows["loo"].mean.score.seeded  # its interval holds what is between seeds
    assert "Scored, from predictions made elsewhere (open division): elsewhere." in page
    assert table(page, ABOUT)[1][1:3] == ["net (scored: predictions made elsewhere)", "open"]
    assert "Reproduce entry, or beat it" in page and "- elsewhere: `deeploc-bench" not in page
    assert "Reproduce" not in page_of([best])


def test_of_one_seed_each_predictions_made_elsewhere_are_not_ranked_either():
    page = page_of([entry_of(scored(submission("elsewhere", seeds=(0,))))])
    assert table(page, SUITE)[1][0] == "one seed"


def test_the_matrix_is_never_of_a_baseline():
    trivial = entry_of(improved("trivial", 0.9) | {"baseline": True})
    net = entry("net", seed=1)
    page = page_of([trivial, net])
    assert table(page, CROSS)[0] == ["net", *net.about.generators]
    assert table(page, CROSS)[1][1:] == [f"{value:.3f}" for value in net.claims.cross["lama"].values()]


def test_the_figure_is_of_the_ranked_entries_alone():
    trivial = entry_of(improved("trivial", 0.9) | {"baseline": True})
    drawn = figures(standings_of([entry("a"), entry("b", seed=1), trivial]))
    assert list(drawn) == ["synthetic-gap.svg"]
    assert ">a</text>" in drawn["synthetic-gap.svg"] and ">trivial</text>" not in drawn["synthetic-gap.svg"]


def test_the_command_of_a_row_reproduces_its_trainings_and_is_shown_in_lines_that_fit():
    values = copy.deepcopy(submission())
    values["recipe"] |= {"lr": 0.001}
    whole = (
        "deeploc-bench run --suite synthetic --protocol loo --protocol same --protocol cross "
        "--model net --loss jaccard --recipe quick --set lr=0.001 --seed 0 --seed 1"
    )
    assert command(entry_of(values)) == whole
    shown = page_of([entry_of(values)]).split("```")[1].strip().splitlines()
    first = next(place for place, line in enumerate(shown) if not line.endswith("\\"))
    assert " ".join(line.rstrip("\\").strip() for line in shown[: first + 1]) == whole
    assert all(len(line) <= 100 for line in shown) and not any(line.endswith(" --set \\") for line in shown)


def test_the_command_of_a_plugins_model_names_a_plugin():
    values = submission() | {"model": submission()["model"] | {"distribution": None}}
    assert " --plugin PLUGIN.py --model net " in command(entry_of(values))


def test_published_rows_stand_apart_with_their_dialect_and_the_place_they_were_read_from():
    page = page_of([], {"dolos": published()["dolos"]}, ["dolos"])
    assert "### Published, not recomputed" in page and "Be the first" in page
    rows = table(page, "### Published, not recomputed")[1:]
    poster = [row for row in rows if "Unet++ with ResNet-50" in row[0]]
    assert poster[0][2:] == ["0.763", "0.900", "0.510", "0.900", "0.740", "not stated"]
    assert "table 2" in page.split("<summary>Sources</summary>")[1]


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
    "generators": lambda text: about(entry(), generators=("lama", text)),
}


def assert_harmless(page, text, calm):
    """The text is shown, word for word, and the page has the same marks as with a calm text in its place."""
    assert " ".join(text.split()) in html.unescape(page)
    for mark in ("<", ">", "|", "[", "]", "](", "`", "\n", "#", "*", "_", "{", "~", "\\"):
        count = (page.replace("&#", "").count(mark), calm.replace("&#", "").count(mark))
        assert count[0] == count[1], mark


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", SHOWN)
def test_no_text_of_a_submission_can_break_or_script_the_page(field, text):
    page, calm = (page_of([SHOWN[field](value)]) for value in (text, "calm"))
    assert_harmless(without_commands(page), text, without_commands(calm))


def without_commands(page):
    """Return the page without what has rules of its own: commands, which are code, and quoted addresses."""
    page = re.sub(r"\]\([^()]*\)", "](address)", page)
    page = re.sub(r"`deeploc-bench run[A-Za-z0-9 .*+=_-]*`", "command", page)
    return re.sub(r" +|-{2,}", " ", page)  # columns are as wide as their widest text


WORDS = ("title", "citation", "conditions", "dialect", "model", "place")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", [*WORDS, "generator", "trained on"])
def test_no_published_text_can_break_or_script_the_page(field, text):
    def page_with(value):
        words = dict.fromkeys(WORDS, "w") | ({field: value} if field in WORDS else {})
        test, train = (value if field == place else "lama" for place in ("generator", "trained on"))
        row = PublishedRow(model=words.pop("model"), trained_on=train, place=words.pop("place"), iou={test: 0.5})
        one = Publication(name="n", reference=None, row=(row,), **words)
        return without_commands(page_of([], {"s": Published(suite="s", entry=(one,))}))

    assert_harmless(page_with(text), text, page_with("calm"))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_suite_name_can_break_the_page(text):
    page = page_of([], {text: Published(suite=text, entry=())})
    heading, _ = re.findall("^## .*$", page, re.MULTILINE)
    assert re.fullmatch(r"## ([A-Za-z0-9.-]|&#95;)*", heading)
    assert "<" not in page and "javascript:" not in page and "{{" not in page and "{%" not in page


@pytest.mark.parametrize("text", HOSTILE)
def test_no_recipe_can_break_out_of_a_command(text):
    one = entry()
    hostile = dataclasses.replace(one, recipe=replace(one.recipe, name=text, weights=text))
    hostile = about(hostile, suite=text, loss_expression=text, model=replace(one.about.model, name=text))
    assert re.fullmatch(r"[A-Za-z0-9 .*+=_-]+", command(hostile))


@pytest.mark.parametrize("name", ["quick --plugin evil.py", "--plugin=evil.py", "-x", "a;b", "a\nb", "$(x)"])
def test_no_name_of_a_recipe_adds_a_flag_to_a_command(name):
    one = dataclasses.replace(entry(), recipe=replace(entry().recipe, name=name))
    assert "--recipe" not in command(one) and "evil" not in command(one) and "--loss jaccard --seed 0" in command(one)


@pytest.mark.parametrize("text", ["www.example.org", "WWW.example.org", "http://example.org", "https://example.org"])
def test_a_bare_address_is_no_link(text):
    row = PublishedRow(model=text, trained_on=text, place=text, iou={"a": 0.5})
    one = Publication(name="n", title=text, citation=text, dialect=text, row=(row,))
    page = page_of([about(entry(), suite=text)], {text: Published(suite=text, entry=(one,))})
    shown = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", page, flags=re.DOTALL)  # neither code nor what a link leads to
    assert text in html.unescape(shown) and text not in shown


def test_what_was_published_on_a_suite_without_a_manifest_is_shown_and_asks_for_no_submission():
    page = render({}, published(), {})
    assert "## dolos" in page and "Be the first" not in page
    assert page.count("Submissions are taken once the board has the suite's manifest") == len(published())


ROW = PublishedRow(model="m", trained_on="all", place="table 1", iou={"a": 0.5})


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "http://example.org", "data:text/html,x", "//x.org", " https://x"]
)
def test_only_https_addresses_become_links(target):
    publication = Publication(name="n", title="title", citation="c", dialect="d", reference=target, row=(ROW,))
    page = page_of([about(entry(), code=target)], {"s": Published(suite="s", entry=(publication,))})
    assert "[title" not in page and "[code]" not in page and target.strip() not in page
    values = submission() | {"code": target}
    with pytest.raises(SubmissionError, match="code"):
        parse(json.dumps(values).encode(), "entry.json")


def test_an_address_cannot_end_its_link_early():
    page = page_of([about(entry(), code="https://example.org/a)(b|c<d>`e`\n[f]")])
    assert column(page, SUITE, "code") == ["[code](https://example.org/a%29%28b%7Cc%3Cd%3E%60e%60%0A%5Bf%5D)"]


NOT_SHOWN = ("contact", "license", "reference")


@pytest.mark.parametrize("field", NOT_SHOWN)
def test_what_is_only_for_the_file_is_not_on_the_page(field):
    assert "planted-text" not in page_of([about(entry(), **{field: "planted-text"})])


def test_what_a_board_keeps_of_an_entry_gives_the_same_page_and_is_no_more_than_that_needs():
    whole = [entry("one"), entry("two", seed=1), entry_of(untrained(submission("trivial", seed=2)))]
    kept = [shown_of(one) for one in whole]
    assert page_of(kept) == page_of(whole) and figures(standings_of(kept)) == figures(standings_of(whole))
    assert all(set(one.rows) == {"loo", "same"} and not one.rows["same"].pairs for one in kept)
