"""Scores, intervals, comparisons and ranks, against scipy and numpy, values worked by hand, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deeploc_bench.scoring.statistics import (
    Score,
    SeedVariance,
    compare,
    interval,
    pooled,
    ranks,
    score,
    smallest_difference,
)

NONE = SeedVariance()


def names_of(sizes):
    return [f"photo-{i:03}" for i, size in enumerate(sizes) for _ in range(size)]


def balanced(sources, images=4, seed=0, seeds=1):
    """The sources and IoUs of one generator, as many images of each source."""
    random = np.random.default_rng(seed)
    effects = random.normal(0.5, 0.1, (sources, 1))
    ious = {k: (effects + random.normal(0, 0.05, (sources, images))).ravel() for k in range(seeds)}
    return names_of([images] * sources), ious


def source_means(generator, sources):
    names, by_seed = generator
    return np.mean(list(by_seed.values()), axis=0).reshape(sources, -1).mean(axis=1)


def one_score(values, seed_ious=(0.5,), **changes):
    """A score with these deviations, made by hand."""
    values = np.array(values, float)
    names = tuple(f"photo-{i:03}" for i in range(len(values)))
    made = {"iou": float(np.mean(seed_ious)), "generator_ious": (), "seed_ious": tuple(seed_ious)}
    return Score(**made | {"sources": names, "deviations": values - values.mean()} | changes)


def worlds(random, sources, seeds, *, sizes=None, spread=0.02, level=0.5):
    """A row of three generators whose true score is `level`; sources differ in size, each seed moves all images."""
    names = names_of(sizes)
    effects, moves = random.normal(0, 0.1, sources), random.normal(0, spread, seeds)
    row = []
    for _ in range(3):
        own = np.repeat(effects + random.normal(0, 0.05, sources), sizes)
        by_seed = {k: level + own + move + random.normal(0, 0.05, len(own)) for k, move in enumerate(moves)}
        row.append((names, by_seed))
    return row


# --- score


def test_a_score_is_the_mean_over_generators_of_the_mean_over_images_averaged_over_seeds():
    first = (["a", "a", "b"], {0: np.array([0.2, 0.4, 0.6]), 1: np.array([0.4, 0.4, 0.4])})  # 0.4 and 0.4
    second = (["a"], {0: np.array([0.8]), 1: np.array([1.0])})
    found = score([first, second])
    np.testing.assert_allclose(found.generator_ious, [0.4, 0.9], rtol=1e-12)
    np.testing.assert_allclose(found.seed_ious, [0.6, 0.7], rtol=1e-12)
    assert found.iou == pytest.approx(0.65, rel=1e-12)
    assert found.spread == pytest.approx(np.std([0.6, 0.7], ddof=1))


def test_deviations_of_sources_of_unequal_size_are_those_worked_by_hand():
    found = score([(["b", "a", "a"], {0: np.array([0.9, 0.3, 0.3])})])  # mean 0.5
    assert found.sources == ("a", "b")
    np.testing.assert_allclose(found.deviations, [-0.4 / 3, 0.4 / 3], rtol=1e-12)
    assert found.source_variance == pytest.approx(2 / 1 * 2 * (0.4 / 3) ** 2)


def test_deviations_of_two_generators_are_each_from_its_own_mean():
    first = (["a", "a", "b"], {0: np.array([0.3, 0.3, 0.9])})  # mean 0.5: -0.4 / 3 and 0.4 / 3
    second = (["b", "c"], {0: np.array([0.2, 0.6])})  # mean 0.4: -0.2 / 2 and 0.2 / 2
    found = score([first, second])
    assert found.sources == ("a", "b", "c")
    np.testing.assert_allclose(found.deviations, [-0.2 / 3, 0.2 / 3 - 0.05, 0.05], rtol=1e-12)


def test_seeds_are_averaged_image_by_image_before_deviations_are_taken():
    found = score([(["a", "b"], {0: np.array([0.0, 1.0]), 1: np.array([1.0, 0.0])})])
    np.testing.assert_allclose(found.deviations, [0, 0], atol=1e-15)


@pytest.mark.parametrize("seeds", [1, 3])
def test_deviations_add_up_to_nothing_and_the_order_of_images_and_generators_does_not_matter(seeds):
    random = np.random.default_rng(seeds)
    row = worlds(random, 9, seeds, sizes=random.integers(1, 8, 9))
    shuffled = []
    for names, by_seed in reversed(row):
        order = random.permutation(len(names))
        shuffled.append(([names[i] for i in order], {k: ious[order] for k, ious in by_seed.items()}))
    one, other = score(row), score(shuffled)
    assert one.sources == other.sources and abs(one.deviations.sum()) < 1e-12
    np.testing.assert_allclose(other.deviations, one.deviations, atol=1e-14)
    np.testing.assert_allclose([other.iou, *other.seed_ious], [one.iou, *one.seed_ious], rtol=1e-12)


# --- the variance between seeds


def test_the_variance_between_seeds_is_pooled_by_degrees_of_freedom():
    seed_ious = [(0.50, 0.52, 0.54), (0.40, 0.41), (0.30, 0.33, 0.31, 0.36), (0.7,)]
    found = pooled([one_score([0, 1], ious) for ious in seed_ious])
    squares = sum(np.var(ious, ddof=1) * (len(ious) - 1) for ious in seed_ious if len(ious) > 1)
    assert found.freedom == 2 + 1 + 3
    assert found.variance == pytest.approx(squares / 6)


def test_equally_many_seeds_are_pooled_as_scipy_does_for_a_t_test():
    one, other = [0.50, 0.52, 0.54], [0.40, 0.41, 0.45]
    found = pooled([one_score([0, 1], one), one_score([0, 1], other)])
    t = stats.ttest_ind(one, other)
    reach = (np.mean(one) - np.mean(other)) / t.statistic
    assert (found.freedom, math.sqrt(found.variance * 2 / 3)) == (t.df, pytest.approx(reach))


def test_rows_of_one_seed_and_rows_without_a_random_part_count_nothing():
    alone, fixed = one_score([0, 1]), one_score([0, 1], (0.1, 0.9), seeded=False)
    assert pooled([alone, fixed]) == pooled([]) == SeedVariance(variance=0.0, freedom=0)
    assert math.isnan(alone.spread)
    assert (alone.seed_share, fixed.seed_share, one_score([0, 1], (0.1, 0.2, 0.3)).seed_share) == (1, 0, 1 / 3)


# --- intervals


@pytest.mark.parametrize("sources", [2, 11, 60])
def test_without_seeds_the_interval_is_students_t_of_the_means_of_sources_of_equal_size(sources):
    generator = balanced(sources)
    means = source_means(generator, sources)
    found = interval(score([generator]), NONE)
    expected = np.clip(stats.t.interval(0.95, sources - 1, means.mean(), stats.sem(means)), 0, 1)
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-9)
    assert found.sources == sources


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("freedom", [1, 4, 40])
def test_with_seeds_the_freedom_is_welchs_and_satterthwaites(seeds, freedom):
    variance = SeedVariance(variance=0.0004, freedom=freedom)
    generator = balanced(11, seeds=seeds)
    means = source_means(generator, 11)
    parts = np.array([means.var(ddof=1) / 11, 0.0004 / seeds])
    df = parts.sum() ** 2 / (parts**2 / [10, freedom]).sum()
    found = interval(score([generator]), variance)
    expected = stats.t.interval(0.95, df, means.mean(), math.sqrt(parts.sum()))
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-9)


def test_the_freedom_of_two_equal_parts_is_that_of_scipys_welch_test():
    one, other = np.array([0.1, 0.2, 0.4, 0.6]), np.array([0.30, 0.36, 0.35])
    variance = SeedVariance(variance=np.var(other, ddof=1) / 3, freedom=2)
    found = interval(one_score(one / 4), variance)
    welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert (found.high - found.low) / 2 == pytest.approx((welch.high - welch.low) / 2)


def test_another_seed_of_a_row_without_a_random_part_would_give_the_same():
    names, by_seed = balanced(11)
    fixed, variance = score([(names, by_seed)], seeded=False), SeedVariance(variance=0.01, freedom=3)
    assert interval(fixed, variance) == interval(fixed, NONE)
    assert interval(score([(names, by_seed)]), variance).low < interval(fixed, NONE).low


@pytest.mark.parametrize("variance", [NONE, SeedVariance(variance=0.01, freedom=3)])
def test_one_source_alone_cannot_tell(variance):
    alone = score([(["a"] * 3, {0: np.array([0.1, 0.5, 0.9])})])
    found, against = interval(alone, variance), compare(alone, alone, variance)
    assert np.isnan([found.low, found.high]).all() and found.sources == 1
    assert against.difference == 0 and np.isnan([against.low, against.p, against.detectable]).all()
    assert ranks([alone, alone], variance) == [1, 1]


def test_an_interval_never_leaves_zero_to_one():
    found = interval(score([(["a", "b"], {0: np.array([0.0, 1.0])})]), NONE)
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sources", [2, 40])
def test_images_that_are_all_alike_leave_no_doubt(sources, value):
    alike = score([(names_of([3] * sources), {0: np.full(3 * sources, value)})])
    found, same = interval(alike, NONE), compare(alike, alike, NONE)
    assert (found.low, found.high) == (value, value)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("sources", [11, 35, 60])
def test_ninety_five_per_cent_intervals_hold_the_true_score_about_that_often(sources, seeds):
    random = np.random.default_rng([sources, seeds])
    held = []
    for _ in range(250):
        sizes = random.integers(1, 8, sources)
        page = [score(worlds(random, sources, k, sizes=sizes)) for k in (seeds, 3, 3)]  # the others tell of seeds
        found = interval(page[0], pooled(page))
        held.append(found.low <= 0.5 <= found.high)
    assert 0.91 <= np.mean(held) <= 0.985


def test_treating_images_as_independent_would_hold_it_far_less_often():
    random, held = np.random.default_rng(0), []
    for _ in range(200):
        ious = worlds(random, 11, 1, sizes=random.integers(1, 8, 11), spread=0)[0][1][0]
        low, high = stats.t.interval(0.95, len(ious) - 1, ious.mean(), stats.sem(ious))
        held.append(low <= 0.5 <= high)
    assert np.mean(held) < 0.85


# --- comparisons


@pytest.mark.parametrize("sources", [2, 11, 60])
def test_without_seeds_a_comparison_is_scipys_paired_t_test_of_the_means_of_sources(sources):
    one, other = balanced(sources, seed=1), balanced(sources, seed=2)
    expected = stats.ttest_rel(source_means(one, sources), source_means(other, sources))
    found = compare(score([one]), score([other]), NONE)
    bounds = expected.confidence_interval(0.95)
    np.testing.assert_allclose((found.p, found.low, found.high), (expected.pvalue, bounds.low, bounds.high), rtol=1e-9)


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (1, 3), (5, 2)])
def test_with_seeds_a_comparison_has_the_variance_of_both_rows_seeds(seeds):
    variance = SeedVariance(variance=0.0002, freedom=4)
    rows = [balanced(11, seed=place, seeds=count) for place, count in enumerate(seeds)]
    apart = source_means(rows[0], 11) - source_means(rows[1], 11)
    parts = np.array([apart.var(ddof=1) / 11, 0.0002 * (1 / seeds[0] + 1 / seeds[1])])
    t = stats.t(parts.sum() ** 2 / (parts**2 / [10, 4]).sum())
    error = math.sqrt(parts.sum())
    found = compare(*(score([row]) for row in rows), variance)
    np.testing.assert_allclose(found.p, 2 * t.sf(abs(apart.mean()) / error), rtol=1e-9)
    np.testing.assert_allclose([found.low, found.high], apart.mean() + error * t.ppf([0.025, 0.975]), rtol=1e-9)
    np.testing.assert_allclose(found.detectable, (t.ppf(0.975) + t.ppf(0.8)) * error, rtol=1e-9)


def test_equal_rows_have_no_difference_and_exchanged_ones_the_opposite():
    one, other = (score([balanced(11, seed=seed, seeds=3)]) for seed in (1, 2))
    variance = pooled([one, other])
    assert (compare(one, one, variance).difference, compare(one, one, variance).p) == (0, 1)
    found, back = compare(one, other, variance), compare(other, one, variance)
    assert (back.difference, back.low, back.high, back.p) == (-found.difference, -found.high, -found.low, found.p)


def test_a_certain_difference_has_no_p():
    one, other = (one_score([0, 0], (iou,), seeded=False) for iou in (0.5, 0.4))
    found = compare(one, other, NONE)
    assert (found.p, found.low, found.high) == (0, found.difference, found.difference)


def test_rows_of_other_sources_are_not_compared():
    one, other = score([(["a", "b"], {0: np.ones(2)})]), score([(["a", "c"], {0: np.ones(2)})])
    with pytest.raises(ValueError, match="same sources"):
        compare(one, other, NONE)


# --- ranks


def field_of(random, rows, sources=11, seeds=2, gap=0.02):
    """Rows on the same sources, some of them better, the best first."""
    effects = random.normal(0, 0.05, sources)
    found = []
    for place in range(rows):
        level = 0.5 - gap * (place // 2)
        means = level + effects + random.normal(0, 0.02, sources)
        seed_ious = means.mean() + random.normal(0, 0.01, seeds)
        found.append(one_score(means / sources, seed_ious))
    return sorted(found, key=lambda one: -one.iou)


def holm_ranks(scores, variance):
    """The ranks by scipy's t and the step-down of Holm (1979), a pair at a time."""
    found = []
    for i, one in enumerate(scores):
        for j in range(i + 1, len(scores)):
            apart = (one.deviations - scores[j].deviations) * len(one.deviations)
            parts = np.array([stats.sem(apart) ** 2, variance.variance * (one.seed_share + scores[j].seed_share)])
            df = parts.sum() ** 2 / (parts**2 / [len(apart) - 1, variance.freedom]).sum()
            found.append((2 * stats.t.sf(abs(one.iou - scores[j].iou) / math.sqrt(parts.sum()), df), i, j))
    worse, left = [1] * len(scores), len(found)
    for p, _, j in sorted(found):
        if p > 0.05 / left:
            break
        worse[j], left = worse[j] + 1, left - 1
    return [max(worse[: place + 1]) for place in range(len(worse))]


