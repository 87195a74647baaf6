"""One update of a policy: batch → log π of every response token → the method's loss → gradients → parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gpmjax.arrays import Array
from gpmjax.config.improve import GROUP_RELATIVE, PAIRWISE, PolicyLossConfig
from gpmjax.improve.batch import PolicyBatch
from gpmjax.losses import policy, policy_gradient, regression
from gpmjax.losses.tokens import token_logprobs
from gpmjax.models.preference_model import at_slots
from gpmjax.models.transformer import Decoder, unembedding
from gpmjax.train.flops import Work, effort, layer_work
from gpmjax.train.state import TrainState
from gpmjax.train.step import make_step


def response_logprobs(model: Decoder, params: Any, batch: PolicyBatch) -> Array:
    """[B, R, M] f32: log π of every response token, at temperature 1; 0 where there is none. Prompts cost no logits."""
    hidden: Any = model.apply({"params": params["decoder"]}, jnp.asarray(batch.tokens), batch.layout)

    def flat(slots: Array) -> Array:
        return jnp.asarray(slots).reshape(slots.shape[0], -1)

    before = at_slots(hidden, flat(batch.previous))
    targets = jnp.take_along_axis(jnp.asarray(batch.tokens), flat(batch.slots), axis=1)
    logprobs = token_logprobs(
        before.reshape(-1, before.shape[-1]),
        targets.reshape(-1),
        unembedding(params["decoder"]),
        softcap=model.config.final_softcap,
    )
    return jnp.where(batch.mask, logprobs.reshape(batch.mask.shape), 0.0)


def response_losses(
    tokens: Array, batch: PolicyBatch, config: PolicyLossConfig, tightening: float = 1.0
) -> tuple[Array, Array]:
    """Losses and their weights, both [B, R], or [B, R, R] (chosen, rejected) for a method of pairs.

    Args:
      tokens: [B, R, M]: `response_logprobs` of the policy that trains.
      tightening: GPRL's monitor: divides the clip range, multiplies the KL penalty.
    """
    logprob, current = (jnp.sum(x, axis=-1) for x in (tokens, batch.current))
    if config.method in PAIRWISE:
        if config.ipo_logprob == "mean":
            logprob, current = (_mean_over_tokens(x, batch.mask) for x in (tokens, batch.current))
        return _pair_losses(logprob, current, batch, config), batch.pair_weight
    if config.method in GROUP_RELATIVE:
        clip = config.clip / tightening
        per_response = "sum" if config.method == "ppo" else "mean"
        losses = policy_gradient.clipped_policy_gradient(
            tokens, batch.current, batch.signal, batch.mask, clip_low=clip, clip_high=clip, per_response=per_response
        )
        if config.kl:
            losses += (
                config.kl * tightening * _mean_over_tokens(policy_gradient.kl_k3(tokens, batch.current), batch.mask)
            )
    elif config.log_partition == "centred":
        losses = regression.centred_regression_loss(
            logprob, current, batch.signal, beta=config.beta, weight=batch.response_weight
        )
    else:  # SPPO's loss, and Nash-MD's with the pull in the signal, have the form of GPO's
        losses = policy.gpo_loss(logprob, current, batch.signal, beta=config.beta, log_partition=batch.log_partition)
    return losses, batch.response_weight


def _pair_losses(logprob: Array, current: Array, batch: PolicyBatch, config: PolicyLossConfig) -> Array:
    """[B, R, R]: row i as chosen, column j as rejected."""
    shape = batch.pair_weight.shape

    def chosen(x: Array) -> Array:
        return jnp.broadcast_to(x[:, :, None], shape)

    def rejected(x: Array) -> Array:
        return jnp.broadcast_to(x[:, None, :], shape)

    sides = chosen(logprob), chosen(current), rejected(logprob), rejected(current)
    if config.method == "dpo":
        return policy.dpo_loss(*sides, beta=config.beta, label_smoothing=config.label_smoothing)
    if config.method == "rebel":
        return policy.rebel_loss(*sides, chosen(batch.signal) - rejected(batch.signal), beta=config.beta)
    return {"ipo": policy.ipo_loss, "sppo_hard": policy.sppo_hard_loss}[config.method](*sides, beta=config.beta)


def _mean_over_tokens(values: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, values, 0.0), axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1, dtype=jnp.float32), 1.0)


def _weights(batch: PolicyBatch, config: PolicyLossConfig) -> Array:
    """[B, R], or [B, R, R] for a method of pairs."""
    return batch.pair_weight if config.method in PAIRWISE else batch.response_weight


def policy_batch_totals(batch: PolicyBatch, config: PolicyLossConfig) -> dict[str, Array]:
    """The whole batch's weights, responses and tokens; an empty batch divides 0 by 1."""
    totals = {
        "weight": jnp.sum(_weights(batch, config)),
        "responses": jnp.sum(jnp.any(batch.mask, axis=-1), dtype=jnp.float32),
        "tokens": jnp.sum(batch.mask, dtype=jnp.float32),
    }
    return {name: jnp.where(total > 0, total, 1.0) for name, total in totals.items()}


