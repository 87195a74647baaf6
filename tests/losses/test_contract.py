"""One contract for every loss: finite, float32, one value per example, the same under jit and vmap.

A line in `LOSSES` adds a loss: a function of its examples, whose first axis is the batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.losses import policy, policy_gradient, regression
from gpmjax.losses.reward import (
    centering_penalty,
    expected_error,
    listwise_loss,
    preference_loss,
    regularised,
    verdict_loss,
    weighted_mean,
)
from gpmjax.losses.tokens import token_logprobs

BATCH, K, D, V = 5, 3, 4, 7
EXTREMES = np.array([-1e4, -30.0, 0.0, 30.0, 1e4], np.float32)


class Loss(NamedTuple):
    function: Callable[..., jax.Array]
    """(score, target) → one value per example; gradients are taken by the score."""
    score_shape: tuple[int, ...] = ()
    """The shape of one example's score."""
    discrete_target: bool = False
    signed: bool = False
    """Values may be negative: of a policy gradient's surrogate, or of an estimator of which only the mean is ≥ 0."""


def upper(scores: jax.Array) -> jax.Array:
    """Weights that compare each pair of a group once."""
    return jnp.broadcast_to(jnp.triu(jnp.ones((K, K), scores.dtype), 1), scores.shape)


UNEMBEDDING = np.random.default_rng(7).normal(size=(V, D)).astype(np.float32)

LOSSES = {
    "preference": Loss(lambda s, t: preference_loss(s, target=t)),
    "preference, every option": Loss(
        lambda s, t: preference_loss(s, target=t, tau=0.1, margin=0.5, label_smoothing=0.1)
    ),
    "preference, learned tau": Loss(lambda s, t: preference_loss(s, target=t, tau=jnp.array(0.5))),
    "verdict": Loss(lambda s, t: verdict_loss(s, target=t, mass=-t)),
    "expected error": Loss(lambda s, t: expected_error(s, target=t, tau=0.1)),
    "listwise": Loss(lambda s, t: listwise_loss(s, t, upper(s), tau=0.1), (K, K)),
    "centering": Loss(lambda s, t: centering_penalty(s, 1 - t)),
    "regularised": Loss(lambda s, t: regularised(preference_loss(s, target=t), 3 * t, 0.1)),
    "GPO": Loss(lambda s, t: policy.gpo_loss(s, 3 * t, t - 0.5, beta=0.1)),
    "GPO, log Z": Loss(lambda s, t: policy.gpo_loss(s, 3 * t, t - 0.5, beta=0.1, log_partition=t)),
    "SPPO": Loss(lambda s, t: policy.sppo_loss(s, 3 * t, t, beta=0.1)),
    "SPPO, hard": Loss(lambda s, t: policy.sppo_hard_loss(s, 3 * t, -s, t, beta=0.1)),
    "Nash-MD": Loss(lambda s, t: policy.nash_md_loss(s, 3 * t, -2 * t, t, beta=0.1, mixture=0.3)),
    "centred": Loss(lambda s, t: jnp.mean(regression.centred_regression_loss(s, 3 * t, t, beta=0.1), axis=-1), (K,)),
    "DPO": Loss(lambda s, t: policy.dpo_loss(s, 3 * t, -s, t, beta=0.1)),
    "DPO, smoothed": Loss(lambda s, t: policy.dpo_loss(s, 3 * t, -s, t, beta=0.1, label_smoothing=0.2)),
    "IPO": Loss(lambda s, t: policy.ipo_loss(s, 3 * t, -s, t, beta=0.1)),
    "REBEL": Loss(lambda s, t: policy.rebel_loss(s, 3 * t, -s, t, t - 0.5, beta=0.1)),
    "clipped surrogate": Loss(lambda s, t: policy_gradient.clipped_surrogate(s, 3 * t, t - 0.5), signed=True),
    "policy gradient": Loss(
        lambda s, t: policy_gradient.clipped_policy_gradient(s, t, t[..., 0] - 0.5, t > 0.2), (K,), signed=True
    ),
    "policy gradient, sum": Loss(
        lambda s, t: policy_gradient.clipped_policy_gradient(s, t, t[..., 0] - 0.5, t > 0.2, per_response="sum"),
        (K,),
        signed=True,
    ),
    "k1": Loss(lambda s, t: policy_gradient.kl_k1(s, t), signed=True),
    "k3": Loss(lambda s, t: policy_gradient.kl_k3(s, t)),
    "tokens": Loss(lambda h, y: -token_logprobs(h, y, UNEMBEDDING, chunk=2), (D,), discrete_target=True),
    "tokens, capped": Loss(lambda h, y: -token_logprobs(h, y, UNEMBEDDING.T, vocab_axis=1, softcap=30.0), (D,), True),
}

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def examples(loss: Loss, *lead: int, dtype=jnp.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(*lead, BATCH, *loss.score_shape)).astype(dtype)
    if loss.discrete_target:
        return scores, rng.integers(V, size=(*lead, BATCH), dtype=np.int32)
    return scores, rng.uniform(size=scores.shape).astype(dtype)


