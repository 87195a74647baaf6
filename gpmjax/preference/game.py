"""A K×K score matrix as a two-player game: its equilibrium, how far a policy is from it, and how cyclic it is.

Both players choose one of K responses, and i against j earns S_ij = s(i ≻ j). As S is skew-symmetric, no mixed policy
can guarantee more than 0, and the von Neumann winner p guarantees 0: (pᵀS)_j ≥ 0 against every j. Win rates make the
same game after subtracting ½, with values between −½ and ½: pass P − ½. Scores and win rates have different winners in
general, since a clear loss weighs more in log-odds.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import float32_or_wider, require_same_shape, require_square
from gpmjax.preference.interior_point import equilibrium

_equilibria = jax.jit(jax.vmap(equilibrium))


def von_neumann_winner(scores: Float[Array, "*batch K K"]) -> Float[jax.Array, "*batch K"]:
    """The mixed policy that no response beats: p ∈ argmax_p min_j (pᵀS)_j, in social choice the maximal lottery.

    If there are many, the result is the most central one: responses with equal scores get equal shares.

    The function is batched and compiled, in a fixed number of K×K solves (see `interior_point`); it is meant for K up
    to a few dozen.

    Args:
      scores: skew-symmetric S [..., K, K]; of any other matrix, the skew part ½(S − Sᵀ) is played.
    Returns:
      [..., K] float32 probabilities. The error is `exploitability(p, scores)`: about 1e-6 of the largest score, and 0
      where one response beats all others.
    Raises:
      ValueError: scores are not square, or K is 0.
    Source: arXiv 2410.02197, equation (5.4) and the definition below it; Fishburn 1984, *Probabilistic social choice
      based on simple voting comparisons*.

    >>> rock_paper_scissors = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    >>> von_neumann_winner(rock_paper_scissors).round(3).tolist()
    [0.333..., 0.333..., 0.333...]
    """
    scores = float32_or_wider(scores)
    require_square("scores", scores)
    if scores.shape[-1] == 0:
        raise ValueError("scores [..., 0, 0] must have at least one response")
    scores = (scores - scores.mT) / 2
    largest = jnp.max(jnp.abs(scores), axis=(-2, -1), keepdims=True)
    game = scores / jnp.where(largest > 0, largest, 1.0)
    flat = game.reshape(-1, *game.shape[-2:])
    return _equilibria(flat).reshape(game.shape[:-1])


def exploitability(policy: Float[Array, "*batch K"], scores: Float[Array, "*batch K K"]) -> Float[jax.Array, "*batch"]:
    """The gain of the best response to a policy: max_j s(j ≻ p) − s(p ≻ p) = max_j (S p)_j − pᵀS p.

    Args:
      policy: probabilities [..., K].
      scores: S [..., K, K], or P − ½.
    Returns:
      [...] float32 ≥ 0, in the units of the scores; 0 exactly at an equilibrium. The duality gap of a skew-symmetric
      game in which both players use p is twice the exploitability.
    Raises:
      ValueError: shapes that do not fit.

    >>> exploitability(jnp.array([1.0, 0.0]), jnp.array([[0.0, -2.0], [2.0, 0.0]])).item()
    2.0
    """
    policy, scores = float32_or_wider(policy), float32_or_wider(scores)
    require_square("scores", scores)
    require_same_shape(policy=policy, row_of_scores=scores[..., 0])
    gains = jnp.einsum("...jk,...k->...j", scores, policy, precision=jax.lax.Precision.HIGHEST)
    return jnp.max(gains, axis=-1) - jnp.sum(policy * gains, axis=-1)


def best_of(
    scores: Float[Array, "*batch K K"], rule: Literal["maximal_lottery", "copeland", "mean_score"] = "maximal_lottery"
) -> Float[jax.Array, "*batch K"]:
    """Best of K when preferences may be cyclic, as a lottery over the K responses: draw from it, or take its mode.

        "maximal_lottery"  the von Neumann winner: no response is preferred to a draw from it, on average
        "copeland"         the response that beats most others, whatever the margins; a tie counts ½
        "mean_score"       the highest ŝ, as GPO ranks; under Bradley–Terry the highest reward

    A response that beats all others by equal scores or more wins under each rule; on a cycle the rules may differ.
    "copeland" and "mean_score" divide equally among the responses that share the first place.

    Args:
      scores: S [..., K, K].
      rule: as above.
    Returns:
      [..., K] float32 probabilities.
    Raises:
      ValueError: scores are not square, or the rule is unknown.

    >>> best_of(jnp.array([[0.0, 1.0], [-1.0, 0.0]]), "copeland").tolist()
    [1.0, 0.0]
    """
    scores = float32_or_wider(scores)
    require_square("scores", scores)
    if rule == "maximal_lottery":
        return von_neumann_winner(scores)
    if rule == "copeland":
        return _share_the_first_place(jnp.sum(jnp.sign(scores), axis=-1))
    if rule == "mean_score":
        return _share_the_first_place(jnp.mean(scores, axis=-1))
    raise ValueError(f"rule {rule!r} must be 'maximal_lottery', 'copeland' or 'mean_score'")


def cyclic_share(scores: Float[Array, "*batch K K"]) -> Float[jax.Array, "*batch"]:
    """The share of triads of responses that are cycles, i ≻ j ≻ k ≻ i. A triad with a tie is not a cycle.

    The share is at most (K+1)/(4(K−2)) for odd K ≥ 3 (1 for K = 3, ½ for K = 5); for random preferences it is ¼ on
    average.

    Args:
      scores: S [..., K, K].
    Returns:
      [...] float32 in [0, 1]; 0 for K < 3. Exact while counts are below 2²⁴, thus up to K = 256 and beyond.
    Raises:
      ValueError: scores are not square.
    Source: Kendall and Babington Smith 1940, *On the method of paired comparisons*.

    >>> cyclic_share(jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])).item()
    1.0
    """
    scores = float32_or_wider(scores)
    require_square("scores", scores)
    K = scores.shape[-1]
    # The diagonal may be a rounding error above 0, but no response beats itself.
    others = jnp.broadcast_to(~jnp.eye(K, dtype=bool), scores.shape)
    beats = ((scores > 0) & others).astype(jnp.float32)
    two_steps = jnp.matmul(beats, beats, precision=jax.lax.Precision.HIGHEST)
    cycles = jnp.sum(two_steps * beats.mT, axis=(-2, -1)) / 3  # each cycle is counted once per corner
    return cycles / max(K * (K - 1) * (K - 2) // 6, 1)


def hodge_decomposition(
    scores: Float[Array, "*batch K K"],
) -> tuple[Float[jax.Array, "*batch K K"], Float[jax.Array, "*batch K K"]]:
    """S = T + C: the transitive part that rewards explain, T_ij = r_i − r_j with r = ŝ, and the cyclic rest.

    No other Bradley–Terry matrix is closer to S than T in squared error, C sums to 0 in each row, and ⟨T, C⟩ = 0. This
    is the Hodge decomposition on a complete graph.

    Args:
      scores: skew-symmetric S [..., K, K].
    Returns:
      (T, C), each [..., K, K].
    Raises:
      ValueError: scores are not square.
    Source: Jiang et al. 2011, *Statistical ranking and combinatorial Hodge theory*, for complete graphs.

    >>> transitive, cyclic = hodge_decomposition(jnp.array([[0.0, 1.0], [-1.0, 0.0]]))
    >>> cyclic.tolist()  # two responses have no cycle
    [[0.0, 0.0], [0.0, 0.0]]
    """
    scores = float32_or_wider(scores)
    require_square("scores", scores)
    reward = jnp.mean(scores, axis=-1)
    transitive = reward[..., :, None] - reward[..., None, :]
    return transitive, scores - transitive


def decompose(scores: Float[Array, "*batch K K"]) -> tuple[Float[jax.Array, "*batch"], Float[jax.Array, "*batch"]]:
    """The energies (‖T‖², ‖C‖²) of the two parts of `hodge_decomposition`; they add up to ‖S‖², Σ of squared scores.

    Returns two arrays [...] float32. The cyclic share of energy is the second over the sum.

    >>> [part.item() for part in decompose(jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]))]
    [0.0, 6.0]
    """
    transitive, cyclic = hodge_decomposition(scores)
    return jnp.sum(jnp.square(transitive), axis=(-2, -1)), jnp.sum(jnp.square(cyclic), axis=(-2, -1))


def _share_the_first_place(points: jax.Array) -> jax.Array:
    first = (points == jnp.max(points, axis=-1, keepdims=True)).astype(jnp.float32)
    return first / jnp.sum(first, axis=-1, keepdims=True)
