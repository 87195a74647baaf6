"""How policies move when they train against themselves: exact updates on a known game, without sampling or networks.

With gains g(p) = S p and a step size η, one update in log-probabilities (then normalised) is

    "multiplicative_weights"   log p + η g(p)                          what GPO and SPPO do with β = 1/η
    "extragradient"            log p + η g(p′),  p′ ∝ p exp(η g(p))    looks one step ahead
    "magnetic"                 (log p + η g(p) + ηα log m)/(1 + ηα)    pulled towards a magnet m with strength α

Round a cycle the first spirals outwards: only the average of its policies approaches the equilibrium, while the policy
itself, which is what one is left with, gets ever more exploitable. The second converges for small η. The third
converges fast, to the equilibrium of the game regularised by α KL(·‖m), which is the game's own when m is.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import float32_or_wider, require_same_shape, require_square

Rule = Literal["multiplicative_weights", "extragradient", "magnetic"]


def self_play(
    scores: Float[Array, "*batch K K"],
    start: Float[Array, "*batch K"],
    *,
    rule: Rule,
    step_size: float,
    steps: int,
    magnet: Float[Array, "*batch K"] | None = None,
    strength: float = 0.0,
) -> Float[jax.Array, "steps_and_start *batch K"]:
    """The policies of a player that trains against itself, from the start on.

    Args:
      scores: S [..., K, K], or P − ½.
      start: probabilities [..., K], all > 0: what has none never gets any.
      rule: see the module's docstring.
      step_size: η > 0, per unit of score.
      steps: how many updates.
      magnet: m [..., K] for "magnetic", all > 0; None is the start.
      strength: α ≥ 0 for "magnetic".
    Returns:
      [steps + 1, ..., K] float32 probabilities, the start first.
    Raises:
      ValueError: shapes that do not fit, an unknown rule, or a strength without "magnetic".
    Source: Freund and Schapire 1999 (multiplicative weights); Korpelevich 1976 (extragradient); Sokota et al. 2022
      (arXiv 2206.05825, magnetic mirror descent).

    >>> rock_paper_scissors = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    >>> start = jnp.array([0.6, 0.3, 0.1])
    >>> path = self_play(rock_paper_scissors, start, rule="extragradient", step_size=0.3, steps=500)
    >>> bool(jnp.allclose(path[-1], 1 / 3, atol=0.01))
    True
    """
    scores, start = float32_or_wider(scores), float32_or_wider(start)
    magnet = start if magnet is None else float32_or_wider(magnet)
    require_square("scores", scores)
    require_same_shape(start=start, magnet=magnet, row_of_scores=scores[..., 0])
    if strength and rule != "magnetic":
        raise ValueError(f"strength {strength} must be 0 with rule {rule!r}: only 'magnetic' has a magnet")
    log_magnet = jnp.log(magnet)

    def gains(log_p: jax.Array) -> jax.Array:
        return jnp.einsum("...jk,...k->...j", scores, jnp.exp(log_p), precision=jax.lax.Precision.HIGHEST)

    def step(log_p: jax.Array) -> jax.Array:
        moved = log_p + step_size * gains(log_p)
        if rule == "multiplicative_weights":
            return moved
        if rule == "extragradient":
            return log_p + step_size * gains(jax.nn.log_softmax(moved))
        if rule == "magnetic":
            return (moved + step_size * strength * log_magnet) / (1 + step_size * strength)
        raise ValueError(f"rule {rule!r} must be 'multiplicative_weights', 'extragradient' or 'magnetic'")

    def update(log_p: jax.Array, _):
        log_p = jax.nn.log_softmax(step(log_p))
        return log_p, log_p

    first = jax.nn.log_softmax(jnp.log(start))
    _, rest = jax.lax.scan(update, first, length=steps)
    return jnp.exp(jnp.concatenate([first[None], rest]))
