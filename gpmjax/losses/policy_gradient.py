"""Policy gradient for PPO, GRPO and GPRL with an advantage from preference scores; KL(π‖π_ref) from samples."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from gpmjax.arrays import Array
from gpmjax.losses.reward import weighted_mean
from gpmjax.preference.inputs import float32_or_wider, require_same_shape

# Every clip range is far below a ratio of e^20. A ratio of e^89 would be infinite, and 0 · ∞ in the gradient is NaN.
MAX_LOG_RATIO = 20.0


def log_ratio(logprob: Float[Array, "*batch"], reference_logprob: Float[Array, "*batch"]) -> Float[jax.Array, "*batch"]:
    """log π − log π_ref, [...] float32; raises ValueError where the shapes differ.

    >>> float(log_ratio(jnp.array(-1.0), jnp.array(-3.0)))
    2.0
    """
    logprob, reference_logprob = float32_or_wider(logprob), float32_or_wider(reference_logprob)
    require_same_shape(logprob=logprob, reference_logprob=reference_logprob)
    return logprob - reference_logprob


def clipped_surrogate(
    logprob: Float[Array, "*batch"],
    old_logprob: Float[Array, "*batch"],
    advantage: Float[Array, "*batch"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Float[jax.Array, "*batch"]:
    """PPO's objective as a loss per token: −min(ρ A, clip(ρ, 1 − low, 1 + high) A), ρ = π/π_old.

    The gradient is −ρ A ∇log π, and 0 where the step has gone far enough: where ρ is above 1 + high for A > 0, or below
    1 − low for A < 0. The value itself means little. No gradient flows into the advantage.

    Args:
      logprob: log π of each token [...].
      old_logprob: log π_old of each token [...], of the policy that sampled it.
      advantage: A of each token [...].
      clip_low, clip_high: > 0; GRPO and PPO use 0.2 for both.
    Returns:
      [...] float32, positive or negative.
    Raises:
      ValueError: the shapes differ.
    Source: Schulman et al. 2017 (arXiv 1707.06347), equation (7); two clip ranges: Yu et al. 2025 (arXiv 2503.14476).
    """
    log_rho = log_ratio(logprob, old_logprob)
    advantage = jax.lax.stop_gradient(float32_or_wider(advantage))
    require_same_shape(logprob=log_rho, advantage=advantage)
    ratio = jnp.exp(jnp.clip(log_rho, -MAX_LOG_RATIO, MAX_LOG_RATIO))
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip_low, 1 + clip_high) * advantage)


def clipped_policy_gradient(
    logprob: Float[Array, "*batch T"],
    old_logprob: Float[Array, "*batch T"],
    advantage: Float[Array, "*batch"],
    mask: Bool[Array, "*batch T"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    per_response: Literal["mean", "sum"] = "mean",
) -> Float[jax.Array, "*batch"]:
    """`clipped_surrogate` over a response's tokens, which share one advantage: GRPO's mean, or Dr. GRPO's sum.

    Args:
      logprob, old_logprob: of each token [..., T].
      advantage: one per response [...], from `group_advantages` or `block_advantages`.
      mask: True on the response's own tokens [..., T].
      per_response: "mean" gives all responses the same weight, "sum" all tokens.
    Returns:
      [...] float32.
    Raises:
      ValueError: shapes that do not fit, or an unknown per_response.

    >>> old = jnp.zeros((1, 2))
    >>> clipped_policy_gradient(old + 1.0, old, jnp.full(1, 5.0), old == 0).tolist()  # clipped at 1.2
    [-6.0]
    """
    logprob, mask, advantage = float32_or_wider(logprob), jnp.asarray(mask), float32_or_wider(advantage)
    require_same_shape(logprob=logprob, mask=mask)
    require_same_shape(logprob=logprob[..., 0], advantage=advantage)
    by_token = jnp.broadcast_to(advantage[..., None], logprob.shape)
    losses = clipped_surrogate(logprob, old_logprob, by_token, clip_low=clip_low, clip_high=clip_high)
    if per_response == "mean":
        return weighted_mean(losses, mask, axis=-1)
    if per_response == "sum":
        return jnp.sum(jnp.where(mask, losses, 0.0), axis=-1)
    raise ValueError(f"per_response {per_response!r} must be 'mean' or 'sum'")


def kl_k1(logprob: Float[Array, "*batch"], reference_logprob: Float[Array, "*batch"]) -> Float[jax.Array, "*batch"]:
    """KL(π‖π_ref) from samples of π: log π − log π_ref. It is unbiased; one sample may be negative.

    Measure it, do not differentiate it: the gradient of its mean is the mean of ∇log π, whose expectation is 0.

    Source: Schulman 2020, *Approximating KL divergence*.

    >>> float(kl_k1(jnp.array(-1.0), jnp.array(-3.0)))
    2.0
    """
    return log_ratio(logprob, reference_logprob)


def kl_k3(logprob: Float[Array, "*batch"], reference_logprob: Float[Array, "*batch"]) -> Float[jax.Array, "*batch"]:
    """KL(π‖π_ref) from samples of π: π_ref/π − 1 − log π_ref/π. It is unbiased, ≥ 0, and steadier than k1 if π ≈ π_ref.

    The inputs are log-probabilities of tokens. Where π_ref/π is large, a few samples dominate the mean, so compare it
    with k1. A ratio above e²⁰ is replaced by e²⁰.

    Source: Schulman 2020, *Approximating KL divergence*; Shao et al. 2024 (arXiv 2402.03300), equation (4).

    >>> float(kl_k3(jnp.array(-1.0), jnp.array(-1.0)))
    0.0
    """
    inverse = log_ratio(reference_logprob, logprob)
    return jnp.expm1(jnp.minimum(inverse, MAX_LOG_RATIO)) - inverse
