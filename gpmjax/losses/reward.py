"""Losses that fit a preference model. All of them take scores, so Bradley–Terry and general models share them.

A score s(i ≻ j) becomes log-odds z = (s − margin)/τ, and P(i ≻ j) = σ(z). The target t is the labelled P(i ≻ j): 1 for
a plain label, ½ for a tie, a number between for votes. Swapping the sides changes nothing: each loss of a comparison
satisfies L(s, t, margin) = L(−s, 1 − t, −margin).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.preference.inputs import (
    float32_or_wider,
    require_same_shape,
    require_scalar_or_shape_of,
    require_square,
)

Number = float | Float[Array, "..."]


def preference_loss(
    score: Float[Array, "*batch"],
    *,
    tau: Number = 1.0,
    margin: Number = 0.0,
    target: Number = 1.0,
    label_smoothing: Number = 0.0,
) -> Float[jax.Array, "*batch"]:
    """Cross-entropy of the labelled preference: −t′ log σ(z) − (1 − t′) log σ(−z), z = (s − margin)/τ.

    With label smoothing ε, t′ = (1 − ε) t + ε/2. With a plain label and no smoothing it is −log σ((s − margin)/τ).

    Args:
      score: s(i ≻ j) [...].
      tau: temperature > 0; a scalar or [...]. A learned temperature is an array, into which the gradient flows.
      margin: the margin by which i should win, in units of the score; a scalar or [...].
      target: t, the labelled P(i ≻ j) in [0, 1]; a scalar or [...].
      label_smoothing: ε in [0, 1).
    Returns:
      [...] float32 ≥ 0, in nats. The gradient by the score is (σ(z) − t′)/τ, which is bounded.
    Raises:
      ValueError: an option is neither a scalar nor shaped like score.
    Source: arXiv 2410.02197, equation (3.3) and the training objective after equation (4.2).

    >>> round(float(preference_loss(jnp.array(0.0))), 3)  # log 2
    0.693
    """
    z, target = _log_odds_and_target(score, tau, margin, target, label_smoothing)
    return -target * jax.nn.log_sigmoid(z) - (1 - target) * jax.nn.log_sigmoid(-z)


def expected_error(
    score: Float[Array, "*batch"], *, tau: Number = 1.0, margin: Number = 0.0, target: Number = 1.0
) -> Float[jax.Array, "*batch"]:
    """The probability of a wrong answer: t σ(−z) + (1 − t) σ(z), z = (s − margin)/τ; the 0–1 error as τ → 0.

    Reason: on a balanced cycle, A ≻ B ≻ C ≻ A equally often, a reward's differences sum to 0, so by Jensen's inequality
    the cross-entropy is least where all are 0: an exact tie, whose accuracy is noise. This loss is not convex: its
    minimum gives up one edge of the cycle for the others, which is the best accuracy that a reward can have.

    Args: as for `preference_loss`.
    Returns:
      [...] float32 in [0, 1].

    >>> float(expected_error(jnp.array(0.0)))
    0.5
    """
    z, target = _log_odds_and_target(score, tau, margin, target, 0.0)
    return target * jax.nn.sigmoid(-z) + (1 - target) * jax.nn.sigmoid(z)


def verdict_loss(
    log_odds: Float[Array, "*batch"],
    *,
    tau: Number = 1.0,
    target: Number = 1.0,
    mass: Number = 0.0,
    label_smoothing: Number = 0.0,
) -> Float[jax.Array, "*batch"]:
    """Next-token loss of a labelled verdict: −log p(verdict) = −t′ log σ(d) − (1 − t′) log σ(−d) − log(p(yes) + p(no)).

    It raises the probability of the verdict token itself; `preference_loss` raises only the odds between the two
    verdicts. With mass 0, as for a head of one number, both losses are the same cross-entropy between the two verdicts.

    Args:
      log_odds: d = log p(yes)/p(no) of each question [...].
      tau: temperature; 1 for the next-token loss.
      target: t, the labelled probability of the favourable verdict; t′ as in `preference_loss`.
      mass: log(p(yes) + p(no)) ≤ 0, a scalar or [...].
    Returns:
      [...] float32 ≥ 0, in nats.
    Source: Zhang et al. 2024, arXiv 2408.15240, equation 5 (supervised fine-tuning on the verdict token).

    >>> float(jnp.exp(-verdict_loss(jnp.array(0.0), mass=jnp.log(0.5))))  # p(yes) = p(no) = ¼
    0.25
    """
    log_odds, mass = float32_or_wider(log_odds), float32_or_wider(mass)
    require_scalar_or_shape_of("log_odds", log_odds, mass=mass)
    return preference_loss(log_odds, tau=tau, target=target, label_smoothing=label_smoothing) - mass


def listwise_loss(
    scores: Float[Array, "*batch K K"],
    target: Float[Array, "..."],
    weight: Float[Array, "..."],
    *,
    tau: Number = 1.0,
    label_smoothing: Number = 0.0,
) -> Float[jax.Array, "*batch"]:
    """A group's mean `preference_loss` over its compared pairs, Σ_ij w_ij L(s_ij, t_ij) / Σ_ij w_ij.

    A group of eight ranked responses (28 pairs) then counts as much as a group of two.

    Args:
      scores: all K×K scores of a group, S_ij = s(i ≻ j) [..., K, K].
      target: P(i ≻ j) [..., K, K].
      weight: ≥ 0 [..., K, K]; 0 where nothing was compared, as on the diagonal. A pair needs a weight in one of its two
        places only.
      tau: temperature, a scalar or [..., K, K].
      label_smoothing: ε in [0, 1).
    Returns:
      [...] float32; 0 for a group without comparisons.
    Raises:
      ValueError: the three matrices differ in shape, or are not square.

    >>> scores = jnp.array([[0.0, 3.0], [-3.0, 0.0]])
    >>> first_wins = jnp.array([[0.0, 1.0], [0.0, 0.0]])
    >>> round(float(listwise_loss(scores, target=first_wins, weight=first_wins)), 4)
    0.0486
    """
    scores = float32_or_wider(scores)
    require_square("scores", scores)
    losses = preference_loss(scores, tau=tau, target=target, label_smoothing=label_smoothing)
    return weighted_mean(losses, weight, axis=(-2, -1))


def centering_penalty(left: Float[Array, "*batch"], right: Float[Array, "..."]) -> Float[jax.Array, "*batch"]:
    """Keeps Bradley–Terry rewards near zero mean: (r_i + r_j)².

    Preferences determine only r_i − r_j. Without the penalty the mean drifts, and rewards of different runs cannot be
    compared.

    Args:
      left: r_i [...].
      right: r_j [...], of the same shape.
    Returns:
      [...] float32; multiply it by a small coefficient (0.01).
    Raises:
      ValueError: the shapes differ.
    Source: Eisenstein et al. 2023, *Helping or Herding?* (arXiv 2312.09244), Section 2.

    >>> float(centering_penalty(jnp.array(3.0), jnp.array(-1.0)))
    4.0
    """
    left, right = float32_or_wider(left), float32_or_wider(right)
    require_same_shape(left=left, right=right)
    return jnp.square(left + right)


def regularised(
    preference: Float[Array, "*batch"], language_model: Float[Array, "..."], coefficient: Number
) -> Float[jax.Array, "*batch"]:
    """The preference loss with the language-model regulariser: (1 − c) L_pref + c L_lm.

    Args:
      preference: L_pref [...].
      language_model: L_lm, −log p of the chosen response in nats per token, of the same shape.
      coefficient: c in [0, 1], usually 0.01 to 0.1; a scalar, or [...].
    Returns:
      [...] float32.
    Raises:
      ValueError: the shapes differ.

    >>> float(regularised(jnp.array(1.0), jnp.array(3.0), 0.5))
    2.0
    """
    preference, language_model = float32_or_wider(preference), float32_or_wider(language_model)
    coefficient = float32_or_wider(coefficient)
    require_same_shape(preference=preference, language_model=language_model)
    require_scalar_or_shape_of("preference", preference, coefficient=coefficient)
    return (1 - coefficient) * preference + coefficient * language_model


def weighted_mean(
    values: Float[Array, "..."], weight: Float[Array, "..."], *, axis: int | tuple[int, ...] | None = None
) -> Float[jax.Array, "..."]:
    """The weighted mean Σ w v / Σ w over some axes; 0 where Σ w = 0.

    A value of weight 0 contributes neither value nor gradient; it may be infinite or NaN.

    Args:
      values: [...].
      weight: ≥ 0, of the same shape.
      axis: axes to reduce; None is all.
    Returns:
      float32, without those axes.
    Raises:
      ValueError: the shapes differ.

    >>> float(weighted_mean(jnp.array([1.0, 2.0, jnp.nan]), jnp.array([3.0, 1.0, 0.0])))
    1.25
    """
    values, weight = float32_or_wider(values), float32_or_wider(weight)
    require_same_shape(values=values, weight=weight)
    total = jnp.sum(weight, axis=axis)
    weighted = jnp.sum(jnp.where(weight > 0, values, 0.0) * weight, axis=axis)
    return jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1.0), 0.0)


def _log_odds_and_target(score, tau, margin, target, label_smoothing) -> tuple[jax.Array, jax.Array]:
    score, tau, margin, target = map(float32_or_wider, (score, tau, margin, target))
    label_smoothing = float32_or_wider(label_smoothing)
    require_scalar_or_shape_of("score", score, tau=tau, margin=margin, target=target, label_smoothing=label_smoothing)
    return (score - margin) / tau, (1 - label_smoothing) * target + label_smoothing / 2