def policy_batch_loss(
    model: Decoder,
    params: Any,
    batch: PolicyBatch,
    totals: dict[str, Array],
    config: PolicyLossConfig,
    tightening: float,
) -> tuple[Array, dict[str, Array]]:
    """This (micro-)batch's share of the loss and of the metrics; shares add up to the whole batch's.

    "kl_k1" and "kl_k3" estimate KL(π_t‖π_θ) of the policy that sampled from the policy that trains, in nats a response;
    "kl_base_k1" is the mean of log π_θ/π_1, over the same samples.
    """
    tokens = response_logprobs(model, params, batch)
    losses, weight = response_losses(tokens, batch, config, tightening)
    # 0 · NaN is NaN: losses of weight 0 must not reach the sum, nor its gradient.
    weighted = jnp.where(weight > 0, losses, 0.0) * weight
    by_row = jnp.sum(weighted, axis=tuple(range(1, weighted.ndim)))
    loss = jnp.sum(by_row) / totals["weight"]
    still = jax.lax.stop_gradient(tokens)

    def a_response(values: Array) -> Array:
        return jnp.sum(jnp.where(batch.mask, values, 0.0)) / totals["responses"]

    metrics = {
        "loss": loss,
        "kl_k1": a_response(policy_gradient.kl_k1(batch.current, still)),
        "kl_k3": a_response(policy_gradient.kl_k3(batch.current, still)),
        "kl_base_k1": a_response(policy_gradient.kl_k1(still, batch.base)),
        "nll_per_token": -jnp.sum(jnp.where(batch.mask, still, 0.0)) / totals["tokens"],
        "example_loss": by_row,
    }
    return loss, metrics


def make_policy_step(
    model: Decoder,
    optimizer: optax.GradientTransformation,
    config: PolicyLossConfig,
    *,
    accumulate: int = 1,
    tightening: float = 1.0,
) -> Callable[[TrainState, Any, PolicyBatch], tuple[TrainState, dict[str, Array]]]:
    """``step(state, frozen, batch) → (state, metrics)``, see train.step.make_step; parameters are {"decoder": …}."""
    update = make_step(
        weighs=lambda batch: jnp.any(_weights(batch, config) > 0),
        totals=lambda batch: policy_batch_totals(batch, config),
        loss=lambda params, batch, totals: policy_batch_loss(model, params, batch, totals, config, tightening),
        optimizer=optimizer,
        accumulate=accumulate,
    )

    def step(state: TrainState, frozen: Any, batch: PolicyBatch) -> tuple[TrainState, dict[str, Array]]:
        after, metrics = update(state, frozen, batch)
        predicted = jnp.sum(batch.mask, dtype=jnp.float32)
        work = Work(*layer_work(model.config, batch.layout), predicted, jnp.zeros((), jnp.float32))
        return after, metrics | effort(model.config, state.params, frozen, work, "tokens")

    return step
