"""Mirror steps as a regression without a normaliser, and the signal of self-play that converges (INPO, COMAL).

GPO, SPPO, Nash-MD and COMAL all regress r = log π/π_t on a target (signal − log Z)/β. log Z is the same for all K
responses to a prompt, so it cancels when the residuals are centred over the K responses:

    L_i = ((r_i − r̄) − (signal_i − mean signal)/β)²

Σ_i L_i is 1/(2K) of the sum over all K² pairs of ((r_i − r_j) − (signal_i − signal_j)/β)², the pairwise form of INPO.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.losses.policy_gradient import log_ratio
from gpmjax.preference.inputs import float32_or_wider, require_same_shape


def centred_regression_loss(
    logprob: Float[Array, "*batch K"],
    reference_logprob: Float[Array, "*batch K"],
    signal: Float[Array, "*batch K"],
    *,
    beta: float,
    weight: Float[Array, "*batch K"] | None = None,
) -> Float[jax.Array, "*batch K"]:
    """Squares of log π/π_t − signal/β, after subtracting its weighted mean over the K responses to a prompt.

    At every β > 0 the loss is 0 for all K responses if and only if π ∝ π_t exp(signal/β) on them. The total probability
    of the K responses does not matter.

    Args:
      logprob: log π(y|x), summed over the response [..., K].
      reference_logprob: log π_t(y|x) [..., K], of the policy that y was sampled from.
      signal: ŝ, P̂, or `regularised_signal` [..., K]; adding a constant to all K changes nothing.
      beta: β > 0, in the units of the signal per nat.
      weight: ≥ 0 [..., K], of each response in the mean; a response of weight 0 (padding) does not affect the others.
        None is 1.
    Returns:
      [..., K] float32 ≥ 0, in nats².
    Raises:
      ValueError: the shapes differ.
    Source: with all K of weight 1, the loss of INPO (arXiv 2407.00617) with soft labels, over all pairs; with two
      responses, half of REBEL's (arXiv 2404.16767) over β².

    >>> half = jnp.array([-10.5, -10.5])
    >>> centred_regression_loss(jnp.array([-9.0, -11.0]), half, jnp.array([0.6, 0.4]), beta=0.1).round(6).tolist()
    [0.0, 0.0]
    """
    ratio, signal = log_ratio(logprob, reference_logprob), float32_or_wider(signal)
    weight = jnp.ones_like(ratio) if weight is None else float32_or_wider(weight)
    require_same_shape(logprob=ratio, signal=signal, weight=weight)
    residual = ratio - signal / beta
    total = jnp.sum(weight, axis=-1, keepdims=True)
    # A residual of weight 0 may be NaN; where all weights are 0, 0 is subtracted.
    counted = jnp.where(weight > 0, residual, 0.0) * weight
    return jnp.square(residual - jnp.sum(counted, axis=-1, keepdims=True) / jnp.where(total > 0, total, 1.0))


def regularised_signal(
    win_rate: Float[Array, "*batch K"],
    current_logprob: Float[Array, "*batch K"],
    reference_logprob: Float[Array, "*batch K"],
    *,
    beta: float,
    mixture: float,
    earlier_win_rate: Float[Array, "*batch K"] | None = None,
) -> Float[jax.Array, "*batch K"]:
    """P̂ plus the pull of a reference policy: P̂ + β m log π_ref/π_t, so that (signal − ½)/β is INPO's target.

    With the win rate against the mixture π_t^{1−m} π_ref^m, (signal − ½)/β is Nash-MD's target instead. The reference
    stays fixed for some iterations (INPO within COMAL). The regularisation of the game is m β.

    Args:
      win_rate: P̂(y ≻ π_t) [..., K] from `signals.mean_win_rate`.
      current_logprob: log π_t(y|x) [..., K].
      reference_logprob: log π_ref(y|x) [..., K].
      beta: β = 1/η > 0.
      mixture: m = η β_reg in [0, 1].
      earlier_win_rate: P̂(y ≻ π_{t−1}) [..., K], from `signals.mixture_win_rate` with the previous policy and mixture
        1. It makes the signal optimistic: P̂ becomes P̂ + (1 − m)(P̂ − P̂_{t−1}).
    Returns:
      [..., K] float32, in units of the win rate. With mixture 0 and no earlier win rate it is P̂.
    Raises:
      ValueError: the shapes differ.
    Source: arXiv 2407.00617 (INPO); arXiv 2410.23223 (COMAL) and 2410.16714 (MPO) for the moving reference; arXiv
      2105.15186 for optimism with regularisation. `preference.self_play` has the exact updates and what is proved about
      them.

    >>> win_rate, current, reference = jnp.array([0.6, 0.4]), jnp.zeros(2), jnp.array([1.0, 0.0])
    >>> signal = regularised_signal(win_rate, current, reference, beta=0.5, mixture=0.1)
    >>> [round(float(number), 3) for number in signal]
    [0.65, 0.4]
    """
    win_rate, pull = float32_or_wider(win_rate), log_ratio(reference_logprob, current_logprob)
    require_same_shape(win_rate=win_rate, logprob=pull)
    signal = win_rate + beta * mixture * pull
    if earlier_win_rate is None:
        return signal
    earlier = float32_or_wider(earlier_win_rate)
    require_same_shape(win_rate=win_rate, earlier_win_rate=earlier)
    return signal + (1 - mixture) * (win_rate - earlier)
