"""A reward and a cyclic part in one score, and the split of any score into the two.

    s(i ≻ j | x) = (r_i − r_j) + γ Σ_l λ_l(x) ⟨R c_i[l], c_j[l]⟩

With c = 0 the score is Bradley–Terry's; with r = 0 it is a general preference model's. A reward difference is itself a
block of a general preference model, whose second number is the constant 1 (`score.bt_embedding`). So a hybrid model is
a general preference model of k + 1 blocks, and all code that reads embeddings can read hybrid ones:

    v_i = (r_i, 1, c_i[1], …, c_i[k])       λ = (1, γ λ_1, …, γ λ_k)

The split is an identity. For weights w_i ≥ 0 with Σ w_i = 1 over a prompt's K responses, and the mean v̄ = Σ w_i v_i,

    s_ij = (f_i − f_j) + ⟨R (v_i − v̄), v_j − v̄⟩,      f_i = ⟨R v_i, v̄⟩.

The first part is a reward. The second part, the *curl*, is what no reward explains. The two parts are orthogonal over
the pairs weighted by w_i w_j: they are the Hodge decomposition of the scores.

Sources: Balduzzi et al. 2018 (arXiv 1806.02643, mElo2k); Chen and Joachims 2016 (the blade-chest model with bias);
arXiv 2605.17342 (Hybrid Reward–Cyclic); Jiang et al. 2011 (HodgeRank).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import float32_or_wider, require_same_shape
from gpmjax.preference.operator import rotate, scale_blocks
from gpmjax.preference.score import bt_embedding


def hybrid_embedding(
    reward: Float[Array, "*batch"], cyclic: Float[Array, "*batch dim"]
) -> Float[jax.Array, "*batch out"]:
    """The embedding v = (r, 1, c) of k + 1 blocks, whose score is a reward difference plus a cyclic score.

    Args:
      reward: r [...].
      cyclic: c [..., 2k].
    Returns:
      [..., 2k + 2].
    Raises:
      ValueError: the leading shapes differ.

    >>> hybrid_embedding(jnp.array(3.0), jnp.array([5.0, 6.0])).tolist()
    [3.0, 1.0, 5.0, 6.0]
    """
    reward, cyclic = float32_or_wider(reward), float32_or_wider(cyclic)
    require_same_shape(reward=reward, cyclic=cyclic[..., 0])
    return jnp.concatenate([bt_embedding(reward), cyclic], axis=-1)


def hybrid_scale(
    scale: Float[Array, "*batch k"] | None, gamma: float | Float[Array, ""], shape: tuple[int, ...] = ()
) -> Float[jax.Array, "*batch out"]:
    """The weights of the k + 1 blocks of a hybrid embedding: (1, γ λ_1, …, γ λ_k).

    Args:
      scale: the prompt's λ ≥ 0 [..., k]; None is λ = 1.
      gamma: γ ≥ 0, the weight of the cyclic part.
      shape: [..., k], the shape of λ where ``scale`` is None.
    Returns:
      [..., k + 1].

    >>> hybrid_scale(jnp.array([2.0, 4.0]), 0.5).tolist()
    [1.0, 1.0, 2.0]
    """
    scale = jnp.ones(shape) if scale is None else float32_or_wider(scale)
    return jnp.concatenate([jnp.ones_like(scale[..., :1]), jnp.asarray(gamma, scale.dtype) * scale], axis=-1)


def reward_within(
    v: Float[Array, "*batch K dim"],
    scale: Float[Array, "*batch k"] | None = None,
    weight: Float[Array, "*batch K"] | None = None,
) -> Float[jax.Array, "*batch K"]:
    """The rewards within a general preference model's scores of K responses: f_i = ⟨R D² v_i, v̄⟩, the mean score of i.

    Args:
      v: embeddings [..., K, 2k] of one prompt's responses.
      scale: the prompt's λ ≥ 0 [..., k]; None is λ = 1.
      weight: w ≥ 0 [..., K], normalised here; None is 1/K each.
    Returns:
      [..., K]. No other rewards' differences are nearer to the scores, in squared error over pairs weighted by w_i w_j.
    Source: Jiang et al. 2011; with weights, the identity in the module's docstring.

    >>> reward_within(jnp.array([[3.0, 1.0], [1.0, 1.0]])).tolist()  # rewards 3 and 1
    [1.0, -1.0]
    """
    v = _responses(v)
    mean = _mean(v, weight)
    return jnp.einsum("...kd,...d->...k", rotate(_scaled(v, scale)), mean, precision=jax.lax.Precision.HIGHEST)


def curl_scores(
    v: Float[Array, "*batch K dim"],
    scale: Float[Array, "*batch k"] | None = None,
    weight: Float[Array, "*batch K"] | None = None,
) -> Float[jax.Array, "*batch K K"]:
    """The curl of the scores of K responses, which no reward explains: ⟨R D² (v_i − v̄), v_j − v̄⟩.

    These are the scores of centred embeddings. Adding a reward to the scores does not change the curl. The curl of two
    responses is 0.

    Args: as for `reward_within`.
    Returns:
      [..., K, K], skew-symmetric; Σ_j w_j curl_ij = 0 for every i.

    >>> curl_scores(jnp.array([[3.0, 1.0], [1.0, 1.0], [0.0, 1.0]])).round(5).tolist()[0]  # rewards alone
    [0.0, 0.0, 0.0]
    """
    v = _responses(v)
    centred = v - _mean(v, weight)[..., None, :]
    turned = rotate(_scaled(centred, scale))
    return jnp.einsum("...id,...jd->...ij", turned, centred, precision=jax.lax.Precision.HIGHEST)


def curl_energy(
    v: Float[Array, "*batch K dim"],
    scale: Float[Array, "*batch k"] | None = None,
    weight: Float[Array, "*batch K"] | None = None,
) -> Float[jax.Array, "*batch"]:
    """The mean squared curl over all pairs of K responses, Σ_ij w_i w_j curl_ij² = tr(R D² Σ (R D²)ᵀ Σ).

    It is computed from the covariance of the embeddings, Σ = Σ_i w_i (v_i − v̄)(v_i − v̄)ᵀ, without the pairs; the cost
    is O(K k²).

    Args: as for `reward_within`.
    Returns:
      [...] ≥ 0, in squared units of the score.

    >>> triangle = jnp.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    >>> round(float(curl_energy(triangle)), 4)  # six of nine ordered pairs have the score ±√¾
    0.5
    """
    v = _responses(v)
    centred = v - _mean(v, weight)[..., None, :]
    weights = _weights(v, weight)
    exact = jax.lax.Precision.HIGHEST
    covariance = jnp.einsum("...k,...kd,...ke->...de", weights, centred, centred, precision=exact)
    # `rotate` and `_scaled` act on the last axis, that is on rows: first Σ (R D²)ᵀ, then (R D²) (Σ (R D²)ᵀ).
    right = rotate(_scaled(covariance, scale))
    both = rotate(_scaled(right.mT, scale)).mT
    return jnp.sum(both * covariance, axis=(-2, -1))


def _responses(v: Array) -> jax.Array:
    v = float32_or_wider(v)
    if v.ndim < 2:
        raise ValueError(f"embeddings {list(v.shape)} must be [..., K, 2k]: K responses of one prompt")
    return v


def _scaled(v: jax.Array, scale: Array | None) -> jax.Array:
    """D² v; all rows of v [..., K, 2k] share the prompt's λ [..., k]."""
    if scale is None:
        return v
    scale = float32_or_wider(scale)
    return scale_blocks(v, scale if scale.ndim == 1 else scale[..., None, :])


def _weights(v: jax.Array, weight: Array | None) -> jax.Array:
    if weight is None:
        return jnp.full(v.shape[:-1], 1 / v.shape[-2], v.dtype)
    weight = float32_or_wider(weight)
    require_same_shape(weight=weight, response=v[..., 0])
    return weight / jnp.sum(weight, axis=-1, keepdims=True)


def _mean(v: jax.Array, weight: Array | None) -> jax.Array:
    return jnp.einsum("...k,...kd->...d", _weights(v, weight), v, precision=jax.lax.Precision.HIGHEST)
