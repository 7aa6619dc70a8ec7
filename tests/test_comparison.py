"""`compare` says what scipy says, of a runs folder and of submissions, or in one message why it can't."""

from __future__ import annotations

import json
import math
from itertools import count

import numpy as np
import pytest
from boards import GENERATORS, board, improved, submission, untrained, write
from click.testing import CliRunner
from runs import STANDARD, facts_of, others, records_of, write_training
from scipy import stats

from deeploc_bench.cli.compare import command
from deeploc_bench.contract.errors import DeeplocError

IMAGES, SOURCES = 12, 6


def ious_of(level, seeds, standard=STANDARD):
    """The IoUs of each generator's images by seed, whole hundredths; two images are of one source."""
    random = np.random.default_rng([round(100 * level), seeds])
    return {
        name: {seed: np.round(np.clip(random.normal(level, 0.1, IMAGES), 0, 1), 2) for seed in range(seeds)}
        for name in standard
    }


def write_method(runs, model, ious, *, protocol="loo", prefix="test", **changes):
    """Write the trainings of a method, each tested on one generator."""
    for test, by_seed in ious.items():
        train = others(test) if protocol == "loo" else (test,)
        for seed, values in by_seed.items():
            facts = facts_of(train, model=model, seed=seed, **changes)
            write_training(runs, facts, {test: records_of(values, prefix=prefix)})


def rows_of(ious):
    """The mean over generators of the IoUs of each image by seed: what the mean row is of, for equal sizes."""
    return {seed: np.mean([by_seed[seed] for by_seed in ious.values()], axis=0) for seed in next(iter(ious.values()))}


def expected(one, other, beside=(), fixed=0):
    """Difference, interval, p and what could be told, of IoUs by seed, by scipy alone; two images are of one source.

    `fixed` of the two have no random part.
    """
    apart = (np.mean(list(one.values()), axis=0) - np.mean(list(other.values()), axis=0)).reshape(-1, 2).mean(axis=1)
    groups = [[values.mean() for values in row.values()] for row in (one, other, *beside)]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(np.var(group) * len(group) for group in groups)
    shares = [1 / len(one), 1 / len(other)][: 2 - fixed]
    seeds = squares / freedom * sum(shares) if freedom else 0.0
    parts = [stats.sem(apart) ** 2, seeds]
    weights = [parts[0] ** 2 / (len(apart) - 1), parts[1] ** 2 / freedom if freedom else 0.0]
    t, error = stats.t(sum(parts) ** 2 / sum(weights)), math.sqrt(sum(parts))
    difference = apart.mean()
    bounds = difference + error * t.ppf([0.025, 0.975])
    return [difference, *bounds, 2 * t.sf(abs(difference) / error), error * (t.ppf(0.975) + t.ppf(0.8))]


def found_in(row):
    return [row["difference"], *row["interval"], row["p"], row["detectable"]]


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Compare in an empty folder; returns what is printed, raises what is refused."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        done = CliRunner().invoke(command, list(map(str, arguments)))
        if done.exception:
            raise done.exception
        return done.stdout

    return run


def compared(compare, *arguments):
    return json.loads(compare(*arguments, "--json"))["rows"]


def refused(compare, *arguments):
    """The message of a comparison that can't be made."""
    with pytest.raises(DeeplocError) as error:
        compare(*arguments)
    return str(error.value)


def lines_of(text):
    """The fields of each line of the printed table, the header first."""
    lines = [[field.strip() for field in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return [lines[0], *lines[2:]]


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (1, 3), (4, 2)])
def test_methods_of_a_runs_folder_are_compared_as_scipy_does_by_generator_and_in_the_mean(compare, tmp_path, seeds):
    one, other = ious_of(0.6, seeds[0]), ious_of(0.5, seeds[1])
    write_method(tmp_path / "runs", "net", one)
    write_method(tmp_path / "runs", "rival", other)
    rows = compared(compare, "net+jaccard", "rival+jaccard")
    assert [row["test_generator"] for row in rows] == [*STANDARD, None]
    for row, test in zip(rows, STANDARD, strict=False):
        np.testing.assert_allclose(found_in(row), expected(one[test], other[test]), rtol=1e-9)
    np.testing.assert_allclose(found_in(rows[-1]), expected(rows_of(one), rows_of(other)), rtol=1e-9)


