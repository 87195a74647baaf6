"""How policies move when they train against themselves: exact updates on a known game, without sampling or networks.

Notation: gains g(p) = S p, step size η, reference policy r, regularisation β (``strength``), mixture m = η β. Each rule
is an update of log-probabilities, which are then normalised.

    "multiplicative_weights"  log p + η g(p)                       GPO and SPPO, with η = 1/β of their losses
    "extragradient"           log p + η g(p′), p′ ∝ p exp(η g(p))  looks one step ahead
    "magnetic"                (log p + η g(p) + m log r)/(1 + m)   INPO with the step size η/(1 + m)
    "inpo"                    (1 − m) log p + m log r + η g(p)     INPO; with a moving reference, COMAL and MPO
    "nash_md"                 (1 − m) log p + m log r + η g(q), q ∝ p^{1−m} r^m
    "egpo"                    (1 − m) log p + m log r + η g(p′), p′ ∝ p^{1−m} r^m exp(η g(p))   EGPO, Nash mirror prox
    "optimistic"              (1 − m) log p + m log r + η (g(p) + (1 − m)(g(p) − g(previous p)))
                              EGPO that looks ahead by the last step's gains; with β = 0, optimistic multiplicative
                              weights

What theory guarantees on a skew-symmetric game, with L = max |S_ij| (tests check each guarantee):

* Multiplicative weights spiral outwards round a cycle. Only the average of their policies approaches the equilibrium.
* "inpo" and "egpo" converge to the regularised equilibrium p* ∝ r exp(g(p*)/β), and at every step
  KL(p*‖next p) ≤ (1 − m) KL(p*‖p). That holds for "inpo" if η ≤ β/(L² + β²), and for "egpo" if η²L² + ηβ ≤ 1,
  thus for η ≤ 1/(L + β). Both conditions follow from exact identities (q is the next policy, h is p′):

      inpo   KL(p*‖q) = (1 − m) KL(p*‖p) − m KL(q‖p*) − (1 − m) KL(q‖p) − η ⟨p* − q, S(p − q)⟩
      egpo   KL(p*‖q) = (1 − m) KL(p*‖p) − KL(q‖h) − (1 − m) KL(h‖p) − m KL(h‖p*) − η ⟨h − q, S(h − p)⟩

  Pinsker's inequality bounds each inner product by 2L times the root of the product of two of the divergences.
* "optimistic" is p_t = q_t exp(η (g(p_t) − g(p_{t−1}))) seen from its half steps: with p′ and q as above but p′ made by
  the gains of the half step before, KL(p*‖q_t) + (1 − 2ηL) KL(q_t‖p_t) shrinks by (1 − m) a step if ηL ≤ ¼ and m ≤ ½.
  For β = 0 the average policy's exploitability after n steps is at most (log(1/min start) + a constant)/(η n), and the
  policy itself converges if some equilibrium gives every response a share. * "nash_md" converges to another point, p ∝
  r exp(g(p^{1−m} r^m)/β), so KL(p*‖p) does not reach 0. * With "inpo", "magnetic", "egpo" or "optimistic" and a
  `reference_every` large enough, each new reference is (nearly) a proximal step of the game itself. So
  KL(equilibrium‖reference) does not grow, and the policy converges to an equilibrium without bias.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import float32_or_wider, require_same_shape, require_square

Rule = Literal["multiplicative_weights", "extragradient", "magnetic", "inpo", "nash_md", "egpo", "optimistic"]
WITH_REFERENCE = ("magnetic", "inpo", "nash_md", "egpo", "optimistic")
"""Rules that pull towards a reference policy."""


def self_play(
    scores: Float[Array, "*batch K K"],
    start: Float[Array, "*batch K"],
    *,
    rule: Rule,
    step_size: float | Sequence[float],
    steps: int,
    magnet: Float[Array, "*batch K"] | None = None,
    strength: float = 0.0,
    reference_every: int = 0,
) -> Float[jax.Array, "steps_and_start *batch K"]:
    """The sequence of policies of a player that trains against itself.

    Args:
      scores: S [..., K, K], or P − ½.
      start: probabilities [..., K], all > 0; a probability of 0 would stay 0.
      rule: see the module's docstring.
      step_size: η > 0, per unit of score; one number, or one for each step [steps].
      steps: how many updates.
      magnet: the reference policy r [..., K] of the rules that have one, all > 0; None is the start.
      strength: β ≥ 0, the strength of the pull towards the reference.
      reference_every: T ≥ 1: the current policy becomes the reference before every T-th update. 0: the reference stays.
    Returns:
      [steps + 1, ..., K] float32 probabilities, the start first; float64 for float64 scores.
    Raises:
      ValueError: shapes that do not fit, an unknown rule, a strength or a moving reference for a rule that has no
        reference, or η β > 1 for a rule in which that is a weight.
    Source: Freund and Schapire 1999 (multiplicative weights); Korpelevich 1976 (extragradient); Rakhlin and Sridharan
      2013, with regularisation arXiv 2105.15186, for preferences arXiv 2512.24818 (optimistic); Sokota et al. 2022
      (arXiv 2206.05825, magnetic mirror descent); arXiv 2407.00617 (INPO); arXiv 2312.00886 (Nash-MD); arXiv 2503.08942
      (EGPO); arXiv 2505.19731 (Nash mirror prox); arXiv 2410.23223 (COMAL) and arXiv 2410.16714 (MPO) for the moving
      reference.

    >>> rock_paper_scissors = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    >>> start = jnp.array([0.6, 0.3, 0.1])
    >>> comal = dict(rule="inpo", step_size=0.3, strength=0.5, reference_every=20)
    >>> path = self_play(rock_paper_scissors, start, steps=500, **comal)
    >>> bool(jnp.allclose(path[-1], 1 / 3, atol=1e-3))
    True
    """
    scores, start = float32_or_wider(scores), float32_or_wider(start)
    magnet = start if magnet is None else float32_or_wider(magnet)
    require_square("scores", scores)
    require_same_shape(start=start, magnet=magnet, row_of_scores=scores[..., 0])
    sizes = np.broadcast_to(np.asarray(step_size, np.float64), (steps,))
    _check(rule, sizes, strength, reference_every)
    moves = np.array([bool(reference_every) and t > 0 and t % reference_every == 0 for t in range(steps)], bool)

    def gains(log_p: jax.Array) -> jax.Array:
        return jnp.einsum("...jk,...k->...j", scores, jnp.exp(log_p), precision=jax.lax.Precision.HIGHEST)

    def update(carry: tuple[jax.Array, ...], schedule: tuple[jax.Array, jax.Array]):
        log_p, reference, earlier = carry
        eta, move = schedule
        reference = jnp.where(move, log_p, reference)
        own = gains(log_p)
        mixture = eta * strength
        pulled = (1 - mixture) * log_p + mixture * reference if rule in WITH_REFERENCE else log_p
        if rule in ("extragradient", "egpo"):
            signal = gains(jax.nn.log_softmax(pulled + eta * own))
        elif rule == "nash_md":
            signal = gains(jax.nn.log_softmax(pulled))
        else:
            signal = own + (1 - mixture) * (own - earlier) if rule == "optimistic" else own
        after = pulled + eta * signal
        if rule == "magnetic":
            after = (log_p + eta * own + mixture * reference) / (1 + mixture)
        after = jax.nn.log_softmax(after)
        return (after, reference, own), after

    first = jax.nn.log_softmax(jnp.log(start))
    schedule = jnp.asarray(sizes, first.dtype), jnp.asarray(moves)
    _, rest = jax.lax.scan(update, (first, jax.nn.log_softmax(jnp.log(magnet)), gains(first)), schedule)
    return jnp.exp(jnp.concatenate([first[None], rest]))


def _check(rule: str, sizes: np.ndarray, strength: float, reference_every: int) -> None:
    if rule not in get_args(Rule):
        raise ValueError(f"rule {rule!r} must be one of {', '.join(map(repr, get_args(Rule)))}")
    for name, value in (("strength", strength), ("reference_every", reference_every)):
        if value < 0:
            raise ValueError(f"{name} {value} must be ≥ 0")
        if value and rule not in WITH_REFERENCE:
            have = ", ".join(map(repr, WITH_REFERENCE))
            raise ValueError(f"{name} {value} must be 0 with rule {rule!r}: only {have} have a reference")
    largest = float(np.max(sizes, initial=0.0)) * strength
    if rule != "magnetic" and largest > 1:
        raise ValueError(f"step_size × strength = {largest:g} must be at most 1 with rule {rule!r}")
