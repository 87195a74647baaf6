"""From the K×K scores of one prompt's responses to a policy's training signals, and to the responses it is trained on.

S_ij = s(y_i ≻ y_j) comes from `pairwise_scores`; the K responses are samples of the current policy π_t. Every function
takes any leading axes. S may be the score itself or the log-odds s/τ, at the caller's choice, on which the meaning of β
depends. The released runs divide by τ first, and count each pair twice (score_factor of a policy's config).
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from gpmjax.arrays import Array
from gpmjax.preference.inputs import float32_or_wider, require_same_shape, require_square
from gpmjax.preference.score import win_probability

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Two numbers count as equal if they differ by no more than this, relative to the size of their summands."""


def mean_score(scores: Float[Array, "*batch K K"]) -> Float[jax.Array, "*batch K"]:
    """The mean score of each response against the policy: ŝ(y_i ≻ π_t) = 1/K Σ_k s(y_i ≻ y_k).

    The sum includes k = i, which adds 0. For skew-symmetric scores Σ_i ŝ_i = 0.

    Args:
      scores: S [..., K, K].
    Returns:
      [..., K] float32, in the units of the scores.
    Raises:
      ValueError: scores are not square.
    Source: arXiv 2410.02197, equation (5.6).

    >>> mean_score(jnp.array([[0.0, 1.0], [-1.0, 0.0]])).tolist()
    [0.5, -0.5]
    """
    scores = float32_or_wider(scores)
    require_square("scores", scores)
    return jnp.mean(scores, axis=-1)


def mean_win_rate(scores: Float[Array, "*batch K K"], tau: float = 1.0) -> Float[jax.Array, "*batch K"]:
    """The win rate of each response against the policy: P̂(y_i ≻ π_t) = 1/K Σ_k σ(s(y_i ≻ y_k)/τ).

    This is a mean of probabilities. σ(ŝ/τ), computed from the mean score, is a different number and loses the cycles.

    Args:
      scores: S [..., K, K].
      tau: temperature > 0; 1 where the scores are log-odds.
    Returns:
      [..., K] float32 in (0, 1); the mean over K is ½ for skew-symmetric scores.
    Raises:
      ValueError: scores are not square.
    Source: Wu et al. 2024 (SPPO, arXiv 2405.00675), Section 4.

    >>> mean_win_rate(jnp.zeros((2, 2))).tolist()
    [0.5, 0.5]
    """
    require_square("scores", jnp.asarray(scores))
    return jnp.mean(win_probability(scores, tau), axis=-1)


def mixture_win_rate(
    scores: Float[Array, "*batch K K"],
    logprob: Float[Array, "*batch K"],
    reference_logprob: Float[Array, "*batch K"],
    *,
    mixture: float,
    tau: float = 1.0,
) -> Float[jax.Array, "*batch K"]:
    """The win rate of each response against Nash-MD's opponent, the geometric mixture π_t^{1−m} π_ref^m.

    P̂(y_i ≻ mix) = Σ_k w_k σ(s(y_i ≻ y_k)/τ) with w_k ∝ (π_ref(y_k)/π_t(y_k))^m: the K samples of π_t, re-weighted to
    the mixture of whole responses. (To mix token by token while sampling would give a similar but different
    distribution.)

    Args:
      scores: S [..., K, K], all pairs: a real P(y ≻ y′) is needed for each.
      logprob: log π_t(y_k), summed over tokens [..., K], of the policy that the samples are from.
      reference_logprob: log π_ref(y_k) [..., K].
      mixture: m in [0, 1]; 0 is self-play, 1 plays against the reference.
      tau: temperature of the scores.
    Returns:
      [..., K] float32 in (0, 1).
    Raises:
      ValueError: shapes that do not fit.
    Source: Munos et al. 2023 (arXiv 2312.00886), the Nash-MD algorithm; the weights are those of self-normalised
      importance sampling.
    """
    logprob, reference_logprob = float32_or_wider(logprob), float32_or_wider(reference_logprob)
    P = win_probability(scores, tau)
    require_square("scores", P)
    require_same_shape(mean_win_rate=P[..., 0], logprob=logprob, reference_logprob=reference_logprob)
    weight = jax.nn.softmax(mixture * (reference_logprob - logprob), axis=-1)
    return jnp.sum(P * weight[..., None, :], axis=-1)


def log_partition(signal: Float[Array, "*batch K"], *, beta: float) -> Float[jax.Array, "*batch K"]:
    """The estimate, from K samples, of the normaliser that makes π_t exp((signal − log Z)/β) a distribution.

    log Z = β log 1/K Σ_k exp(signal_k/β). The paper prints the formula without β, which normalises the update only at β
    = 1. At small β the estimate is close to the largest signal, so every target is ≤ log K and most are far below 0.

    Args:
      signal: ŝ or P̂ of the K responses [..., K].
      beta: β > 0 of the loss; 1 for the printed formula.
    Returns:
      [..., K] float32 for `policy.gpo_loss`: the group's one value, repeated, in the units of the signal.
    Source: arXiv 2410.02197, after equation (5.7).

    >>> log_partition(jnp.array([0.5, 0.5]), beta=0.1).tolist()
    [0.5, 0.5]
    """
    signal = float32_or_wider(signal)
    log_mean = jax.nn.logsumexp(signal / beta, axis=-1, keepdims=True) - jnp.log(float(signal.shape[-1]))
    return jnp.broadcast_to(beta * log_mean, signal.shape)


