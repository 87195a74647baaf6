"""Properties of single preference losses: their values, symmetries and minima, and the arguments that they refuse."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.losses.reward import (
    centering_penalty,
    expected_error,
    listwise_loss,
    preference_loss,
    regularised,
    weighted_mean,
)
from gpmjax.preference.score import win_probability

SCORES = st.floats(-50, 50, width=32)
PROBABILITIES = st.floats(0, 1, width=32)
BOTH = pytest.mark.parametrize("loss", [preference_loss, expected_error])


@BOTH
@given(score=SCORES, target=PROBABILITIES, margin=SCORES, tau=st.floats(0.125, 8, width=32))
def test_swapping_the_sides_changes_nothing(loss, score, target, margin, tau):
    value = loss(jnp.float32(score), target=target, margin=margin, tau=tau)
    swapped = loss(jnp.float32(-score), target=1 - target, margin=-margin, tau=tau)
    chex.assert_trees_all_close(value, swapped, rtol=1e-4, atol=1e-5)


@given(score=SCORES, target=PROBABILITIES, smoothing=st.floats(0, 0.5, width=32))
def test_swap_symmetry_survives_smoothing(score, target, smoothing):
    value = preference_loss(jnp.float32(score), target=target, label_smoothing=smoothing)
    swapped = preference_loss(jnp.float32(-score), target=1 - target, label_smoothing=smoothing)
    chex.assert_trees_all_close(value, swapped, rtol=1e-4, atol=1e-5)


@given(score=st.floats(-20, 20, width=32), tau=st.floats(0.5, 4, width=32))
def test_a_plain_label_costs_minus_log_probability(score, tau):
    P = win_probability(jnp.float32(score), tau)
    chex.assert_trees_all_close(jnp.exp(-preference_loss(jnp.float32(score), tau=tau)), P, atol=1e-6)
    chex.assert_trees_all_close(1 - expected_error(jnp.float32(score), tau=tau), P, atol=1e-6)


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_cross_entropy_is_least_at_the_labelled_probability(target, tau):
    optimum = 0.3 + tau * jnp.log(target / (1 - target))
    slope = jax.grad(lambda s: preference_loss(s, target=target, tau=tau, margin=0.3))
    assert abs(float(slope(optimum))) < 1e-5
    assert float(slope(optimum - 0.1)) < 0 < float(slope(optimum + 0.1))


def test_gradient_is_probability_minus_target_over_tau():
    scores = jnp.linspace(-3.0, 3.0, 7)
    gradient = jax.grad(lambda s: jnp.sum(preference_loss(s, target=0.8, tau=0.5, label_smoothing=0.1)))(scores)
    chex.assert_trees_all_close(gradient, (win_probability(scores, 0.5) - (0.9 * 0.8 + 0.05)) / 0.5, atol=1e-6)


def test_a_learned_temperature_is_pulled_towards_calibration():
    scores = jnp.array([1.0, 1.0, 1.0, -1.0])  # right in three of four
    slope = jax.grad(lambda log_tau: jnp.mean(preference_loss(scores, tau=jnp.exp(log_tau))))
    calibrated = -jnp.log(jnp.log(3.0))  # σ(1/τ) = 3/4
    assert abs(float(slope(calibrated))) < 1e-6
    assert float(slope(calibrated - 1)) < 0 < float(slope(calibrated + 1))


def test_on_a_balanced_cycle_rewards_tie_under_cross_entropy_and_not_under_the_expected_error():
    """A reward model fitted to A ≻ B ≻ C ≻ A shows why there is an `expected_error`."""

    def fit(loss):
        mean = jax.jit(jax.grad(lambda r: jnp.mean(loss(r - jnp.roll(r, -1)))))
        rewards = jnp.array([0.3, 0.1, -0.2])
        for _ in range(500):
            rewards = rewards - mean(rewards)
        return rewards - jnp.roll(rewards, -1)

    assert float(jnp.max(jnp.abs(fit(preference_loss)))) < 1e-3
    assert int(jnp.sum(fit(expected_error) > 0.1)) == 2  # two of three edges, the most that any reward gets right


def test_listwise_is_the_mean_over_the_compared_pairs_in_either_place():
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(2, 3, 3)).astype(np.float32), rng.uniform(size=(2, 3, 3)).astype(np.float32)
    scores = scores - scores.swapaxes(1, 2)
    weight = np.broadcast_to(np.array([[0, 2, 1], [0, 0, 0], [0, 0, 0]], np.float32), scores.shape)
    value = listwise_loss(scores, target, weight, tau=0.5, label_smoothing=0.1)
    pairs = np.asarray(preference_loss(scores, target=target, tau=0.5, label_smoothing=0.1))
    np.testing.assert_allclose(value, (2 * pairs[:, 0, 1] + pairs[:, 0, 2]) / 3, rtol=1e-5)
    mirrored = listwise_loss(scores, 1 - target.swapaxes(1, 2), weight.swapaxes(1, 2), tau=0.5, label_smoothing=0.1)
    chex.assert_trees_all_close(value, mirrored, rtol=1e-5)


def test_listwise_of_a_group_without_comparisons_is_zero():
    scores = jnp.ones((2, 3, 3))

    def total(s):
        return jnp.sum(listwise_loss(s, jnp.ones_like(s), jnp.zeros_like(s)))

    value, gradient = jax.value_and_grad(total)(scores)
    chex.assert_trees_all_equal((value, gradient), (jnp.array(0.0), jnp.zeros_like(scores)))


def test_centering_depends_only_on_the_sum_of_the_rewards():
    left, right = jnp.array([1.0, 2.0]), jnp.array([-1.0, 4.0])
    chex.assert_trees_all_equal(centering_penalty(left, right), jnp.array([0.0, 36.0]))
    chex.assert_trees_all_equal(centering_penalty(right, left), centering_penalty(left, right))


def test_regularised_at_the_ends_of_its_range():
    preference, language_model = jnp.array([1.0, 2.0]), jnp.array([5.0, 7.0])
    chex.assert_trees_all_equal(regularised(preference, language_model, 0.0), preference)
    chex.assert_trees_all_equal(regularised(preference, language_model, 1.0), language_model)


def test_weighted_mean_over_chosen_axes():
    values, weight = jnp.array([[1.0, 3.0], [5.0, jnp.inf]]), jnp.array([[1.0, 1.0], [2.0, 0.0]])
    chex.assert_trees_all_equal(weighted_mean(values, weight, axis=-1), jnp.array([2.0, 5.0]))
    chex.assert_trees_all_equal(weighted_mean(values, weight), jnp.array(3.5))


COLUMN, FLAT = jnp.ones((4, 1)), jnp.ones(4)  # together they would broadcast to [4, 4]

TRAPS = {
    "target": lambda: preference_loss(COLUMN, target=FLAT),
    "margin": lambda: preference_loss(FLAT, margin=COLUMN),
    "tau": lambda: expected_error(COLUMN, tau=FLAT),
    "weight": lambda: weighted_mean(COLUMN, FLAT),
    "right": lambda: centering_penalty(COLUMN, FLAT),
    "language_model": lambda: regularised(FLAT, COLUMN, 0.1),
    "coefficient": lambda: regularised(FLAT, FLAT, COLUMN),
}


@pytest.mark.parametrize("name", TRAPS)
def test_column_and_flat_vectors_do_not_broadcast(name):
    with pytest.raises(ValueError, match=rf"{name} \[4.*\]") as error:
        TRAPS[name]()
    assert "\n" not in str(error.value)


def test_the_trap_is_caught_under_jit_and_without_the_strict_settings():
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=r"target \[4\]"):
        jax.jit(lambda s, t: preference_loss(s, target=t))(COLUMN, FLAT)