@pytest.mark.parametrize("seed", range(8))
def test_ranks_are_those_of_a_step_down_written_by_hand(seed):
    random = np.random.default_rng(seed)
    scores = field_of(random, 7, gap=random.uniform(0.01, 0.06))
    found = ranks(scores, pooled(scores))
    assert found == holm_ranks(scores, pooled(scores))
    assert found == sorted(found) and found[0] == 1


def test_the_fields_of_these_tests_have_rows_that_share_ranks_and_rows_that_do_not():
    fields = [field_of(np.random.default_rng(seed), 7, gap=0.04) for seed in range(8)]
    found = [ranks(scores, pooled(scores)) for scores in fields]
    assert any(1 < len(set(places)) < 7 for places in found)


def test_no_row_has_no_rank_and_one_row_has_the_first():
    assert (ranks([], NONE), ranks([one_score([0, 1])], NONE)) == ([], [1])


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_are_the_same_share_a_rank(seed):
    scores = [one for one in field_of(np.random.default_rng(seed), 5, gap=0.04) for _ in range(2)]
    found = ranks(scores, pooled(scores))
    assert found[::2] == found[1::2]
    assert ranks([scores[0]] * 3, NONE) == [1, 1, 1]


def test_a_row_of_zeros_of_one_seed_beside_rows_of_several_is_last():
    scores = field_of(np.random.default_rng(0), 4, seeds=3, gap=0.01)
    zeros = one_score(np.zeros(11), (0.0,))
    assert ranks([*scores, zeros], pooled([*scores, zeros]))[-1] == 5


