"""From what a model reads off its responses to scores: of labelled pairs, and of all pairs at once.

Embeddings and rewards are of one response each; a pairwise model's values are of ordered pairs, r(i, j) of "i read first".
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
    """What the heads say of R responses; float32."""

    embedding: Array
    """[..., R, dim]: v, or Bradley–Terry's reward (dim 1). A hybrid's is (r, 1, c), k + 1 blocks of which the first is the reward."""
    scale: Array | None
    """[..., R, k]: the weight λ of each block, by the response's prompt; None without a gate and for Bradley–Terry. A hybrid's is
    (1, γ λ), k + 1 weights."""
    tau: Array
    """[]: temperature of the probability."""
    mass: Array | None = None
    """[..., R]: log-probability that the next token is one of the two verdicts; None for other heads."""
    reward: Array | None = None
    """[..., R]: r of Bradley–Terry models, verifiers and hybrids; None for models that have no reward of a single response."""


class PairwiseOutput(NamedTuple):
    """What a pairwise model says of R ordered pairs, each a "response" of its group; float32."""

    value: Array
    """[..., R]: r(first, second), the log-odds × τ that the first is better."""
    tau: Array
    mass: Array | None = None
    """As in PreferenceOutput."""


def verdict_log_odds(logits: Float[Array, "*batch V"], tokens: tuple[int, ...]) -> tuple[Array, Array]:
    """(log p(first)/p(second), log(p(first) + p(second))) of two next tokens, each [...] float32.

    A verifier's score is σ of the former: exp(z_yes)/(exp(z_yes) + exp(z_no)), whatever other tokens the model would say.
    The latter tells how much it would; log p(first) = log σ(log-odds) + mass.
    Source: Zhang et al. 2024, arXiv 2402.07625 (LM-Score) and arXiv 2408.15240, equation 4.

    >>> odds, mass = verdict_log_odds(jnp.log(jnp.array([0.6, 0.2, 0.2])), (0, 2))
    >>> float(jax.nn.sigmoid(odds)), float(jnp.exp(mass))
    (0.75..., 0.8...)
    """
    both = logits[..., tokens]
    return both[..., 0] - both[..., 1], jax.nn.logsumexp(both, axis=-1) - jax.nn.logsumexp(logits, axis=-1)


def pair_scores(output: PreferenceOutput | PairwiseOutput, comparisons: Comparisons) -> Float[Array, "B C"]:
    """s(chosen ≻ rejected | prompt) of every comparison, not yet divided by τ.

    A pairwise model's are the mean over both orders; where a comparison names one question twice, it was asked in that order
    alone, and the score is that of the question's first response over its second. Where a window cut one prompt differently
    beside two responses, λ is the mean of their gates, which keeps s(i ≻ j) = −s(j ≻ i).
    """
    pick = jax.vmap(lambda values, index: values[index])
    if isinstance(output, PairwiseOutput):
        first, second = order_values(output, comparisons)
        return jnp.where(_one_order(comparisons), first, (first - second) / 2)
    left, right = (pick(output.embedding, jnp.asarray(side)) for side in (comparisons.chosen, comparisons.rejected))
    if _is_reward(output):
        return bradley_terry_score(left[..., 0], right[..., 0])
    if output.scale is None:
        return score(left, right)
    gates = [pick(output.scale, jnp.asarray(side)) for side in (comparisons.chosen, comparisons.rejected)]
    return score(left, right, (gates[0] + gates[1]) / 2)


def cyclic_scores(output: PreferenceOutput, comparisons: Comparisons) -> Float[Array, "B C"]:
    """The cyclic part of a hybrid's s(chosen ≻ rejected | prompt), γ Σ_l λ_l ⟨R c_i[l], c_j[l]⟩; with the reward's difference it is
    `pair_scores`."""
    cyclic = output._replace(embedding=output.embedding[..., 2:], scale=output.scale[..., 1:])
    return pair_scores(cyclic, comparisons)


def order_matrix(value: Float[Array, "*batch R"]) -> Float[Array, "*batch K K"]:
    """r(i, j) of K responses, whose R = K(K − 1) ordered pairs were asked about in the order of ``ordered_pairs``; 0 for i = j.

    >>> order_matrix(jnp.array([0.5, -0.25])).tolist()
    [[0.0, 0.5], [-0.25, 0.0]]
    """
    count = (1 + math.isqrt(1 + 4 * value.shape[-1])) // 2
    first, second = np.array(ordered_pairs(count), np.int32).reshape(-1, 2).T
    return jnp.zeros((*value.shape[:-1], count, count), value.dtype).at[..., first, second].set(value)


def group_scores(output: PreferenceOutput | PairwiseOutput) -> Float[Array, "*batch R R"]:
    """s(i ≻ j) of every ordered pair of a row's responses; between responses of different prompts it has no meaning.

    A pairwise model must have been asked about every ordered pair, see ``order_matrix``.

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
    """λ of the prompt that R responses share; the mean of their gates where a window cut it differently beside them.

    >>> prompt_scale(np.array([[0.25, 0.5], [0.25, 0.5]])), prompt_scale(np.array([[0.0, 1.0], [1.0, 0.0]]))
    (array([0.25, 0.5 ]), array([0.5, 0.5]))
    """
    first = scale[..., 0, :]
    same = np.all(scale == first[..., None, :], axis=(-2, -1))[..., None]
    return np.where(same, first, scale.mean(axis=-2, dtype=scale.dtype))


def order_values(output: PairwiseOutput, comparisons: Comparisons) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """r(chosen, rejected) and r(rejected, chosen) of every comparison. A model that ignores the order has r(i, j) = −r(j, i)."""
    pick = jax.vmap(lambda values, index: values[index])
    return pick(output.value, jnp.asarray(comparisons.chosen)), pick(output.value, jnp.asarray(comparisons.rejected))


def _one_order(comparisons: Comparisons) -> Array:
    return jnp.asarray(comparisons.chosen) == jnp.asarray(comparisons.rejected)


def _is_reward(output: PreferenceOutput) -> bool:
    # One number per response is a reward; preference embeddings have an even count.
    return output.embedding.shape[-1] == 1