def group_advantages(
    signal: Float[Array, "*batch K"], *, scale: Literal["std", "none"] = "std", epsilon: float = 1e-4
) -> Float[jax.Array, "*batch K"]:
    """GRPO's advantages: (signal − mean)/(std + ε) within a prompt's K responses; Dr. GRPO's with scale "none".

    Args:
      signal: ŝ [..., K].
      scale: "std", over K (not K − 1), or "none".
      epsilon: ε > 0, with which a group of equal signals gets 0.
    Returns:
      [..., K] float32, of mean 0.
    Raises:
      ValueError: an unknown scale.
    Source: Shao et al. 2024 (arXiv 2402.03300), Section 4.1.2; Liu et al. 2025 (arXiv 2503.20783).

    >>> group_advantages(jnp.array([3.0, 1.0])).round(3).tolist()
    [1.0, -1.0]
    """
    signal = float32_or_wider(signal)
    centred = signal - jnp.mean(signal, axis=-1, keepdims=True)
    if scale == "none":
        return centred
    if scale != "std":
        raise ValueError(f"scale {scale!r} must be 'std' or 'none'")
    return centred / (jnp.sqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True)) + epsilon)


def tells_apart(signal: Float[Array, "*batch K"], size: Float[Array, "*batch"]) -> Bool[jax.Array, "*batch"]:
    """Whether a prompt's K signals differ by more than float32's rounding: max − min > `ROUNDING` · size.

    Equal signals hold no information. Their rounding errors would still be scaled up, by a division by their standard
    deviation or by an optimiser that normalises gradients.

    Args:
      signal: [..., K].
      size: [...], the size of the numbers that the signals are means of.
    Returns:
      [...] bool.

    >>> tells_apart(jnp.array([[1.0, 1.0 + 1e-7], [1.0, 1.1]]), jnp.ones(2)).tolist()
    [False, True]
    """
    signal, size = float32_or_wider(signal), float32_or_wider(size)
    require_same_shape(signal=signal[..., 0], size=size)
    return jnp.max(signal, axis=-1) - jnp.min(signal, axis=-1) > ROUNDING * size


def select_best_and_worst(
    scores: Float[Array, "*batch K K"],
) -> tuple[Int[jax.Array, "*batch"], Int[jax.Array, "*batch"]]:
    """The indices of the responses with the highest and the lowest ŝ: the pair that the released runs train on.

    Of equal responses the first is best and the last is worst, so the two differ whenever K ≥ 2.

    >>> best, worst = select_best_and_worst(jnp.zeros((3, 3)))
    >>> int(best), int(worst)
    (0, 2)
    """
    average = mean_score(scores)
    last = average.shape[-1] - 1
    return jnp.argmax(average, axis=-1), last - jnp.argmin(jnp.flip(average, axis=-1), axis=-1)


def response_weights(scores: Float[Array, "*batch K K"], which: str) -> Float[jax.Array, "*batch K"]:
    """The weight of each response in a loss of single responses (GPO, SPPO, Nash-MD, policy gradient).

    "all" is 1 for each of the K: the full estimator. "best_and_worst" is 1 for those of `select_best_and_worst`, else
    0: the released recipe. "both" is the sum of the two.

    Returns [..., K] float32. Raises ValueError on another choice.

    >>> response_weights(jnp.array([[0.0, 1.0, 2.0], [-1.0, 0.0, 1.0], [-2.0, -1.0, 0.0]]), "best_and_worst").tolist()
    [1.0, 0.0, 1.0]
    """
    best, worst = select_best_and_worst(scores)
    everything = jnp.ones_like(mean_score(scores))
    extremes = jax.nn.one_hot(best, everything.shape[-1]) + jax.nn.one_hot(worst, everything.shape[-1])
    return _choose(which, everything, extremes)


def pair_weights(scores: Float[Array, "*batch K K"], which: str) -> Float[jax.Array, "*batch K K"]:
    """The weight W_ij of each pair (chosen i, rejected j) in a loss of pairs (DPO, IPO, REBEL).

    "all" has W_ij = 1 where s(i ≻ j) > 0: every decided pair once, with the winner chosen. On a cycle of three, each
    response is chosen once and rejected once. "best_and_worst" is one pair, or none where all K mean scores are equal,
    since neither response is then better. "both" is the sum of the two. Numbers within `ROUNDING` of the largest score
    count as equal.

    Returns [..., K, K] float32. Raises ValueError on another choice.

    >>> pair_weights(jnp.array([[0.0, 1.0], [-1.0, 0.0]]), "all").tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    scores = float32_or_wider(scores)
    best, worst = select_best_and_worst(scores)
    K = scores.shape[-1]
    extremes = jax.nn.one_hot(best, K)[..., :, None] * jax.nn.one_hot(worst, K)[..., None, :]
    size = jnp.max(jnp.abs(scores), axis=(-2, -1))
    extremes *= tells_apart(mean_score(scores), size)[..., None, None].astype(jnp.float32)
    return _choose(which, (scores > ROUNDING * size[..., None, None]).astype(jnp.float32), extremes)


def _choose(which: str, everything: jax.Array, extremes: jax.Array) -> jax.Array:
    if which == "all":
        return everything
    if which == "best_and_worst":
        return extremes
    if which == "both":
        return everything + extremes
    raise ValueError(f"which {which!r} must be 'all', 'best_and_worst' or 'both'")