def test_a_row_of_one_seed_can_be_told_from_another():
    better, worse = one_score([0.01, 0.02, 0.03], (0.5,)), one_score([0.03, 0.01, 0.02], (0.2,))
    assert ranks([better, worse], SeedVariance(variance=0.0001, freedom=4)) == [1, 2]


@pytest.mark.parametrize(("rows", "seeds"), [(2, 3), (6, 1), (6, 3)])
def test_rows_that_are_equally_good_rarely_get_different_ranks(rows, seeds):
    random, apart = np.random.default_rng([rows, seeds]), 0
    for _ in range(200):
        moves = [random.normal(0, 0.01, count) for count in [seeds] * (rows - 1) + [3]]
        scores = []
        for move in moves:
            means = 0.5 + random.normal(0, 0.03, 11)
            scores.append(one_score(means / 11, means.mean() + move))
        scores.sort(key=lambda one: -one.iou)
        apart += ranks(scores, pooled(scores))[-1] > 1
    assert apart / 200 <= 0.08


# --- what can be told


def test_the_smallest_difference_is_that_of_the_median_pair_with_three_seeds():
    scores = field_of(np.random.default_rng(0), 4)
    variance = pooled(scores)
    pairs = [(scores[i].deviations - scores[j].deviations) * 11 for i in range(4) for j in range(i + 1, 4)]
    parts = np.array([np.median([stats.sem(apart) ** 2 for apart in pairs]), variance.variance * 2 / 3])
    t = stats.t(parts.sum() ** 2 / (parts**2 / [10, variance.freedom]).sum())
    expected = (t.ppf(0.975) + t.ppf(0.8)) * math.sqrt(parts.sum())
    assert smallest_difference(scores, variance) == pytest.approx(expected)
    assert math.isnan(smallest_difference(scores[:1], variance)) and math.isnan(smallest_difference([], variance))


def test_what_can_be_told_is_found_in_about_four_of_five_cases():
    random, found, told = np.random.default_rng(0), [], 0.03  # of these pages, in the mean
    for _ in range(600):
        pair = []
        for level in (0.5, 0.5 - told):
            means = level + random.normal(0, 0.02, 21)
            pair.append(one_score(means / 21, means.mean() + random.normal(0, 0.01, 3)))
        variance = SeedVariance(variance=0.0001, freedom=12)
        found.append((compare(*pair, variance).p <= 0.05, smallest_difference(pair, variance)))
    significant, smallest = np.mean(found, axis=0)
    assert smallest == pytest.approx(told, rel=0.05)
    assert 0.75 <= significant <= 0.85
