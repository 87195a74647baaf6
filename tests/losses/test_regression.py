"""Centred regression and the signal of INPO and COMAL agree with their pairwise and their exact forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.losses.policy import gpo_loss
from gpmjax.losses.regression import centred_regression_loss, regularised_signal
from gpmjax.losses.signals import mean_win_rate, mixture_win_rate
from gpmjax.preference.self_play import self_play

K = 5


@pytest.fixture
def group():
    """log π, log π_t and log π_ref [3, 5] of three prompts, and their scores [3, 5, 5]."""
    draw = np.random.default_rng(0)
    logprob, current, reference = draw.normal(-20, 2, (3, 3, K)).astype(np.float32)
    scores = draw.normal(size=(3, K, K)).astype(np.float32)
    return logprob, current, reference, scores - scores.swapaxes(1, 2)


def test_it_is_the_mean_over_all_pairs_of_inpos_loss_with_soft_labels_up_to_a_constant(group):
    """The paper regresses Δ log π − m Δ log π_ref − (1 − m) Δ log π_t on η (P_ij − ½)."""
    logprob, current, reference, scores = group
    beta, m = 0.4, 0.3
    P = np.asarray(1 / (1 + np.exp(-scores.astype(float))))
    signal = regularised_signal(mean_win_rate(scores), current, reference, beta=beta, mixture=m)

    def pairwise(logprob):
        mixed = logprob - m * reference - (1 - m) * current
        return np.mean((mixed[:, :, None] - mixed[:, None, :] - (P - 0.5) / beta) ** 2, axis=(1, 2))

    def ours(logprob):
        return 2 * np.mean(np.asarray(centred_regression_loss(logprob, current, signal, beta=beta)), axis=1)

    constant = pairwise(logprob) - ours(logprob)
    for seed in range(3):
        other = np.random.default_rng(seed).normal(-20, 2, logprob.shape).astype(np.float32)
        np.testing.assert_allclose(pairwise(other) - ours(other), constant, rtol=1e-3)
    assert np.all(constant > 0.01)


def test_log_z_and_any_other_constant_of_a_prompt_cancels(group):
    logprob, current, _, scores = group
    signal = mean_win_rate(scores)

    def loss(shift, moved):
        return centred_regression_loss(logprob + moved, current, signal + shift, beta=0.4)

    np.testing.assert_allclose(loss(0.7, 3.0), loss(0.0, 0.0), rtol=1e-3, atol=1e-4)
    # GPO is the same loss, with the log Z that centres its residuals.
    log_z = jnp.mean(signal - 0.4 * (logprob - current), axis=-1, keepdims=True)
    gpo = gpo_loss(logprob, current, signal, beta=0.4, log_partition=jnp.broadcast_to(log_z, signal.shape))
    np.testing.assert_allclose(loss(0.0, 0.0), gpo, rtol=1e-4, atol=1e-5)


def test_weight_zero_has_no_effect_and_weight_two_counts_twice(group):
    logprob, current, _, scores = group
    signal = mean_win_rate(scores)

    def of(weight, spoiled):
        return centred_regression_loss(
            jnp.where(weight > 0, logprob, spoiled), current, signal, beta=0.4, weight=weight
        )

    two = jnp.zeros((3, K)).at[:, jnp.array([1, 4])].set(1.0)
    alone = centred_regression_loss(*(x[:, [1, 4]] for x in (logprob, current, signal)), beta=0.4)
    np.testing.assert_allclose(of(two, jnp.nan)[:, jnp.array([1, 4])], alone, rtol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(centred_regression_loss(x, current, signal, beta=0.4, weight=two) * two))(
        logprob
    )
    assert np.all(np.asarray(slope)[:, [0, 2, 3]] == 0) and np.all(np.asarray(slope)[:, [1, 4]] != 0)
    twice = jnp.ones((3, K)).at[:, 0].set(2.0)
    repeated = [np.concatenate([x, x[:, :1]], axis=1) for x in (logprob, current, np.asarray(signal))]
    np.testing.assert_allclose(
        of(twice, 0.0), centred_regression_loss(*repeated, beta=0.4)[:, :K], rtol=1e-4, atol=1e-4
    )
    assert np.all(np.isfinite(of(jnp.zeros((3, K)), 0.0)))  # a row of padding


SCORES = np.array([[0, 2, -1, 0.5], [-2, 0, 1, 0.5], [1, -1, 0, 0.5], [-0.5, -0.5, -0.5, 0]], np.float32)
"""Log-odds of a cycle of three above a fourth."""
POLICIES = np.array([[0.5, 0.3, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.3, 0.4, 0.2, 0.1]], np.float32)
"""π_t, π_ref and π_{t−1}."""


@pytest.mark.parametrize("method", ["inpo", "nash_md", "optimistic"])
def test_a_softmax_policy_that_minimises_it_makes_the_exact_step(method):
    """Groups hold each response in proportion to π_t, as infinitely many samples would."""
    current, reference, previous = np.log(POLICIES)
    beta, m = 0.8, 0.25
    arms = np.repeat(np.arange(4), (10, 6, 2, 2))
    scores = SCORES[np.ix_(arms, arms)][None]

    def of(table):
        return jnp.asarray(table[arms])[None]

    rate = mean_win_rate(scores)
    earlier = None
    if method == "nash_md":
        rate = mixture_win_rate(scores, of(current), of(reference), mixture=m)
    if method == "optimistic":
        earlier = mixture_win_rate(scores, of(current), of(previous), mixture=1.0)
    signal = regularised_signal(rate, of(current), of(reference), beta=beta, mixture=m, earlier_win_rate=earlier)

    def loss(logits):
        return jnp.sum(centred_regression_loss(of(jax.nn.log_softmax(logits)), of(current), signal, beta=beta))

    # The loss is quadratic in the logits, so one step of Newton's method reaches its minimum.
    start = jnp.zeros(4)
    step = jnp.linalg.lstsq(jax.hessian(loss)(start), -jax.grad(loss)(start))[0]
    found = jax.nn.softmax(start + step)

    gains = jax.nn.sigmoid(SCORES) - 0.5
    if method == "optimistic":
        log_pi = (
            (1 - m) * current
            + m * reference
            + (gains @ POLICIES[0] + (1 - m) * (gains @ (POLICIES[0] - POLICIES[2]))) / beta
        )
        expected = jax.nn.softmax(log_pi)
    else:
        options = dict(rule=method, step_size=1 / beta, steps=1, magnet=POLICIES[1], strength=m * beta)
        expected = self_play(gains, POLICIES[0], **options)[1]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_refusals(group):
    logprob, current, reference, _ = group
    with pytest.raises(ValueError, match=r"signal \[5\]"):
        centred_regression_loss(logprob, current, logprob[0], beta=1.0)
    with pytest.raises(ValueError, match=r"weight \[3, 1\]"):
        centred_regression_loss(logprob, current, logprob, beta=1.0, weight=logprob[:, :1])
    with pytest.raises(ValueError, match=r"win_rate \[5\]"):
        regularised_signal(logprob[0], current, reference, beta=1.0, mixture=0.1)
    with pytest.raises(ValueError, match=r"earlier_win_rate \[5\]"):
        regularised_signal(logprob, current, reference, beta=1.0, mixture=0.1, earlier_win_rate=logprob[0])
