"""Intervals draw groups, cover what they should, and say when they cannot."""

import numpy as np
import pytest

from gpmjax.evals.diagnostics.intervals import mean, over_groups, ratio


def test_one_group_has_no_interval_and_no_denominator_no_value():
    assert ratio([1.0], [2.0]) == {"value": 0.5, "interval": None}
    assert ratio([0.0, 0.0], [0.0, 0.0]) == {"value": None, "interval": None}


def test_the_width_is_that_of_group_means():
    values = np.random.default_rng(0).normal(size=400)
    low, high = mean(values)["interval"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_a_group_of_many_pairs_counts_as_one_draw():
    """Two groups of opposite opinion: however many pairs they have, all is possible."""
    assert over_groups(np.divide, [1000.0, 0.0], [1000.0, 1000.0]) == [0.0, 1.0]


def test_figures_are_the_same_every_time():
    values = np.random.default_rng(1).random(30)
    assert mean(values) == mean(values)