def test_without_seeds_the_p_is_that_of_the_paired_t_test(compare, tmp_path):
    one, other = ious_of(0.6, 1), ious_of(0.5, 1)
    write_method(tmp_path / "runs", "net", one)
    write_method(tmp_path / "runs", "rival", other)
    means = [rows_of(ious)[0].reshape(-1, 2).mean(axis=1) for ious in (one, other)]
    mean = compared(compare, "net+jaccard", "rival+jaccard")[-1]
    assert mean["p"] == pytest.approx(stats.ttest_rel(*means).pvalue)
    assert (mean["sources"], mean["seed_variance"]) == (SOURCES, None)


@pytest.mark.parametrize("seeds", [(1, 1), (3, 2)])
def test_of_one_generator_the_mean_is_that_generator(compare, tmp_path, seeds):
    one, other = (ious_of(level, count, ["a"]) for level, count in zip((0.6, 0.5), seeds, strict=True))
    for model, ious in (("net", one), ("rival", other)):
        write_method(tmp_path / "runs", model, ious, protocol="same", standard_generators=("a",))
    rows = compared(compare, "net+jaccard", "rival+jaccard", "--protocol", "same")
    assert len(rows) == 2
    for row in rows:
        np.testing.assert_allclose(found_in(row), expected(one["a"], other["a"]), rtol=1e-9)


def test_the_seeds_of_what_lies_beside_are_pooled_and_what_is_not_trained_has_none(compare, tmp_path):
    one, other, beside = ious_of(0.6, 1), ious_of(0.5, 1), ious_of(0.4, 3)
    for model, ious in (("net", one), ("rival", other), ("third", beside)):
        write_method(tmp_path / "runs", model, ious)
    floor = {test: by_seed[0] for test, by_seed in ious_of(0.2, 1).items()}
    facts = facts_of((), kind="tested", baseline=True, model="floor")
    write_training(tmp_path / "runs", facts, {test: records_of(ious) for test, ious in floor.items()})
    mean = compared(compare, "net+jaccard", "rival+jaccard")[-1]
    np.testing.assert_allclose(found_in(mean), expected(rows_of(one), rows_of(other), [rows_of(beside)]), rtol=1e-9)
    above = compared(compare, "net+jaccard", "floor")[-1]
    lowest = {0: np.mean(list(floor.values()), axis=0)}
    np.testing.assert_allclose(found_in(above), expected(rows_of(one), lowest, [rows_of(beside)], fixed=1), rtol=1e-9)


def test_a_method_compared_with_itself_is_the_same(compare, tmp_path):
    write_method(tmp_path / "runs", "net", ious_of(0.6, 2))
    for row in compared(compare, "net+jaccard", "net + jaccard"):
        assert (row["difference"], row["p"], row["a"]) == (0, 1, row["b"])
        assert row["interval"][0] == -row["interval"][1] < 0


def ious_of_values(values, generators=GENERATORS):
    """The held-out IoUs of a submission's values, by generator, then by seed."""
    found = {name: {} for name in generators}
    for training in values["trainings"]:
        left = [name for name in generators if name not in training["train_generators"]]
        if len(left) == 1:
            tp, fp, fn = (np.array(training["tests"][left[0]][column]) for column in ("tp", "fp", "fn"))
            found[left[0]][training["seed"]] = tp / (tp + fp + fn)
    return found


@pytest.mark.parametrize("seeds", [((0, 1), (0, 1)), ((0, 1, 2), (0,)), ((0,), (0,))])
def test_submissions_are_compared_as_scipy_does_with_the_seeds_of_all_of_their_board(compare, tmp_path, seeds):
    made = zip(("one", "two"), count(1), seeds, strict=False)
    values = [submission(name, seed=seed, seeds=own) for name, seed, own in made]
    values.append(improved("three", 0.2, seed=3, seeds=(0, 1, 2)))
    board(tmp_path / "leaderboard", [*values, untrained(submission("floor", seed=4))])
    one, two, three = map(ious_of_values, values)
    rows = compared(compare, "one", "two")
    assert [row["test_generator"] for row in rows] == [*GENERATORS, None]
    for row, test in zip(rows, GENERATORS, strict=False):
        np.testing.assert_allclose(found_in(row), expected(one[test], two[test], [three[test]]), rtol=1e-9)
    np.testing.assert_allclose(found_in(rows[-1]), expected(*map(rows_of, (one, two)), [rows_of(three)]), rtol=1e-9)


