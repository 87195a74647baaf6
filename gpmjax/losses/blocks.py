"""General Preference Reinforcement Learning: one advantage per 2-d block of a general preference model.

A score is a sum over blocks, s = Σ_l λ_l s_l. With GRPO on ŝ, the block with the largest scores decides alone. Here
each block's advantage is normalised on its own scale before the prompt's λ weighs it, and a monitor measures which
block the policy is learning to exploit.

Source: Umer et al. 2026, *General Preference Reinforcement Learning* (arXiv 2605.18721). Only the abstract and third
parties' summaries were available. They give: group means of every block's pairwise scores; (x − mean)/std per block
within the group; the eigenvalues as weights; GRPO's clipped objective; and a monitor. The monitor measures the drift of
α, the blocks' shares of the variance, by its KL from the initial shares; on drift it re-weights the blocks and tightens
the trust region. NOT verified against the paper, but chosen here: λ is not divided by Σλ, the std is over K, the value
of ε, α is of λ-weighted scores, and the form of the correction in `drift_correction`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.losses.signals import group_advantages
from gpmjax.preference.inputs import float32_or_wider, require_same_shape
from gpmjax.preference.operator import rotate

# Smaller shares are raised to this one: with log 0, rounding noise would make the drift infinite.
SMALLEST_SHARE = 1e-6


def block_mean_scores(embedding: Float[Array, "*batch K dim"]) -> Float[jax.Array, "*batch K k"]:
    """Each block's mean score: ŝ_l(y_i) = 1/K Σ_j s_l(y_i ≻ y_j) = ⟨R v_i[l], v̄[l]⟩, v̄ the mean embedding.

    Weighted by the prompt's λ, the blocks' mean scores add up to ŝ: Σ_l λ_l ŝ_l(y_i) = `mean_score(pairwise_scores(v,
    λ))`_i.

    Args:
      embedding: v [..., K, 2k] of one prompt's K responses.
    Returns:
      [..., K, k] float32.
    Raises:
      ValueError: an odd last dimension.

    >>> block_mean_scores(jnp.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
    [[0.5], [-0.5]]
    """
    rotated = rotate(embedding)
    products = rotated * jnp.mean(float32_or_wider(embedding), axis=-2, keepdims=True)
    return jnp.sum(products.reshape(*rotated.shape[:-1], -1, 2), axis=-1)


def block_advantages(
    embedding: Float[Array, "*batch K dim"],
    scale: Float[Array, "*batch k"] | None = None,
    *,
    multiplier: Float[Array, "k"] | None = None,
    epsilon: float = 1e-4,
) -> Float[jax.Array, "*batch K"]:
    """GPRL's advantages: A_i = Σ_l m_l λ_l (ŝ_l(y_i) − mean)/(std + ε), every block on its own scale.

    With one block this is GRPO's advantage of ŝ, times λ. Blocks that disagree cancel, whatever the size of their
    scores.

    Args:
      embedding: v [..., K, 2k].
      scale: the prompt's λ ≥ 0 [..., k]; None is λ = 1/k, which keeps A of order 1 as a softmax gate does.
      multiplier: m [k] from `drift_correction`; None is 1.
      epsilon: ε, added to a block's std; a block in which all K scores are equal then gives 0.
    Returns:
      [..., K] float32, of mean 0.
    Raises:
      ValueError: shapes that do not fit.
    Source: arXiv 2605.18721, with the reservations in the module's docstring.

    >>> block_advantages(jnp.array([[1.0, 0.0], [0.0, 1.0]])).round(2).tolist()
    [1.0, -1.0]
    """
    scores = block_mean_scores(embedding)
    normalised = group_advantages(scores.swapaxes(-1, -2), epsilon=epsilon)  # [..., k, K]
    weight = _weights(scores, scale)
    if multiplier is not None:
        multiplier = float32_or_wider(multiplier)
        require_same_shape(multiplier=multiplier, block=weight.reshape(-1, weight.shape[-1])[0])
        weight = weight * jnp.broadcast_to(multiplier, weight.shape)
    return jnp.sum(weight[..., None] * normalised, axis=-2)


def block_shares(
    embedding: Float[Array, "*batch K dim"], scale: Float[Array, "*batch k"] | None = None
) -> Float[jax.Array, "k"]:
    """Each block's share of the variance among the policy's responses: α_l = Var_l/Σ Var, over the batch.

    Var_l is the variance of λ_l ŝ_l within groups. A share that grows while the policy trains shows that responses
    differ more and more in one block only.

    Args: as for `block_advantages`.
    Returns:
      α [k] float32, of sum 1; 1/k each where no block varies.

    >>> block_shares(jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    scores = block_mean_scores(embedding)
    weighted = scores * _weights(scores, scale)[..., None, :]
    variance = jnp.mean(jnp.var(weighted, axis=-2).reshape(-1, scores.shape[-1]), axis=0)
    total = jnp.sum(variance)
    return jnp.where(total > 0, variance / jnp.where(total > 0, total, 1.0), 1.0 / scores.shape[-1])


class DriftCorrection(NamedTuple):
    """The monitor's result: the measured drift, and the correction that it asks for."""

    drift: jax.Array
    """[]: KL(α‖α₀) in nats."""
    multiplier: jax.Array
    """m [k], of mean 1: the blocks' new weights."""
    tightening: jax.Array
    """[] ≥ 1: a factor for the KL penalty, or a divisor for the clip range."""


def drift_correction(
    shares: Float[Array, "k"], initial: Float[Array, "k"], *, threshold: float = 0.1, strength: float = 1.0
) -> DriftCorrection:
    """The monitor of drift, KL(α‖α₀): above a threshold, m_l ∝ (α₀_l/α_l)^c and tightening = 1 + c (drift − threshold).

    Below the threshold m = 1 and tightening = 1. `SMALLEST_SHARE` bounds the correction.

    Args:
      shares: the current α [k], from `block_shares`; an average over some steps is steadier.
      initial: α₀ at the start of training [k].
      threshold: drift that is tolerated, in nats.
      strength: c ≥ 0; with 0 the drift is only measured.
    Returns:
      `DriftCorrection`.
    Raises:
      ValueError: the shapes differ.

    >>> drift_correction(jnp.array([0.5, 0.5]), jnp.array([0.5, 0.5])).multiplier.tolist()
    [1.0, 1.0]
    """
    shares, initial = float32_or_wider(shares), float32_or_wider(initial)
    require_same_shape(shares=shares, initial=initial)
    log_ratio = jnp.log(jnp.maximum(shares, SMALLEST_SHARE)) - jnp.log(jnp.maximum(initial, SMALLEST_SHARE))
    drift = jnp.sum(shares * log_ratio)
    correction = jax.nn.softmax(-strength * log_ratio) * shares.shape[-1]
    drifted = drift > threshold
    tightening = 1 + strength * jnp.maximum(drift - threshold, 0.0)
    return DriftCorrection(drift, jnp.where(drifted, correction, 1.0), tightening)


def _weights(scores: jax.Array, scale: Array | None) -> jax.Array:
    """λ [..., k] for block scores [..., K, k]; 1/k each where ``scale`` is None."""
    blocks = scores[..., 0, :]
    if scale is None:
        return jnp.full_like(blocks, 1 / blocks.shape[-1])
    scale = float32_or_wider(scale)
    require_same_shape(scale=scale, blocks=blocks)
    return scale
