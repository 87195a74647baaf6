"""Signals, and weights of responses and pairs, from K×K scores."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gpmjax.losses import signals
from gpmjax.preference.score import pairwise_rewards

MATRICES = npst.arrays(np.float32, (4, 4), elements=st.integers(-32, 32).map(lambda n: n / 4)).map(lambda X: X - X.T)


@given(scores=MATRICES)
def test_mean_scores_add_up_to_0_and_win_rates_to_half_of_k(scores):
    assert abs(float(jnp.sum(signals.mean_score(scores)))) < 1e-4
    chex.assert_trees_all_close(jnp.sum(signals.mean_win_rate(scores)), jnp.float32(2.0), atol=1e-5)


def test_under_bradley_terry_the_mean_score_is_the_centred_reward():
    rewards = jnp.array([3.0, 1.0, -1.0])
    chex.assert_trees_all_close(signals.mean_score(pairwise_rewards(rewards)), rewards - 1.0, atol=1e-6)


@given(scores=MATRICES, beta=st.sampled_from([0.01, 0.3, 5.0]))
def test_the_estimated_partition_makes_the_samples_average_weight_one(scores, beta):
    signal = signals.mean_score(scores)
    log_Z = signals.log_partition(signal, beta=beta)
    assert float(jnp.mean(jnp.exp((signal - log_Z) / beta))) == pytest.approx(1, rel=1e-3)
    assert np.all(np.mean(signal) - 1e-4 <= log_Z) and np.all(log_Z <= np.max(signal) + 1e-5)


def test_the_partition_tends_to_the_largest_signal_and_to_the_mean():
    signal = jnp.array([[1.0, 0.0, -1.0]])
    chex.assert_trees_all_close(signals.log_partition(signal, beta=1e-4), jnp.ones((1, 3)), atol=1e-3)
    chex.assert_trees_all_close(signals.log_partition(signal, beta=1e4), jnp.zeros((1, 3)), atol=1e-3)


@given(scores=MATRICES)
def test_best_and_worst_differ_and_have_the_extreme_mean_scores(scores):
    best, worst = signals.select_best_and_worst(scores)
    average = np.asarray(signals.mean_score(scores))
    assert int(best) != int(worst)
    assert average[best] == average.max() and average[worst] == average.min()


@given(scores=MATRICES)
def test_weights_of_responses_and_of_pairs_agree(scores):
    best, worst = map(int, signals.select_best_and_worst(scores))
    chosen = {which: signals.response_weights(scores, which) for which in ("all", "best_and_worst", "both")}
    assert np.flatnonzero(chosen["best_and_worst"]).tolist() == sorted((best, worst))
    chex.assert_trees_all_equal(chosen["both"], chosen["all"] + chosen["best_and_worst"])
    pairs = {which: np.asarray(signals.pair_weights(scores, which)) for which in ("all", "best_and_worst", "both")}
    equal = np.ptp(signals.mean_score(scores)) == 0
    assert np.argwhere(pairs["best_and_worst"]).tolist() == ([] if equal else [[best, worst]])
    np.testing.assert_array_equal(pairs["both"], pairs["all"] + pairs["best_and_worst"])
    np.testing.assert_array_equal(pairs["all"] + pairs["all"].T, scores != 0)


def test_on_a_cycle_each_response_is_chosen_once_and_rejected_once():
    cycle = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    weights = signals.pair_weights(cycle, "all")
    chex.assert_trees_all_equal(jnp.sum(weights, axis=0), jnp.sum(weights, axis=1), jnp.ones(3))


def test_equal_signals_are_told_from_different_ones_beyond_rounding():
    signal = jnp.array([[3.0, 3.0, 3.0], [3.0, 3.0, 3.0 + 1e-6], [3.0, 3.0, 3.0 + 1e-5], [0.0, 0.0, 1e-20]])
    assert signals.tells_apart(signal, jnp.array([3.0, 3.0, 3.0, 0.0])).tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match=r"size \[1\]"):
        signals.tells_apart(signal, jnp.ones(1))


@pytest.mark.parametrize("which", ["all", "best_and_worst", "both"])
def test_a_tie_up_to_rounding_is_no_pair(which):
    """Responses 0 and 1 differ by less than the rounding of scores of 50. A group of equal responses has no pair."""
    near = jnp.array([[0.0, 1e-5, 50.0], [-1e-5, 0.0, 50.0], [-50.0, -50.0, 0.0]])
    expected = {"all": [[0, 0, 1], [0, 0, 1], [0, 0, 0]], "best_and_worst": [[0, 0, 1], [0, 0, 0], [0, 0, 0]]}
    expected["both"] = np.add(*expected.values())
    np.testing.assert_array_equal(signals.pair_weights(near, which), expected[which])
    assert not np.any(signals.pair_weights(jnp.zeros((3, 3)), which))


@pytest.mark.parametrize("function", [signals.response_weights, signals.pair_weights])
def test_an_unknown_choice_is_refused(function):
    with pytest.raises(ValueError, match="which 'best' must be 'all', 'best_and_worst' or 'both'"):
        function(jnp.zeros((3, 3)), "best")


@pytest.mark.parametrize("function", [signals.mean_score, signals.mean_win_rate, signals.select_best_and_worst])
def test_scores_must_be_square(function):
    with pytest.raises(ValueError, match=r"scores \[3, 2\] must be square"):
        function(jnp.zeros((3, 2)))
