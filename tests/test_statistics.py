"""Intervals over sources and spread over seeds, against scipy, values worked by hand, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deeploc_bench.scoring.statistics import T_975, _source_weights, interval, seed_average, seed_spread


def balanced(sources, images=4, seed=0):
    """The sources and IoUs of as many images of each source."""
    random = np.random.default_rng(seed)
    ious = np.clip(random.normal(0.5, 0.1, (sources, 1)) + random.normal(0, 0.1, (sources, images)), 0, 1)
    return np.repeat([f"photo-{i:03}" for i in range(sources)], images).tolist(), ious.ravel()


def simulated(random, sources, generators=3, mean=0.5):
    """A row whose true score is `mean`: sources differ, generators differ in them, sources differ in size."""
    sizes = random.integers(1, 8, sources)
    names = np.repeat([f"photo-{i:03}" for i in range(sources)], sizes)
    effects = random.normal(0, 0.1, sources)
    row = []
    for _ in range(generators):
        own = effects + random.normal(0, 0.05, sources)
        row.append((names.tolist(), mean + np.repeat(own, sizes) + random.normal(0, 0.08, len(names))))
    return row


def bounds(row):
    found = interval(row)
    return found.low, found.high


@pytest.mark.parametrize("sources", [11, 29, 60])
def test_ninety_five_per_cent_intervals_hold_the_true_score_about_that_often(sources):
    random = np.random.default_rng(sources)
    found = [interval(simulated(random, sources)) for _ in range(500)]
    assert 0.90 <= np.mean([each.low <= 0.5 <= each.high for each in found]) <= 0.985


@pytest.mark.parametrize("sources", [11, 60])
def test_treating_images_as_independent_would_hold_it_far_less_often(sources):
    random = np.random.default_rng(sources)
    held = []
    for _ in range(100):
        ious = simulated(random, sources, generators=1)[0][1]
        low, high = stats.t.interval(0.95, len(ious) - 1, ious.mean(), stats.sem(ious))
        held.append(low <= 0.5 <= high)
    assert np.mean(held) < 0.85


@pytest.mark.parametrize("sources", [2, 11, 29])
def test_few_sources_of_equal_size_have_the_t_interval_of_their_means(sources):
    names, ious = balanced(sources)
    means = ious.reshape(sources, -1).mean(axis=1)
    expected = np.clip(stats.t.interval(0.95, sources - 1, means.mean(), stats.sem(means)), 0, 1)
    np.testing.assert_allclose(bounds([(names, ious)]), expected, rtol=1e-4)


def test_few_sources_of_unequal_size_have_the_interval_worked_by_hand():
    row = [(["a", "a", "b"], np.array([0.500, 0.503, 0.509]))]  # mean 0.504, deviations -0.005 / 3 and 0.005 / 3
    reach = 12.7062 * math.sqrt(2 / 1 * 2 * (0.005 / 3) ** 2)
    np.testing.assert_allclose(bounds(row), (0.504 - reach, 0.504 + reach), rtol=1e-9)


def test_deviations_are_taken_from_the_mean_of_their_own_generator():
    first = (["a", "a", "b"], np.array([0.500, 0.503, 0.509]))
    second = (["a", "b", "b"], np.array([0.101, 0.106, 0.108]))  # mean 0.105, deviations -0.004 / 3 and 0.004 / 3
    reach = 12.7062 * math.sqrt(2 / 1 * 2 * (0.0045 / 3) ** 2)
    np.testing.assert_allclose(bounds([first, second]), (0.3045 - reach, 0.3045 + reach), rtol=1e-9)


def test_the_t_table_is_scipys():
    np.testing.assert_allclose(T_975, stats.t.ppf(0.975, np.arange(1, 29)), atol=5e-5)


@pytest.mark.parametrize("sources", [30, 200])
def test_many_sources_have_scipys_percentile_bootstrap_of_their_means(sources):
    names, ious = balanced(sources)
    means = ious.reshape(sources, -1).mean(axis=1)
    draws = stats.bootstrap([means], np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0))
    width = draws.confidence_interval.high - draws.confidence_interval.low
    np.testing.assert_allclose(bounds([(names, ious)]), draws.confidence_interval, atol=0.08 * width)


@pytest.mark.parametrize("sources", [11, 60])
def test_sources_are_resampled_jointly_over_generators(sources):
    one = balanced(sources)
    np.testing.assert_allclose(bounds([one, one, one]), bounds([one]), rtol=1e-9)


@pytest.mark.parametrize("sources", [11, 60])
def test_generators_count_equally_whatever_their_number_of_images(sources):
    names, ious = balanced(sources)
    many = (names * 5, np.tile(ious / 2, 5))
    few = (names, ious / 2)
    np.testing.assert_allclose(bounds([(names, ious), many]), bounds([(names, ious), few]), rtol=1e-9)


@pytest.mark.parametrize("sources", [11, 60])
def test_an_interval_is_the_same_each_time(sources):
    row = simulated(np.random.default_rng(0), sources)
    before = bounds(row)
    _source_weights.cache_clear()
    np.random.seed(sources)  # which nothing draws from
    assert bounds(row) == before


def test_the_global_random_stream_is_left_alone():
    before = str(np.random.get_state())
    interval([balanced(60)])
    assert str(np.random.get_state()) == before


def test_the_stream_of_resamples_is_frozen():
    ious = np.arange(40) / 40
    assert bounds([([f"photo-{i:02}" for i in range(40)], ious)]) == pytest.approx((0.395609375, 0.578765625), abs=1e-8)


@pytest.mark.parametrize("sources", [11, 60])
def test_the_order_of_images_does_not_matter(sources):
    names, ious = balanced(sources)
    order = np.random.default_rng(0).permutation(len(names))
    shuffled = ([names[i] for i in order], ious[order])
    np.testing.assert_allclose(bounds([shuffled]), bounds([(names, ious)]), rtol=1e-9)


@pytest.mark.parametrize("sources", [11, 60])
def test_a_source_that_one_generator_lacks_leaves_the_interval_finite(sources):
    names, ious = balanced(sources)
    row = [(names, ious), (names[:4], ious[:4])]  # many resamples draw no image of the second generator
    low, high = bounds(row)
    assert 0 <= low < (ious.mean() + ious[:4].mean()) / 2 < high <= 1
    assert interval(row).sources == sources


def test_a_resample_without_images_of_one_generator_is_the_mean_over_the_others():
    names, _ = balanced(60)
    row = [(names, np.full(len(names), 0.75)), (names[:4], np.full(4, 0.75))]
    assert bounds(row) == (0.75, 0.75)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("sources", [2, 40])
def test_images_that_are_all_alike_leave_no_doubt(sources, value):
    names, _ = balanced(sources)
    assert bounds([(names, np.full(len(names), value))]) == (value, value)


def test_an_interval_never_leaves_zero_to_one():
    assert bounds([(["a", "b"], np.array([0.0, 1.0]))]) == (0.0, 1.0)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a", "a"]])
def test_one_source_alone_cannot_tell(names):
    found = interval([(names, np.full(len(names), 0.5))])
    assert np.isnan([found.low, found.high]).all()
    assert found.sources == len(set(names))


def test_seeds_are_averaged_image_by_image():
    average = seed_average([np.array([0.0, 1.0]), np.array([0.5, 1.0])])
    assert average.tolist() == [0.25, 1.0]


def test_the_spread_is_the_standard_deviation_over_seeds():
    assert seed_spread([0.2, 0.4, 0.6]) == pytest.approx(0.2)


def test_the_spread_of_one_seed_is_undefined():
    assert math.isnan(seed_spread([0.5]))


def test_an_interval_has_the_same_bits_in_whatever_order_sums_are_taken():
    random = np.random.default_rng(0)
    names = [f"p{i:03}" for i in range(200)]
    values = random.random(200)
    order = random.permutation(200)
    weights = _source_weights(200)
    sums = np.rint(values * 2**30)
    assert np.array_equal(weights @ sums, weights[:, order] @ sums[order])
    one = interval([(names, values)])
    assert (one.low, one.high) == (interval([(names[::-1], values[::-1])]).low, one.high)