def test_a_file_is_compared_with_what_lies_on_a_board(compare, tmp_path):
    folder = board(tmp_path / "board", [submission("one", seed=1), submission("two", seed=2)])
    file = folder / "submissions/synthetic/two.json"
    by_name = compared(compare, "one", "two", "--leaderboard", folder)
    assert compared(compare, folder / "submissions/synthetic/one.json", file) == by_name


def test_the_table_says_what_the_json_says_with_both_names_and_seeds(compare, tmp_path):
    write_method(tmp_path / "runs", "net", ious_of(0.6, 2))
    write_method(tmp_path / "runs", "rival", ious_of(0.5, 1))
    text = compare("net+jaccard", "rival+jaccard")
    lines = lines_of(text)
    assert lines[0][2:] == ["net+jaccard", "rival+jaccard", "difference", "95 % interval", "p", "could be told"]
    assert [line[1] for line in lines[1:]] == [*STANDARD, ""]
    mean = compared(compare, "net+jaccard", "rival+jaccard")[-1]
    assert lines[-1][4] == f"{mean['difference']:+.3f}"
    assert {"net+jaccard: seeds 0, 1", "rival+jaccard: seed 0"} <= set(text.splitlines())
    assert "sources only" not in text


def test_where_no_method_has_several_seeds_the_table_says_that_another_may_fall_outside(compare, tmp_path):
    for model in ("net", "rival"):
        write_method(tmp_path / "runs", model, ious_of(0.5, 1))
    assert "sources only; another seed or machine may fall outside" in compare("net+jaccard", "rival+jaccard")


def test_what_one_method_lacks_is_a_dash_and_its_mean_says_how_much_there_is(compare, tmp_path):
    whole = ious_of(0.5, 1)
    write_method(tmp_path / "runs", "net", whole)
    write_method(tmp_path / "runs", "rival", {test: whole[test] for test in "abc"})
    by_test = {line[1]: line[3:] for line in lines_of(compare("net+jaccard", "rival+jaccard"))}
    assert (by_test["d"], by_test[""]) == (["-"] * 5, ["3 of 4", *["-"] * 4])
    mean = compared(compare, "net+jaccard", "rival+jaccard")[-1]
    assert (mean["b"], mean["difference"], mean["interval"], mean["p"]) == (None,) * 4


def test_the_other_way_round_is_the_same_with_the_other_sign_also_where_one_lacks_a_cell(compare, tmp_path):
    write_method(tmp_path / "runs", "net", {test: ious_of(0.6, 2)[test] for test in "abc"})
    write_method(tmp_path / "runs", "rival", ious_of(0.5, 3))
    write_method(tmp_path / "runs", "third", ious_of(0.4, 4))
    there, back = (
        compared(compare, *names) for names in (("net+jaccard", "rival+jaccard"), ("rival+jaccard", "net+jaccard"))
    )
    for one, other in zip(there[:3], back[:3], strict=True):
        assert (one["difference"], one["p"]) == (-other["difference"], other["p"])
        assert one["interval"] == [-bound for bound in other["interval"][::-1]]
    assert len({line["p"] for line in there[:3]}) == 3


def test_a_name_of_several_experiments_is_refused_with_words_that_tell_them_apart(compare, tmp_path):
    write_method(tmp_path / "runs", "net", ious_of(0.6, 1))
    write_method(tmp_path / "runs", "net", ious_of(0.5, 1), source="edited")
    message = refused(compare, "net+jaccard", "net+jaccard")
    assert "'net+jaccard' means several methods; choose one:" in message
    first, second = (line.split()[0] for line in message.strip().splitlines()[1:])
    assert {first, second} <= set(lines_of(compare(first, second))[0])
    assert "means none of the methods of that name" in refused(compare, "net+jaccard@ffffffff", first)


