"""Win rates: laws of any judge, values by hand, and intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from gpmjax.evals.intervals import bootstrap_interval, fraction_interval, mean_figures, wilson_interval
from gpmjax.evals.policies.win_rate import preference, win_rate

SCORE = st.floats(-60, 60)
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=20)


def matrix(forth, back):
    return np.array([[0.0, forth], [back, 0.0]])


@given(SCORE, SCORE, st.floats(0.01, 10))
def test_swapping_the_sides_reverses_the_preference(forth, back, tau):
    there, here = preference(matrix(forth, back), tau), preference(matrix(back, forth), tau)
    assert 0 <= there <= 1 and there + here == pytest.approx(1)


@given(SCORE, st.floats(0.01, 10))
def test_a_skew_judge_keeps_its_probability_and_position_bias_cancels(score, tau):
    assert preference(matrix(score, -score), tau) == pytest.approx(expit(score / tau))
    assert preference(matrix(score, score), tau) == 0.5


def test_a_missing_order_is_no_preference():
    assert np.isnan(preference(matrix(3.0, np.nan), 1.0)) and np.isnan(preference(matrix(np.nan, 3.0), 1.0))


@given(SHARES)
def test_the_other_side_wins_the_rest(shares):
    ours, theirs = win_rate(shares), win_rate([1 - share for share in shares])
    assert ours["win_rate"] + theirs["win_rate"] == pytest.approx(100)
    assert ours["discrete_win_rate"] + theirs["discrete_win_rate"] == pytest.approx(100)
    assert (ours["wins"], ours["ties"]) == (theirs["losses"], theirs["ties"])
    assert ours["wins"] + ours["ties"] + ours["losses"] == ours["comparisons"] == len(shares)
    low, high = ours["interval"]
    assert -1e-9 <= low <= ours["win_rate"] + 1e-6 and ours["win_rate"] - 1e-6 <= high <= 100 + 1e-9


def test_figures_are_those_computed_by_hand():
    figures = win_rate([1.0, 1.0, 0.5, 0.0])
    assert figures["win_rate"] == 62.5 == figures["discrete_win_rate"]
    assert (figures["wins"], figures["ties"], figures["losses"]) == (2, 1, 1)
    # Deviations 37.5, 37.5, −12.5, −62.5: s² = 6875/3, s/√4.
    assert figures["standard_error"] == pytest.approx(np.sqrt(6875 / 3 / 4))
    assert win_rate([1.0])["standard_error"] is None and win_rate([0.5] * 3)["interval"] == [50.0, 50.0]


def test_a_preference_within_rounding_of_one_half_is_a_tie():
    """A preference within 1e-5 of ½ counts as a tie. The mean is of the preferences themselves."""
    figures = win_rate([0.5 + 9e-6, 0.5 - 9e-6, 0.5 + 1.1e-5, 0.5 - 1.1e-5, 0.5 + 2e-5])
    assert (figures["wins"], figures["ties"], figures["losses"]) == (2, 2, 1)
    assert figures["discrete_win_rate"] == pytest.approx(60.0)
    assert figures["win_rate"] == pytest.approx(50 + 100 * 2e-5 / 5, abs=1e-9)


@pytest.mark.parametrize("bad", [[], [0.5, 1.1], [0.5, float("nan")]], ids=str)
def test_values_that_are_no_preferences_are_refused(bad):
    with pytest.raises(ValueError, match=r"preferences=.*: must be numbers in \[0, 1\]"):
        win_rate(bad)


def test_intervals_of_verdicts_are_wilsons_and_of_fractions_nearly_normal():
    assert fraction_interval([1.0] * 7 + [0.0] * 3) == pytest.approx(wilson_interval(7, 10))
    assert fraction_interval([1.0] * 5) == pytest.approx(wilson_interval(5, 5))
    shares = np.random.default_rng(0).beta(8, 6, 2000)
    assert fraction_interval(shares) == pytest.approx(mean_figures(shares)["interval"], abs=1e-4)


def test_the_bootstrap_of_a_mean_is_its_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    assert bootstrap_interval([values], np.mean) == pytest.approx(mean_figures(values)["interval"], abs=0.03)
    assert bootstrap_interval([values[:1]], np.mean) is None and mean_figures(values[:1])["interval"] is None
