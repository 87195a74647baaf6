"""Losses that improve a policy, given scores of its own responses. Pure functions, float32, one value per example.

r = log π(y|x) − log π_t(y|x); the caller sums log-probabilities over the response's tokens.

    GPO      (r − (ŝ − log Z)/β)²            ŝ = mean score against π_t, equation (5.7)
    SPPO     (r − (P̂ − ½)/β)²                P̂ = mean win rate against π_t
    Nash-MD  (r + m log π_t/π_ref − (P̂ − ½)/β)²     P̂ = win rate against the mixture π_t^{1−m} π_ref^m
    COMAL    (r + m log π_t/π_ref − (P̂ − log Z)/β)²  P̂ = mean win rate against π_t; π_ref moves
    DPO      −log σ(β (r_chosen − r_rejected))
    IPO      (r_chosen − r_rejected − 1/(2β))²
    REBEL    (β (r_chosen − r_rejected) − (ŝ_chosen − ŝ_rejected))²
    PPO, GRPO, GPRL    clipped policy gradient per token, with an advantage computed from ŝ (policy_gradient.py)

The first four are one step of mirror ascent, π_{t+1} ∝ π_t exp(signal/β), written as a regression: each loss is 0 where
π is π_{t+1}. `regression.centred_regression_loss` is the form of all four in which log Z cancels. ŝ, P̂, log Z,
advantages, and the weights of responses and pairs are computed in `signals`, `regression` and `blocks`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from gpmjax.arrays import Array
from gpmjax.losses.policy_gradient import log_ratio
from gpmjax.losses.reward import preference_loss
from gpmjax.preference.inputs import float32_or_wider, require_same_shape, require_scalar_or_shape_of

Number = float | Float[Array, "..."]


def gpo_loss(
    logprob: Float[Array, "*batch"],
    reference_logprob: Float[Array, "*batch"],
    score: Float[Array, "*batch"],
    *,
    beta: Number,
    log_partition: Number = 0.0,
) -> Float[jax.Array, "*batch"]:
    """General preference optimisation: (log π/π_t − (ŝ − log Z)/β)².

    Args:
      logprob: log π(y|x), summed over the response [...].
      reference_logprob: log π_t(y|x) [...], of the policy that y was sampled from.
      score: ŝ(y ≻ π_t) from `signals.mean_score` [...]. The released runs use log-odds, as 2 s/τ (score_factor of a
        policy's config).
      beta: β > 0, in the units of the score per nat; 0.001 in the released runs.
      log_partition: log Z, a scalar or [...]: 0 as in the paper's runs, or `signals.log_partition(score, beta=β)`.
    Returns:
      [...] float32 ≥ 0, in nats²; 0 where log π/π_t = (ŝ − log Z)/β.
    Raises:
      ValueError: the shapes differ.
    Source: arXiv 2410.02197, equation (5.7).

    >>> float(gpo_loss(jnp.array(-8.0), jnp.array(-10.0), jnp.array(0.2), beta=0.1))  # the log-ratio equals ŝ/β
    0.0
    """
    ratio, score = log_ratio(logprob, reference_logprob), float32_or_wider(score)
    log_partition = float32_or_wider(log_partition)
    require_same_shape(logprob=ratio, score=score)
    require_scalar_or_shape_of("logprob", ratio, log_partition=log_partition)
    return jnp.square(ratio - (score - log_partition) / _option(ratio, beta=beta))


def sppo_loss(
    logprob: Float[Array, "*batch"],
    reference_logprob: Float[Array, "*batch"],
    win_rate: Float[Array, "*batch"],
    *,
    beta: Number,
    log_partition: Number = 0.5,
) -> Float[jax.Array, "*batch"]:
    """Self-play preference optimisation: (log π/π_t − (P̂ − ½)/β)²; β is the paper's 1/η.

    Args:
      logprob: log π(y|x) [...].
      reference_logprob: log π_t(y|x) [...].
      win_rate: P̂(y ≻ π_t) [...] from `signals.mean_win_rate`, which reads the K×K matrix; a scalar reward would lose
        cycles.
      beta: β > 0.
      log_partition: log Z in units of the win rate: the paper's ½, or `signals.log_partition(win_rate, beta=β)`.
    Returns:
      [...] float32 ≥ 0, in nats².
    Raises:
      ValueError: the shapes differ.
    Source: Wu et al. 2024 (arXiv 2405.00675), Algorithm 1.

    >>> float(sppo_loss(jnp.array(-10.0), jnp.array(-10.0), jnp.array(0.5), beta=0.001))
    0.0
    """
    return gpo_loss(logprob, reference_logprob, win_rate, beta=beta, log_partition=log_partition)


def sppo_hard_loss(
    chosen: Float[Array, "*batch"],
    reference_chosen: Float[Array, "*batch"],
    rejected: Float[Array, "*batch"],
    reference_rejected: Float[Array, "*batch"],
    *,
    beta: Number,
) -> Float[jax.Array, "*batch"]:
    """SPPO on one pair with the hard labels P̂ = 1 and 0: (r_chosen − 1/(2β))² + (r_rejected + 1/(2β))².

    Source: Wu et al. 2024 (arXiv 2405.00675), on its relation to DPO and IPO.

    >>> zero = jnp.array(0.0)
    >>> float(sppo_hard_loss(zero, zero, zero, zero, beta=0.5))
    2.0
    """
    won = sppo_loss(chosen, reference_chosen, jnp.ones_like(float32_or_wider(chosen)), beta=beta)
    lost = sppo_loss(rejected, reference_rejected, jnp.zeros_like(float32_or_wider(rejected)), beta=beta)
    require_same_shape(chosen=won, rejected=lost)
    return won + lost


def nash_md_loss(
    logprob: Float[Array, "*batch"],
    current_logprob: Float[Array, "*batch"],
    reference_logprob: Float[Array, "*batch"],
    win_rate: Float[Array, "*batch"],
    *,
    beta: Number,
    mixture: Number,
    log_partition: Number = 0.5,
) -> Float[jax.Array, "*batch"]:
    """Nash-MD's mirror step from the geometric mixture: (log π/(π_t^{1−m} π_ref^m) − (P̂ − ½)/β)².

    Repeated steps converge to π ∝ π_ref exp(P(y ≻ mixture)/τ) with τ = m β. As m → 0 at this τ, that becomes the
    equilibrium of the game P(π ≻ π′) − τ KL(π‖π_ref) + τ KL(π′‖π_ref). The paper's policy-gradient form is
    `policy_gradient.clipped_policy_gradient` with the advantage P̂ − ½ − τ log π_t/π_ref.

    Args:
      logprob: log π(y|x) [...].
      current_logprob: log π_t(y|x) [...], of the policy that y was sampled from.
      reference_logprob: log π_ref(y|x) [...], of the fixed policy.
      win_rate: P̂(y ≻ mixture) [...] from `signals.mixture_win_rate` with the same m.
      beta: β = 1/η > 0.
      mixture: m in [0, 1]; 0 is SPPO.
      log_partition: as for `sppo_loss`.
    Returns:
      [...] float32 ≥ 0, in nats².
    Raises:
      ValueError: the shapes differ.
    Source: Munos et al. 2023 (arXiv 2312.00886), the Nash-MD algorithm with m = ητ; a regression in the manner of SPPO.
    """
    current, reference = float32_or_wider(current_logprob), float32_or_wider(reference_logprob)
    mixture = _option(log_ratio(current, reference), mixture=mixture)
    opponent = (1 - mixture) * current + mixture * reference
    return sppo_loss(logprob, opponent, win_rate, beta=beta, log_partition=log_partition)


def dpo_loss(
    chosen: Float[Array, "*batch"],
    reference_chosen: Float[Array, "*batch"],
    rejected: Float[Array, "*batch"],
    reference_rejected: Float[Array, "*batch"],
    *,
    beta: Number,
    label_smoothing: Number = 0.0,
) -> Float[jax.Array, "*batch"]:
    """Direct preference optimisation: −(1 − ε) log σ(β h) − ε log σ(−β h), h = r_chosen − r_rejected.

    Args:
      chosen, reference_chosen, rejected, reference_rejected: log-probabilities, summed over the response [...].
      beta: β > 0, per nat.
      label_smoothing: ε in [0, ½], the probability that a label is reversed; at ½ the label says nothing. It is half of
        `preference_loss`'s ε, which is spread over both sides.
    Returns:
      [...] float32 ≥ 0, in nats.
    Raises:
      ValueError: the shapes differ.
    Source: Rafailov et al. 2023 (arXiv 2305.18290), equation (7); smoothing as in Mitchell 2023, *A note on DPO with
      noisy preferences*.

    >>> zero = jnp.array(0.0)
    >>> round(float(dpo_loss(zero, zero, zero, zero, beta=0.1)), 3)  # log 2
    0.693
    """
    margin = _log_ratio_difference(chosen, reference_chosen, rejected, reference_rejected)
    flipped = _option(margin, label_smoothing=label_smoothing)
    return preference_loss(_option(margin, beta=beta) * margin, target=1 - flipped)


def ipo_loss(
    chosen: Float[Array, "*batch"],
    reference_chosen: Float[Array, "*batch"],
    rejected: Float[Array, "*batch"],
    reference_rejected: Float[Array, "*batch"],
    *,
    beta: Number,
) -> Float[jax.Array, "*batch"]:
    """Identity preference optimisation: (h − 1/(2β))², h = r_chosen − r_rejected; β is the paper's τ.

    The paper's log π(y|x) is the sum over the response's tokens, so 1/(2β) is in nats per response. TRL takes the mean
    over tokens (since huggingface/trl pull request 1265; read in TRL 1.16.0), so there 1/(2β) is in nats per token: a β
    that suits one does not suit the other.

    Source: Azar et al. 2023 (arXiv 2310.12036), equation (17).

    >>> zero = jnp.array(0.0)
    >>> float(ipo_loss(jnp.array(5.0), zero, zero, zero, beta=0.1))
    0.0
    """
    margin = _log_ratio_difference(chosen, reference_chosen, rejected, reference_rejected)
    return jnp.square(margin - 0.5 / _option(margin, beta=beta))


def rebel_loss(
    left: Float[Array, "*batch"],
    reference_left: Float[Array, "*batch"],
    right: Float[Array, "*batch"],
    reference_right: Float[Array, "*batch"],
    score_difference: Float[Array, "*batch"],
    *,
    beta: Number,
) -> Float[jax.Array, "*batch"]:
    """REBEL, regression to relative rewards: (β (r_left − r_right) − (ŝ_left − ŝ_right))²; β is the paper's 1/η.

    Neither side needs to have won. The minimiser is GPO's; log Z is the same for both sides and cancels.

    Args:
      left, reference_left, right, reference_right: log-probabilities, summed over the response [...].
      score_difference: ŝ_left − ŝ_right [...].
      beta: β > 0.
    Returns:
      [...] float32 ≥ 0, in units of the score squared.
    Raises:
      ValueError: the shapes differ.
    Source: Gao et al. 2024 (arXiv 2404.16767), Algorithm 1 with ŝ as the reward.

    >>> zero = jnp.array(0.0)
    >>> float(rebel_loss(jnp.array(4.0), zero, zero, zero, jnp.array(2.0), beta=0.5))
    0.0
    """
    margin, difference = _log_ratio_difference(left, reference_left, right, reference_right), score_difference
    difference = float32_or_wider(difference)
    require_same_shape(left=margin, score_difference=difference)
    return jnp.square(_option(margin, beta=beta) * margin - difference)


def _log_ratio_difference(left: Array, reference_left: Array, right: Array, reference_right: Array) -> jax.Array:
    left, right = log_ratio(left, reference_left), log_ratio(right, reference_right)
    require_same_shape(left=left, right=right)
    return left - right


def _option(reference: jax.Array, **option: Number) -> jax.Array:
    """An option as an array; raises ValueError unless it is a scalar or has the shape of the log-probabilities."""
    ((name, value),) = option.items()
    value = float32_or_wider(value)
    require_scalar_or_shape_of("logprob", reference, **{name: value})
    return value