def test_the_matched_budget_is_another_method_of_the_name(compare, tmp_path):
    few = {"train_samples": (4, 4, 4), "available_samples": (12, 12, 12)}
    one, other = ious_of(0.6, 2), ious_of(0.5, 2)
    write_method(tmp_path / "runs", "net", one)
    write_method(tmp_path / "runs", "net", other, data="half", **few)
    message = refused(compare, "net+jaccard", "net+jaccard@matched")
    assert "means several methods" in message
    mean = compared(compare, "net+jaccard@full", "net+jaccard@matched")[-1]
    np.testing.assert_allclose(found_in(mean), expected(rows_of(one), rows_of(other)), rtol=1e-9)


def test_an_unknown_name_is_told_with_those_there_are(compare, tmp_path):
    write_method(tmp_path / "runs", "net", ious_of(0.6, 1))
    message = refused(compare, "net+jaccard", "nett+jaccard")
    assert "unknown method or submission 'nett+jaccard'. Did you mean 'net+jaccard'? Known: net+jaccard." in message
    assert "Or name a submission's file." in message


def test_where_there_is_neither_folder_nor_file_it_is_told(compare):
    assert "unknown method or submission 'net+jaccard'. Known: none." in refused(
        compare, "net+jaccard", "rival+jaccard"
    )
    assert "nowhere.json: No such file" in refused(compare, "nowhere.json", "nowhere.json")


@pytest.mark.parametrize("name", ["**x", "*", "a[", "..", "", "a" * 400])
def test_a_word_that_is_no_name_means_nothing(compare, tmp_path, name):
    board(tmp_path / "leaderboard", [submission("one", seed=1)])
    assert "unknown method or submission" in refused(compare, name, "one")


def test_the_command_refuses_with_one_message_and_exit_code_2(deeploc):
    done = deeploc("compare", "net+jaccard", "rival+jaccard")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: unknown method or submission")


def test_an_unknown_protocol_and_one_that_is_lacking_are_told(compare, tmp_path):
    write_method(tmp_path / "runs", "net", ious_of(0.6, 1))
    values = [submission("one", seed=1), submission("two", seed=2)]
    for one in values:
        one["trainings"] = [training for training in one["trainings"] if len(training["train_generators"]) > 1]
    folder = board(tmp_path / "leaderboard")
    for one in values:
        one["claims"] |= {"same": None, "cross": None, "gap": None}
        write(folder, one)
    assert "Known: cross, lodo, loo, same, score." in refused(compare, "one", "two", "--protocol", "los")
    message = refused(compare, "one", "two", "--protocol", "same")
    assert "one has no tests of protocol 'same'; it has those of loo" in message
    assert "unknown method or submission" in refused(compare, "net+jaccard", "net+jaccard", "--protocol", "cross")


def test_methods_of_two_suites_and_of_other_images_are_not_compared(compare, tmp_path):
    write_method(tmp_path / "runs", "net", ious_of(0.6, 1))
    write_method(tmp_path / "runs", "far", ious_of(0.5, 1), suite="another")
    write_method(tmp_path / "runs", "odd", ious_of(0.5, 1), prefix="other")
    message = refused(compare, "net+jaccard", "far+jaccard")
    assert "net+jaccard is of suite 'made', far+jaccard of suite 'another'" in message
    assert "were tested on different images of a" in refused(compare, "net+jaccard", "odd+jaccard")


def test_a_submission_that_is_not_sound_is_not_compared(compare, tmp_path):
    folder = board(tmp_path / "leaderboard", [submission("one", seed=1)])
    values = submission("two", seed=2)
    values["claims"]["loo"]["iou"] = 0.99
    write(folder, values)
    message = refused(compare, "two", "one")
    assert "two.json is not a sound submission" in message and "0.99" in message


def test_what_one_source_alone_cannot_tell_is_null_in_json(compare, tmp_path):
    ious = {test: {0: np.array([0.25, 0.75])} for test in STANDARD}  # of one source, which alone cannot tell
    for model in ("net", "rival"):
        write_method(tmp_path / "runs", model, ious)
    mean = compared(compare, "net+jaccard", "rival+jaccard")[-1]
    assert (mean["difference"], mean["interval"], mean["p"], mean["sources"]) == (0, [None, None], None, 1)
