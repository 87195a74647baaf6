"""From a model's output to scores, of labelled pairs and of all pairs at once.

Embeddings and rewards belong to one response each. A pairwise model's values belong to ordered pairs: r(i, j) is that
of i read first.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gpmjax.arrays import Array, Comparisons, ordered_pairs
from gpmjax.preference.score import bradley_terry_score, pairwise_rewards, pairwise_scores, score


class PreferenceOutput(NamedTuple):
    """The heads' output for R responses; float32."""

    embedding: Array
    """[..., R, dim]: v, Bradley–Terry's reward (dim 1), or a hybrid's (r, 1, c): k + 1 blocks, the first for r."""
    scale: Array | None
    """[..., R, k]: the weight λ of each block, from the response's prompt. A hybrid's is (1, γ λ), k + 1 weights. None
    without a gate and for Bradley–Terry."""
    tau: Array
    """[]: the temperature of probabilities."""
    mass: Array | None = None
    """[..., R]: log-probability that the next token is one of the two verdicts; None without a verdict head."""
    reward: Array | None = None
    """[..., R]: r of Bradley–Terry models, verifiers and hybrids; None for models without a reward."""


class PairwiseOutput(NamedTuple):
    """A pairwise model's output for R ordered pairs, each of which is a "response" of its group; float32."""

    value: Array
    """[..., R]: r(first, second), the log-odds × τ that the first is better."""
    tau: Array
    mass: Array | None = None
    """As in PreferenceOutput."""


def verdict_log_odds(logits: Float[Array, "*batch V"], tokens: tuple[int, ...]) -> tuple[Array, Array]:
    """Log-odds log p(first)/p(second) and mass log(p(first) + p(second)) of two next tokens; [...] float32 each.

    A verifier's score is σ(log-odds) = exp(z_yes)/(exp(z_yes) + exp(z_no)), which does not depend on other tokens. The
    mass tells how probable the two verdicts are among all tokens: log p(first) = log σ(log-odds) + mass. Source: Zhang
    et al. 2024, arXiv 2402.07625 (LM-Score) and arXiv 2408.15240, equation 4.

    >>> odds, mass = verdict_log_odds(jnp.log(jnp.array([0.6, 0.2, 0.2])), (0, 2))
    >>> float(jax.nn.sigmoid(odds)), float(jnp.exp(mass))
    (0.75..., 0.8...)
    """
    both = logits[..., tokens]
    return both[..., 0] - both[..., 1], jax.nn.logsumexp(both, axis=-1) - jax.nn.logsumexp(logits, axis=-1)


def pair_scores(output: PreferenceOutput | PairwiseOutput, comparisons: Comparisons) -> Float[Array, "B C"]:
    """s(chosen ≻ rejected | prompt) of every comparison, not divided by τ.

    A pairwise model's score is the mean over both orders. A comparison whose two indices are equal was asked in one
    order only; its score is that of the question's first response over its second. Where a window cut one prompt
    differently for two responses, λ is the mean of their gates, which keeps s(i ≻ j) = −s(j ≻ i).
    """
    if isinstance(output, PairwiseOutput):
        first, second = order_values(output, comparisons)
        return jnp.where(_one_order(comparisons), first, (first - second) / 2)
    left, right = (_pick(output.embedding, side) for side in (comparisons.chosen, comparisons.rejected))
    if _is_reward(output):
        return bradley_terry_score(left[..., 0], right[..., 0])
    if output.scale is None:
        return score(left, right)
    gates = [_pick(output.scale, side) for side in (comparisons.chosen, comparisons.rejected)]
    return score(left, right, (gates[0] + gates[1]) / 2)


def cyclic_scores(output: PreferenceOutput, comparisons: Comparisons) -> Float[Array, "B C"]:
    """The cyclic part of a hybrid's s(chosen ≻ rejected | prompt), γ Σ_l λ_l ⟨R c_i[l], c_j[l]⟩.

    `pair_scores` is this plus the difference of the rewards.
    """
    assert output.scale is not None  # a hybrid has one
    cyclic = output._replace(embedding=output.embedding[..., 2:], scale=output.scale[..., 1:])
    return pair_scores(cyclic, comparisons)


def order_matrix(value: Float[Array, "*batch R"]) -> Float[Array, "*batch K K"]:
    """The matrix r(i, j) of K responses, from the values of their R = K(K − 1) ``ordered_pairs``; 0 for i = j.

    >>> order_matrix(jnp.array([0.5, -0.25])).tolist()
    [[0.0, 0.5], [-0.25, 0.0]]
    """
    count = (1 + math.isqrt(1 + 4 * value.shape[-1])) // 2
    first, second = np.array(ordered_pairs(count), np.int32).reshape(-1, 2).T
    return jnp.zeros((*value.shape[:-1], count, count), value.dtype).at[..., first, second].set(value)


def group_scores(output: PreferenceOutput | PairwiseOutput) -> Float[Array, "*batch R R"]:
    """s(i ≻ j) of every ordered pair of a row's responses; between different prompts it has no meaning.

    A pairwise model must have been asked about every ordered pair (``order_matrix``).

    >>> rewards = PreferenceOutput(jnp.array([[2.0], [0.5]]), None, jnp.float32(1))
    >>> group_scores(rewards).tolist()
    [[0.0, 1.5], [-1.5, 0.0]]
    """
    if isinstance(output, PairwiseOutput):
        asked = order_matrix(output.value)
        return (asked - asked.mT) / 2
    if _is_reward(output):
        return pairwise_rewards(output.embedding[..., 0])
    return pairwise_scores(output.embedding, output.scale)


def prompt_scale(scale: Float[np.ndarray, "*batch R k"]) -> Float[np.ndarray, "*batch k"]:
    """λ of the prompt that R responses share: the mean of their gates where a window cut it differently.

    >>> prompt_scale(np.array([[0.25, 0.5], [0.25, 0.5]])), prompt_scale(np.array([[0.0, 1.0], [1.0, 0.0]]))
    (array([0.25, 0.5 ]), array([0.5, 0.5]))
    """
    first = scale[..., 0, :]
    same = np.all(scale == first[..., None, :], axis=(-2, -1))[..., None]
    return np.where(same, first, scale.mean(axis=-2, dtype=scale.dtype))


def order_values(output: PairwiseOutput, comparisons: Comparisons) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """r(chosen, rejected) and r(rejected, chosen) of every comparison; r(i, j) = −r(j, i) if the order is ignored."""
    return _pick(output.value, comparisons.chosen), _pick(output.value, comparisons.rejected)


def _pick(values: Array, index: Array) -> Array:
    """values[index] of every row: [B, R, ...] and [B, C] → [B, C, ...]."""
    return jax.vmap(lambda row, at: row[at])(values, jnp.asarray(index))


def _one_order(comparisons: Comparisons) -> Array:
    return jnp.asarray(comparisons.chosen) == jnp.asarray(comparisons.rejected)


def _is_reward(output: PreferenceOutput) -> bool:
    # A single number per response is a reward: preference embeddings have an even number of entries.
    return output.embedding.shape[-1] == 1
