"""Self-play dynamics do what theory says of each rule."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.preference.game import exploitability, von_neumann_winner
from gpmjax.preference.score import pairwise_rewards
from gpmjax.preference.self_play import self_play

ROCK_PAPER_SCISSORS = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], np.float32)
START = np.array([0.6, 0.3, 0.1], np.float32)
EVERY_RULE = pytest.mark.parametrize("rule", ["multiplicative_weights", "extragradient", "magnetic"])


def gaps(path, scores=ROCK_PAPER_SCISSORS):
    return np.asarray(exploitability(path, np.broadcast_to(scores, (len(path), *scores.shape))))


@EVERY_RULE
def test_policies_are_distributions_and_the_equilibrium_is_a_fixed_point(rule):
    path = self_play(ROCK_PAPER_SCISSORS, START, rule=rule, step_size=0.3, steps=20)
    chex.assert_shape(path, (21, 3))
    np.testing.assert_allclose(path[0], START, rtol=1e-5)
    np.testing.assert_allclose(np.sum(path, axis=1), np.ones(21), rtol=1e-5)
    scores = np.array([[0, 2, -1], [-2, 0, 1], [1, -1, 0]], np.float32)
    winner = von_neumann_winner(scores)
    rested = self_play(scores, winner, rule=rule, step_size=0.3, steps=5, strength=0.5 * (rule == "magnetic"))
    np.testing.assert_allclose(rested[-1], winner, atol=1e-5)


@EVERY_RULE
def test_under_rewards_every_rule_finds_the_best_response(rule):
    path = self_play(pairwise_rewards(jnp.array([0.0, 1.0, 2.0])), START, rule=rule, step_size=0.3, steps=100)
    np.testing.assert_allclose(path[-1], [0, 0, 1], atol=1e-3)


def test_on_a_cycle_multiplicative_weights_spiral_out_while_their_average_converges():
    path = np.asarray(self_play(ROCK_PAPER_SCISSORS, START, rule="multiplicative_weights", step_size=0.1, steps=2000))
    distance = np.mean(-np.log(path), axis=1)  # KL(equilibrium‖policy) + log 3, which never decreases
    assert np.all(np.diff(distance)[:500] > 0) and distance[-1] > 2 * distance[0]
    assert gaps(path)[-500:].max() > 0.9 > gaps(path)[0]
    averages = np.cumsum(path, axis=0) / np.arange(1, len(path) + 1)[:, None]
    assert gaps(averages)[-1] < 0.05


def test_one_step_is_the_exponential_update():
    path = self_play(ROCK_PAPER_SCISSORS, START, rule="multiplicative_weights", step_size=0.7, steps=1)
    weights = START * np.exp(0.7 * ROCK_PAPER_SCISSORS @ START)
    np.testing.assert_allclose(path[1], weights / weights.sum(), rtol=1e-5)


def test_extragradient_itself_converges():
    path = self_play(ROCK_PAPER_SCISSORS, START, rule="extragradient", step_size=0.3, steps=1000)
    assert gaps(path)[-1] < 1e-4


def test_a_magnet_pulls_to_the_regularised_equilibrium_at_a_linear_rate():
    """The limit is p ∝ m exp(g(p)/α)."""
    scores, alpha = np.array([[0, 2, -1], [-2, 0, 1], [1, -1, 0]], np.float32), 0.5
    magnet = np.array([0.2, 0.5, 0.3], np.float32)
    options = dict(rule="magnetic", step_size=0.1, strength=alpha, magnet=magnet)
    path = np.asarray(self_play(scores, START, steps=400, **options))
    weights = magnet * np.exp(scores @ path[-1] / alpha)
    np.testing.assert_allclose(path[-1], weights / weights.sum(), atol=1e-5)
    distance = np.abs(path - path[-1]).max(axis=1)
    assert distance[100] < 0.2 * distance[50] < 0.04 * distance[0]


def test_leading_axes_are_separate_games():
    scores, start = np.stack([ROCK_PAPER_SCISSORS, 2 * ROCK_PAPER_SCISSORS]), np.stack([START, START[::-1]])
    both = self_play(scores, start, rule="extragradient", step_size=0.2, steps=10)
    for game in range(2):
        alone = self_play(scores[game], start[game], rule="extragradient", step_size=0.2, steps=10)
        np.testing.assert_allclose(both[:, game], alone, rtol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="rule 'fictitious' must be"):
        self_play(ROCK_PAPER_SCISSORS, START, rule="fictitious", step_size=0.1, steps=1)
    with pytest.raises(ValueError, match="strength 0.5 must be 0 with rule 'extragradient'"):
        self_play(ROCK_PAPER_SCISSORS, START, rule="extragradient", step_size=0.1, steps=1, strength=0.5)
    with pytest.raises(ValueError, match=r"start \[2\]"):
        self_play(ROCK_PAPER_SCISSORS, START[:2], rule="magnetic", step_size=0.1, steps=1)
