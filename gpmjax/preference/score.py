"""Scores and win probabilities, of two items and of all pairs of K items at once.

Bradley–Terry, at the end, is the case of a single number per item, a reward. It is also the case of a 2-d embedding
whose second number is constant.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import (
    float32_or_wider,
    require_broadcastable,
    require_same_shape,
    require_scalar_or_shape_of,
)
from gpmjax.preference.operator import rotate, scale_blocks


def score(
    left: Float[Array, "*#batch dim"], right: Float[Array, "*#batch dim"], scale: Float[Array, "..."] | None = None
) -> Float[jax.Array, "..."]:
    """How much left is preferred to right: s(i ≻ j) = ⟨R D v_i, D v_j⟩ = Σ_l λ_l (a_il b_jl − b_il a_jl).

    Args:
      left: embeddings v_i [..., 2k].
      right: embeddings v_j [..., 2k], with as many axes as left; axes of size 1 broadcast.
      scale: the prompt's λ ≥ 0 [..., k], with as many axes as the embeddings, or [k] for all; None is λ = 1.
    Returns:
      [...] float32, in the units of ‖v‖²; at most ‖D v_i‖‖D v_j‖ in magnitude.
    Raises:
      ValueError: an odd last dimension, or shapes that do not fit.
    Source: arXiv 2410.02197, Definition 4.3, equation (4.2); D is the eigenvalue scale gate.

    >>> a, b = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    >>> float(score(a, b)), float(score(b, a)), float(score(a, b, scale=jnp.array([3.0])))
    (1.0, -1.0, 3.0)
    """
    left, right = float32_or_wider(left), float32_or_wider(right)
    require_broadcastable(left=left, right=right)
    return jnp.sum(rotate(_gated(left, scale)) * right, axis=-1)


def pairwise_scores(
    v: Float[Array, "*batch K dim"], scale: Float[Array, "..."] | None = None
) -> Float[jax.Array, "*batch K K"]:
    """All scores of K items in one product: S_ij = s(i ≻ j) = ⟨R D² v_i, v_j⟩. K embeddings serve all K(K−1) pairs.

    Args:
      v: embeddings [..., K, 2k].
      scale: the prompt's λ ≥ 0, which the K items share: [..., k], or [k] for all. With one per item, [..., K, k],
        S_ij uses the mean of the i-th and the j-th. None is λ = 1.
    Returns:
      [..., K, K] float32, skew-symmetric.
    Raises:
      ValueError: an odd last dimension, or shapes that do not fit.

    >>> rock_paper_scissors = jnp.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    >>> jnp.sign(pairwise_scores(rock_paper_scissors).round(3)).tolist()
    [[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]
    """
    v = float32_or_wider(v)
    if v.ndim < 2:
        raise ValueError(f"embeddings {list(v.shape)} must be [..., K, 2k]: K items of one prompt")
    one_each = scale is not None and jnp.ndim(scale) == v.ndim
    if scale is not None and jnp.ndim(scale) == v.ndim - 1:
        scale = jnp.expand_dims(scale, -2)
    # TPUs round operands to bfloat16 by default. Full precision costs little beside the backbone.
    scores = jnp.einsum("...id,...jd->...ij", rotate(_gated(v, scale)), v, precision=jax.lax.Precision.HIGHEST)
    return (scores - scores.mT) / 2 if one_each else scores


def win_probability(
    score: Float[Array, "*batch"], tau: float | Float[Array, "..."] = 1.0
) -> Float[jax.Array, "*batch"]:
    """Probability that the left item is preferred: P(i ≻ j) = σ(s(i ≻ j) / τ).

    Args:
      score: [...].
      tau: temperature > 0, a scalar or [...]; 0.1 for unit-length embeddings, 1 for Bradley–Terry.
    Returns:
      [...] in [0, 1].
    Raises:
      ValueError: tau is an array of another shape than score.
    Source: arXiv 2410.02197, equation (3.3), with a temperature.

    >>> float(win_probability(jnp.array(0.0), tau=0.1))
    0.5
    """
    score, tau = float32_or_wider(score), float32_or_wider(tau)
    require_scalar_or_shape_of("score", score, tau=tau)
    return jax.nn.sigmoid(score / tau)


def bradley_terry_score(left: Float[Array, "*batch"], right: Float[Array, "..."]) -> Float[jax.Array, "*batch"]:
    """The scalar case: s(i ≻ j) = r_i − r_j.

    Args:
      left: rewards r_i [...].
      right: rewards r_j, of the same shape; nothing is broadcast.
    Returns:
      [...].
    Raises:
      ValueError: the shapes differ.

    >>> float(bradley_terry_score(jnp.array(3.0), jnp.array(1.0)))
    2.0
    """
    left, right = float32_or_wider(left), float32_or_wider(right)
    require_same_shape(left=left, right=right)
    return left - right


def pairwise_rewards(reward: Float[Array, "*batch K"]) -> Float[jax.Array, "*batch K K"]:
    """All Bradley–Terry scores of K items: S_ij = r_i − r_j. [..., K] → [..., K, K].

    >>> pairwise_rewards(jnp.array([2.0, 1.0])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    reward = float32_or_wider(reward)
    return reward[..., :, None] - reward[..., None, :]


def bt_embedding(reward: Float[Array, "*batch"], c: float = 1.0) -> Float[jax.Array, "*batch 2"]:
    """The 2-d embedding v = [r, c] whose scores are Bradley–Terry's: ⟨R v_i, v_j⟩ = c (r_i − r_j).

    All items lie on a line that misses the origin, so preferences have no cycles. With this R the sign of the score is
    that of c: c = 1 gives the differences of the rewards, c < 0 would reverse every preference.

    Args:
      reward: [...].
      c: the constant, not 0.
    Returns:
      [..., 2].
    Raises:
      ValueError: c is 0, so that every score would be 0.
    Source: arXiv 2410.02197, Section 4, relation to the Bradley–Terry model.

    >>> v = bt_embedding(jnp.array([3.0, 1.0]))
    >>> float(score(v[0], v[1]))
    2.0
    """
    if c == 0:
        raise ValueError("c=0: must not be 0, every score would be 0")
    reward = float32_or_wider(reward)
    return jnp.stack([reward, jnp.full_like(reward, c)], axis=-1)


def _gated(v: jax.Array, scale: Array | None) -> jax.Array:
    # λ on one side gives the same score as √λ on both sides, and its gradient is finite at λ = 0.
    return v if scale is None else scale_blocks(v, scale)
