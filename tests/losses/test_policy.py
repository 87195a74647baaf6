"""Properties of single policy losses: their minima, their invariances, and the arguments that they refuse."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.losses import policy, signals
from gpmjax.preference.score import win_probability

K = 5
NUMBERS = st.floats(-8, 8, width=32)
BETAS = st.sampled_from([0.125, 0.5, 2.0])
PAIRWISE = {
    "dpo": policy.dpo_loss,
    "ipo": policy.ipo_loss,
    "rebel": lambda *sides, beta: policy.rebel_loss(*sides, jnp.full_like(sides[0], 0.7), beta=beta),
}


def skew(seed: int = 0, size: int = K) -> np.ndarray:
    X = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    return X - X.T


def logprobs(seed: int = 1, size: int = K) -> jax.Array:
    return jax.nn.log_softmax(jnp.asarray(np.random.default_rng(seed).normal(size=size), jnp.float32))


@given(score=NUMBERS, reference=NUMBERS, log_Z=NUMBERS, beta=BETAS)
def test_gpo_is_least_where_the_log_ratio_is_the_score_over_beta(score, reference, log_Z, beta):
    optimum = jnp.float32(reference + (score - log_Z) / beta)

    def loss(logprob):
        return policy.gpo_loss(logprob, jnp.float32(reference), jnp.float32(score), beta=beta, log_partition=log_Z)

    value, slope = jax.value_and_grad(loss)(optimum)
    chex.assert_trees_all_close((value, slope), (jnp.float32(0), jnp.float32(0)), atol=1e-3)
    assert float(loss(optimum + 1)) == pytest.approx(1, rel=1e-2) and float(jax.grad(loss)(optimum + 1)) > 0


@given(win_rate=st.floats(0, 1, width=32), reference=NUMBERS, beta=BETAS)
def test_sppo_is_least_where_the_log_ratio_is_the_surplus_win_rate_over_beta(win_rate, reference, beta):
    optimum = jnp.float32(reference + (win_rate - 0.5) / beta)
    chex.assert_trees_all_close(
        policy.sppo_loss(optimum, jnp.float32(reference), jnp.float32(win_rate), beta=beta), jnp.float32(0), atol=1e-4
    )


def test_gpo_with_the_exact_partition_has_the_exponential_update_as_its_minimiser():
    """If the samples are the whole space in proportion to π_t, the target is the normalised mirror step."""
    beta = 0.3
    current = jnp.log(jnp.full(K, 1 / K))  # so that K samples, one of each response, are the space
    score = signals.mean_score(skew())
    log_Z = signals.log_partition(score, beta=beta)
    target = current + (score - log_Z) / beta
    chex.assert_trees_all_close(target, jax.nn.log_softmax(current + score / beta), atol=1e-5)
    loss = policy.gpo_loss(target, current, score, beta=beta, log_partition=log_Z)
    chex.assert_trees_all_close(loss, jnp.zeros(K), atol=1e-9)
    # The printed formula, without β in the exponent, gives probabilities that add up to 1 only at β = 1.
    printed = current + (score - signals.log_partition(score, beta=1.0)) / beta
    assert abs(float(jnp.sum(jnp.exp(printed))) - 1) > 0.1


def test_the_hard_sppo_is_sppo_at_win_rates_one_and_zero():
    chosen, reference, rejected, other = (logprobs(seed) for seed in range(4))
    hard = policy.sppo_hard_loss(chosen, reference, rejected, other, beta=0.2)
    soft = policy.sppo_loss(chosen, reference, jnp.ones(K), beta=0.2)
    chex.assert_trees_all_close(hard, soft + policy.sppo_loss(rejected, other, jnp.zeros(K), beta=0.2), rtol=1e-6)


def test_win_rates_from_the_matrix_are_not_those_of_the_mean_score():
    """With A ≻ B strongly and B ≻ C, C ≻ A weakly, A's mean score is high, its mean win rate less so."""
    scores = jnp.array([[0.0, 9.0, -1.0], [-9.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    win_rate = signals.mean_win_rate(scores)
    by_hand = np.mean(1 / (1 + np.exp(-np.asarray(scores))), axis=1)
    np.testing.assert_allclose(win_rate, by_hand, rtol=1e-6)
    collapsed = win_probability(signals.mean_score(scores))
    assert float(jnp.max(jnp.abs(win_rate - collapsed))) > 0.3


def test_nash_md_without_a_mixture_is_sppo():
    logprob, current, reference = (logprobs(seed) for seed in range(3))
    win_rate = signals.mixture_win_rate(skew(), current, reference, mixture=0.0)
    chex.assert_trees_all_close(win_rate, signals.mean_win_rate(skew()), rtol=1e-6)
    nash = policy.nash_md_loss(logprob, current, reference, win_rate, beta=0.2, mixture=0.0)
    chex.assert_trees_all_close(nash, policy.sppo_loss(logprob, current, win_rate, beta=0.2), rtol=1e-6)


def test_repeated_nash_md_steps_approach_the_regularised_equilibrium():
    """The limit is π(y) ∝ π_ref(y) exp(P(y ≻ opponent)/τ), τ = m β. Opponent: the mixture; at the equilibrium, π."""
    P, reference, tau = win_probability(3 * skew()), logprobs(), 0.25

    def settle(mixture, steps=100):
        beta, current = tau / mixture, reference

        def loss(x, c, w):
            return policy.nash_md_loss(x, c, reference, w, beta=beta, mixture=mixture)

        minimise = jax.jit(_minimiser(loss))
        for _ in range(steps):
            opponent = jax.nn.softmax((1 - mixture) * current + mixture * reference)
            current = jax.nn.log_softmax(minimise(current, jnp.dot(P, opponent)))
        return current, opponent

    def best_response(opponent):
        return jax.nn.log_softmax(reference + jnp.dot(P, opponent) / tau)

    coarse, opponent = settle(0.25)
    chex.assert_trees_all_close(coarse, best_response(opponent), atol=1e-4)

    def gap(policy_):
        return float(jnp.max(jnp.abs(policy_ - best_response(jnp.exp(policy_)))))

    assert gap(settle(0.05)[0]) < 0.3 * gap(coarse)


def test_the_mixture_opponent_is_that_of_whole_responses():
    """Samples in proportion to π_t, re-weighted, give the exact win rate against π_t^{1−m} π_ref^m."""
    counts, mixture = np.array([1, 2, 5]), 0.4
    current, reference = jnp.log(jnp.asarray(counts / counts.sum(), jnp.float32)), logprobs(size=3)
    scores, drawn = skew(size=3), np.repeat(np.arange(3), counts)
    sampled = signals.mixture_win_rate(scores[np.ix_(drawn, drawn)], current[drawn], reference[drawn], mixture=mixture)
    opponent = jax.nn.softmax((1 - mixture) * current + mixture * reference)
    chex.assert_trees_all_close(sampled, jnp.dot(win_probability(scores), opponent)[drawn], rtol=1e-5)


def _minimiser(loss):
    """A function that minimises a quadratic loss by one Newton step; its second derivative is 2."""

    def minimise(current, win_rate):
        gradient = jax.grad(lambda x: jnp.sum(loss(x, current, win_rate)))(current)
        return current - gradient / 2

    return minimise


@given(margin=NUMBERS, beta=BETAS)
def test_dpo_with_half_the_labels_flipped_is_symmetric_in_the_sides(margin, beta):
    left, zero = jnp.float32(margin), jnp.float32(0)

    def loss(a, b, smoothing):
        return policy.dpo_loss(a, zero, b, zero, beta=beta, label_smoothing=smoothing)

    chex.assert_trees_all_close(loss(left, zero, 0.5), loss(zero, left, 0.5), rtol=1e-5)
    chex.assert_trees_all_close(loss(left, zero, 0.2), loss(zero, left, 0.8), rtol=1e-4, atol=1e-6)
    assert float(jax.grad(lambda x: loss(x, zero, 0.5))(zero)) == 0


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_smoothed_dpo_is_least_at_the_labels_own_odds(smoothing):
    zero = jnp.float32(0)
    optimum = jnp.log((1 - smoothing) / smoothing) / 0.1

    def loss(chosen):
        return policy.dpo_loss(chosen, zero, zero, zero, beta=0.1, label_smoothing=smoothing)

    assert abs(float(jax.grad(loss)(optimum))) < 1e-6


@given(margin=NUMBERS, beta=BETAS)
def test_ipo_and_rebel_are_least_at_their_margins(margin, beta):
    zero = jnp.float32(0)
    ipo = policy.ipo_loss(jnp.float32(0.5 / beta), zero, zero, zero, beta=beta)
    rebel = policy.rebel_loss(jnp.float32(margin / beta), zero, zero, zero, jnp.float32(margin), beta=beta)
    chex.assert_trees_all_close((ipo, rebel), (zero, zero), atol=1e-5)


def test_gpos_minimiser_is_rebels_for_any_log_Z():
    score, current, beta = signals.mean_score(skew()), logprobs(), 0.2
    ratio = (score - 1.7) / beta
    i, j = np.triu_indices(K, 1)
    sides = (current + ratio)[i], current[i], (current + ratio)[j], current[j]
    chex.assert_trees_all_close(policy.rebel_loss(*sides, score[i] - score[j], beta=beta), jnp.zeros(10), atol=1e-9)


def test_rebel_is_the_same_with_the_sides_swapped():
    sides = [logprobs(seed) for seed in range(4)]
    swapped = policy.rebel_loss(*sides[2:], *sides[:2], -signals.mean_score(skew()), beta=0.3)
    chex.assert_trees_all_close(policy.rebel_loss(*sides, signals.mean_score(skew()), beta=0.3), swapped, rtol=1e-5)


@pytest.mark.parametrize("name", PAIRWISE)
def test_losses_of_pairs_depend_only_on_differences_of_log_ratios(name):
    """log Z is on both sides and cancels."""
    chosen, reference, rejected, other = (logprobs(seed) for seed in range(4))
    loss = PAIRWISE[name](chosen, reference, rejected, other, beta=0.2)
    shifted = PAIRWISE[name](chosen + 3.0, reference, rejected + 3.0, other, beta=0.2)
    chex.assert_trees_all_close(loss, shifted, rtol=1e-4)


COLUMN, FLAT = jnp.ones((4, 1)), jnp.ones(4)  # together they would broadcast to [4, 4]

TRAPS = {
    "reference_logprob": lambda: policy.gpo_loss(FLAT, COLUMN, FLAT, beta=0.1),
    "score": lambda: policy.gpo_loss(FLAT, FLAT, COLUMN, beta=0.1),
    "log_partition": lambda: policy.gpo_loss(FLAT, FLAT, FLAT, beta=0.1, log_partition=COLUMN),
    "beta": lambda: policy.sppo_loss(FLAT, FLAT, FLAT, beta=COLUMN),
    "mixture": lambda: policy.nash_md_loss(FLAT, FLAT, FLAT, FLAT, beta=0.1, mixture=COLUMN),
    "rejected": lambda: policy.sppo_hard_loss(FLAT, FLAT, COLUMN, COLUMN, beta=0.1),
    "right": lambda: policy.dpo_loss(FLAT, FLAT, COLUMN, COLUMN, beta=0.1),
    "label_smoothing": lambda: policy.dpo_loss(FLAT, FLAT, FLAT, FLAT, beta=0.1, label_smoothing=COLUMN),
    "score_difference": lambda: policy.rebel_loss(FLAT, FLAT, FLAT, FLAT, COLUMN, beta=0.1),
}


@pytest.mark.parametrize("name", TRAPS)
def test_column_and_flat_vectors_do_not_broadcast(name):
    with pytest.raises(ValueError, match=rf"{name} \[4.*\]") as error:
        TRAPS[name]()
    assert "\n" not in str(error.value)