def extreme_examples(loss: Loss) -> tuple[np.ndarray, np.ndarray]:
    scores, target = examples(loss)
    return np.broadcast_to(EXTREMES.reshape(BATCH, *[1] * len(loss.score_shape)), scores.shape), target


@every_loss
def test_one_float32_per_example(loss):
    for dtype in (jnp.float32, jnp.bfloat16):
        value = jax.jit(loss.function)(*examples(loss, dtype=dtype))
        chex.assert_shape(value, (BATCH,))
        chex.assert_type(value, jnp.float32)


@every_loss
def test_only_signed_losses_are_negative(loss):
    values = jax.jit(loss.function)(*examples(loss))
    assert bool(np.any(values < 0)) == loss.signed


@every_loss
def test_value_and_gradient_are_finite_at_extreme_scores(loss):
    scores, target = extreme_examples(loss)
    value, gradient = jax.jit(jax.value_and_grad(lambda s: jnp.sum(loss.function(s, target))))(scores)
    chex.assert_tree_all_finite((value, gradient))


@every_loss
def test_jit_gives_the_eager_values(loss):
    arguments = examples(loss)
    np.testing.assert_allclose(jax.jit(loss.function)(*arguments), loss.function(*arguments), atol=1e-6, rtol=1e-5)


@every_loss
def test_vmap_gives_the_values_of_a_loop(loss):
    scores, target = examples(loss, 2)
    one = jax.jit(loss.function)
    looped = [one(s, t) for s, t in zip(scores, target, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(loss.function))(scores, target), looped, atol=1e-6, rtol=1e-5)


@every_loss
def test_an_examples_loss_does_not_depend_on_the_others(loss):
    scores, target = examples(loss)
    run = jax.jit(loss.function)
    alone = np.concatenate([run(scores[i : i + 1], target[i : i + 1]) for i in range(BATCH)])
    np.testing.assert_allclose(run(scores, target), alone, atol=1e-6, rtol=1e-5)


@every_loss
def test_zero_weight_contributes_neither_value_nor_gradient(loss):
    scores, target = extreme_examples(loss)
    weight = np.array([0, 1, 1, 1, 0], np.float32)

    @jax.jit
    @jax.value_and_grad
    def mean(s, target, weight):
        return weighted_mean(loss.function(s, target), weight)

    value, gradient = map(np.asarray, mean(scores, target, weight))
    kept_value, kept_gradient = mean(scores[1:4], target[1:4], weight[1:4])
    np.testing.assert_allclose(value, kept_value, rtol=1e-5)
    np.testing.assert_allclose(gradient[1:4], kept_gradient, rtol=1e-5, atol=1e-6)
    assert not np.any(gradient[weight == 0])
    value, gradient = mean(scores, target, np.zeros_like(weight))
    assert value == 0 and not np.any(gradient)
