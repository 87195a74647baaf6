"""The clipped policy gradient is REINFORCE's inside the clip range, 0 outside; KL estimators have the KL as mean."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.losses.policy_gradient import clipped_policy_gradient, clipped_surrogate, kl_k1, kl_k3
from gpmjax.losses.signals import group_advantages, mean_score

LOW, HIGH = 0.2, 0.3


def slope(log_ratio: float, advantage: float) -> float:
    def loss(x):
        return clipped_surrogate(x, jnp.float32(0), jnp.float32(advantage), clip_low=LOW, clip_high=HIGH)

    return float(jax.grad(loss)(jnp.float32(log_ratio)))


@pytest.mark.parametrize("log_ratio", [-1.0, 0.0, 0.25])
def test_inside_the_clip_the_gradient_is_the_policy_gradient(log_ratio):
    assert slope(log_ratio, 2.0) == pytest.approx(-2 * np.exp(log_ratio))


@pytest.mark.parametrize(
    "log_ratio, advantage",
    [(np.log(1 + HIGH) + 1e-3, 1.0), (9.0, 1.0), (np.log(1 - LOW) - 1e-3, -1.0), (-9.0, -1.0)],
)
def test_beyond_the_clip_the_gradient_is_zero(log_ratio, advantage):
    assert slope(log_ratio, advantage) == 0


@pytest.mark.parametrize("log_ratio, advantage", [(-1.0, 1.0), (1.0, -1.0)])
def test_a_step_in_the_wrong_direction_is_always_taken_back(log_ratio, advantage):
    assert slope(log_ratio, advantage) == pytest.approx(-advantage * np.exp(log_ratio))


def test_no_gradient_reaches_the_advantage():
    gradient = jax.grad(lambda A: jnp.sum(clipped_surrogate(jnp.zeros(2), jnp.zeros(2), A)))(jnp.ones(2))
    chex.assert_trees_all_equal(gradient, jnp.zeros(2))


def test_on_policy_it_is_reinforce_on_the_expected_score():
    """Summed over the whole space, weighted by π, the gradient is that of E_{y∼π}[ŝ(y)]."""
    logits = jnp.array([0.3, -0.2, 0.9])
    scores = jnp.array([[0.0, 1.0, -2.0], [-1.0, 0.0, 0.5], [2.0, -0.5, 0.0]])
    old = jax.nn.log_softmax(logits)
    advantage = jnp.dot(scores, jnp.exp(old))

    def surrogate(logits):
        return jnp.sum(jnp.exp(old) * clipped_surrogate(jax.nn.log_softmax(logits), old, advantage))

    def expected(logits):
        return -jnp.dot(jax.nn.softmax(logits), advantage)

    chex.assert_trees_all_close(jax.grad(surrogate)(logits), jax.grad(expected)(logits), atol=1e-6)


def test_masked_tokens_contribute_nothing():
    logprob, old = jnp.array([[0.1, 0.2, jnp.nan]]), jnp.zeros((1, 3))
    mask = jnp.array([[True, True, False]])
    mean = clipped_policy_gradient(logprob, old, jnp.ones(1), mask)
    total = clipped_policy_gradient(logprob, old, jnp.ones(1), mask, per_response="sum")
    dropped = clipped_policy_gradient(logprob[:, :2], old[:, :2], jnp.ones(1), mask[:, :2])
    chex.assert_trees_all_close((total, mean), (2 * mean, dropped), rtol=1e-6)
    with pytest.raises(ValueError, match="per_response 'token' must be"):
        clipped_policy_gradient(logprob, old, jnp.ones(1), mask, per_response="token")
    with pytest.raises(ValueError, match=r"advantage \[1, 3\]"):
        clipped_policy_gradient(logprob, old, old, mask)


def test_group_advantages_of_scores():
    scores = np.random.default_rng(0).normal(size=(4, 6, 6)).astype(np.float32)
    average = mean_score(scores - scores.swapaxes(1, 2))
    advantage = group_advantages(average)
    np.testing.assert_allclose(np.mean(advantage, axis=1), np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(np.std(advantage, axis=1), np.ones(4), rtol=1e-3)
    np.testing.assert_allclose(group_advantages(7 * average), advantage, rtol=1e-3)  # the unit of the score cancels
    np.testing.assert_allclose(group_advantages(average, scale="none"), average, atol=1e-6)  # the mean is 0 already
    chex.assert_trees_all_equal(group_advantages(jnp.full((3,), 2.0)), jnp.zeros(3))
    with pytest.raises(ValueError, match="scale 'max' must be"):
        group_advantages(average, scale="max")


def test_both_estimators_have_the_kl_as_their_mean_and_k3_the_smaller_spread():
    policy = jax.nn.log_softmax(jnp.array([0.1, -0.4, 0.6, 0.0]))
    reference = jax.nn.log_softmax(jnp.array([0.0, -0.2, 0.3, 0.1]))
    exact = jnp.sum(jnp.exp(policy) * (policy - reference))
    moments = {k: _moments(k, policy, reference) for k in (kl_k1, kl_k3)}
    for mean, _ in moments.values():
        chex.assert_trees_all_close(mean, exact, rtol=1e-5)
    assert moments[kl_k3][1] < moments[kl_k1][1] / 10
    assert np.all(kl_k3(policy, reference) >= 0) and np.any(kl_k1(policy, reference) < 0)


def test_the_estimators_average_to_the_kl_over_samples():
    policy, reference = (jax.nn.log_softmax(jnp.array(x)) for x in ([0.5, -0.5, 0.2], [0.0, 0.1, 0.0]))
    drawn = jax.random.categorical(jax.random.key(0), policy, shape=(20_000,))
    exact = float(jnp.sum(jnp.exp(policy) * (policy - reference)))
    for estimator in (kl_k1, kl_k3):
        assert float(jnp.mean(estimator(policy[drawn], reference[drawn]))) == pytest.approx(exact, abs=0.01)


def _moments(estimator, policy, reference):
    values, p = estimator(policy, reference), jnp.exp(policy)
    mean = jnp.sum(p * values)
    return mean, jnp.sum(p * jnp.square(values - mean))
