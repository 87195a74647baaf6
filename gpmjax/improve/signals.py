"""Turns an iteration's K×K score matrices into training signals of responses or pairs, for all prompts at once."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from gpmjax.config.improve import PAIRWISE, WITH_REFERENCE, PolicyLossConfig
from gpmjax.losses import blocks
from gpmjax.losses.regression import regularised_signal
from gpmjax.losses.signals import (
    group_advantages,
    log_partition,
    mean_score,
    mean_win_rate,
    mixture_win_rate,
    pair_weights,
    response_weights,
    tells_apart,
)
from gpmjax.preference.game import cyclic_share


class Scored(NamedTuple):
    """Scores and log-probabilities of K responses to N prompts, before the update; f32."""

    scores: np.ndarray
    """[N, K, K]: s(i ≻ j), not divided by τ."""
    tau: float
    current: np.ndarray
    """[N, K]: log π_t(y|x), summed over tokens, under the policy that sampled them."""
    base: np.ndarray
    """[N, K]: the same under the policy that the run began with."""
    embedding: np.ndarray | None = None
    """[N, K, 2k]."""
    scale: np.ndarray | None = None
    """[N, k]."""
    reference: np.ndarray | None = None
    """[N, K]: the same under the reference policy of Nash-MD and COMAL; None: that is the run's first policy."""
    previous: np.ndarray | None = None
    """[N, K]: the same under π_{t−1}; None in the first iteration, and where the loss does not read it."""


class Signals(NamedTuple):
    """Arrays that the policy's loss reads; f32."""

    signal: np.ndarray
    """[N, K]: ŝ, P̂ or an advantage, by method; for Nash-MD and COMAL with the reference's pull
    (`regularised_signal`)."""
    log_partition: np.ndarray
    """[N, K]: in the units of the signal."""
    response_weight: np.ndarray
    """[N, K]: weight of a response; 0 for a method of pairs, and where all K signals are equal."""
    pair_weight: np.ndarray
    """[N, K, K]: weight of i preferred to j; 0 for a method of single responses, and where the two do not differ."""

    @property
    def counts(self) -> np.ndarray:
        """[N, K] bool: which responses the loss reads."""
        return (self.response_weight > 0) | (self.pair_weight.sum(axis=1) > 0) | (self.pair_weight.sum(axis=2) > 0)


class Drift(NamedTuple):
    """GPRL's monitor over the iterations of a run."""

    shares: np.ndarray
    """[k]: share of each block in the differences between this iteration's samples."""
    drift: float
    """KL from the first iteration's shares, nats."""
    multiplier: np.ndarray
    """[k]: the blocks' weights in this iteration."""
    tightening: float
    """≥ 1: divides the clip range and multiplies the KL penalty."""


def signals(scored: Scored, config: PolicyLossConfig, drift: Drift | None = None) -> Signals:
    """The signals of ``config.method``; the arithmetic is that of gpmjax.losses.policy.

    A prompt whose K signals are all equal has weight 0: its responses do not differ in preference. That holds for the
    pull of Nash-MD and COMAL towards the reference too. `training_examples` leaves such prompts out before batches are
    made, so no step is spent on them.

    Raises:
      ValueError: the method asks for embeddings that the scorer does not have.
    """
    scores = jnp.asarray(np.float32(config.score_factor) * scored.scores)
    log_odds = scores / np.float32(scored.tau)
    taken = log_odds if config.score == "log_odds" else scores
    mean = mean_score(taken)
    decided = tells_apart(mean, jnp.max(jnp.abs(taken), axis=(-2, -1)))
    signal, log_z = mean, jnp.zeros_like(mean)
    if config.method in ("sppo", "nash_md", "comal"):
        signal = _win_rates(log_odds, scored, config)
        log_z = jnp.full_like(signal, 0.5)
        decided = tells_apart(signal, jnp.ones_like(signal[..., 0]))
    elif config.method in ("ppo", "grpo"):
        signal = group_advantages(mean, scale="std" if config.method == "grpo" else "none")
    elif config.method == "gprl":
        if scored.embedding is None:
            raise ValueError(
                "config.loss.method='gprl': needs embeddings; config.scorer must be a general preference model"
            )
        multiplier = None if drift is None else jnp.asarray(drift.multiplier)
        signal = blocks.block_advantages(scored.embedding, scored.scale, multiplier=multiplier)
        decided = _blocks_tell_apart(scored.embedding, scored.scale)
    if config.log_partition == "estimate":
        log_z = log_partition(signal, beta=config.beta)
    if config.method in WITH_REFERENCE:
        signal = _pulled(signal, log_odds, scored, config)
    of_pairs, of_one = jnp.zeros_like(log_odds), jnp.zeros_like(mean)
    if config.method in PAIRWISE:
        of_pairs = pair_weights(log_odds, config.estimator)
    else:
        of_one = response_weights(log_odds, config.estimator) * decided[:, None].astype(jnp.float32)
    if config.method == "rebel":  # it regresses on ŝ, not on who won
        of_pairs *= decided[:, None, None].astype(jnp.float32)
    return Signals(*(np.asarray(array, np.float32) for array in (signal, log_z, of_one, of_pairs)))


