"""Bootstraps draw whole groups, cover what they should, and say when they cannot."""

import numpy as np
import pytest

from gpmjax.evals.intervals import (
    RESAMPLES,
    bootstrap_means,
    bootstrap_sums,
    mean_over_groups,
    percentile_interval,
    ratio_over_groups,
)


def test_one_group_has_no_interval_and_a_zero_denominator_no_value():
    assert ratio_over_groups([1.0], [2.0]) == {"value": 0.5, "interval": None}
    assert ratio_over_groups([0.0, 0.0], [0.0, 0.0]) == {"value": None, "interval": None}


def test_the_width_is_that_of_the_normal_interval_of_group_means():
    values = np.random.default_rng(0).normal(size=400)
    low, high = mean_over_groups(values)["interval"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_a_group_of_many_pairs_counts_as_one_draw():
    """Two groups of opposite opinion leave every value possible, however many pairs they have."""
    assert bootstrap_sums(np.divide, [1000.0, 0.0], [1000.0, 1000.0]) == [0.0, 1.0]


def test_figures_are_the_same_every_time():
    values = np.random.default_rng(1).random(30)
    assert mean_over_groups(values) == mean_over_groups(values)


def test_combined_draws_of_parts_have_the_width_of_a_stratified_mean():
    rng = np.random.default_rng(0)
    parts = [rng.random(200), 0.1 * rng.random(50)]
    draws = np.mean([bootstrap_means(part, rng) for part in parts], axis=0)
    error = np.sqrt(sum(part.var() / len(part) for part in parts)) / 2
    mean = np.mean([part.mean() for part in parts])
    assert percentile_interval(draws) == pytest.approx([mean - 1.96 * error, mean + 1.96 * error], abs=0.2 * error)


def test_rows_are_drawn_whole_and_missing_values_are_left_out():
    rng = np.random.default_rng(0)
    values = rng.random(30)
    draws = bootstrap_means(np.stack([values, 1 - values, np.where(values > 0.5, np.nan, 1.0)], axis=1), rng)
    assert draws.shape == (RESAMPLES, 3)
    np.testing.assert_allclose(draws[:, 0] + draws[:, 1], 1.0)
    np.testing.assert_allclose(draws[:, 2], 1.0)
    np.testing.assert_array_equal(bootstrap_means(np.array([0.5]), rng), np.full(RESAMPLES, 0.5))