def _win_rates(log_odds: jnp.ndarray, scored: Scored, config: PolicyLossConfig) -> jnp.ndarray:
    """[N, K]: P̂ against π_t, or against Nash-MD's mixture."""
    if config.method != "nash_md":
        return mean_win_rate(log_odds)
    return mixture_win_rate(log_odds, scored.current, _reference(scored), mixture=config.mixture)


def _pulled(rates: jnp.ndarray, log_odds: jnp.ndarray, scored: Scored, config: PolicyLossConfig) -> jnp.ndarray:
    """[N, K]: the win rates with the pull of the reference, and the term of optimism."""
    earlier = None
    if config.optimistic and scored.previous is not None:
        earlier = mixture_win_rate(log_odds, scored.current, scored.previous, mixture=1.0)
    options = dict(beta=config.beta, mixture=config.mixture, earlier_win_rate=earlier)
    return regularised_signal(rates, scored.current, _reference(scored), **options)


def _reference(scored: Scored) -> np.ndarray:
    return scored.base if scored.reference is None else scored.reference


def _blocks_tell_apart(embedding: np.ndarray, scale: np.ndarray | None) -> jnp.ndarray:
    """[N] bool: whether in any block with λ > 0 the K mean scores differ."""
    by_block = blocks.block_mean_scores(embedding).swapaxes(-1, -2)  # [N, k, K]
    size = jnp.max(jnp.sum(jnp.square(jnp.asarray(embedding)), axis=-1), axis=-1)
    apart = tells_apart(by_block, jnp.broadcast_to(size[:, None], by_block.shape[:-1]))
    return jnp.any(apart if scale is None else apart & (jnp.asarray(scale) > 0), axis=-1)


def block_drift(scored: Scored, initial: np.ndarray | None) -> Drift:
    """The monitor's figures of an iteration; ``initial`` are the first iteration's shares, None in that iteration."""
    assert scored.embedding is not None  # `gprl_drift` asks before
    shares = np.asarray(blocks.block_shares(scored.embedding, scored.scale))
    found = blocks.drift_correction(shares, shares if initial is None else initial)
    return Drift(shares, float(found.drift), np.asarray(found.multiplier), float(found.tightening))


def response_facts(scores: np.ndarray, tau: float) -> list[dict[str, object]]:
    """For each prompt: ŝ (log-odds) and win rate of each response, and the share of cyclic triads."""
    log_odds = jnp.asarray(scores / np.float32(tau))
    facts = zip(mean_score(log_odds), mean_win_rate(log_odds), cyclic_share(log_odds), strict=True)
    return [
        {"mean_score": np.asarray(mean).tolist(), "win_rate": np.asarray(rate).tolist(), "cyclic_share": float(share)}
        for mean, rate, share in facts
    ]
