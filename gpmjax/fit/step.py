"""One update of a preference model: batch → scores → loss → gradients → parameters.

Sums over examples are divided by the whole batch's weights before they are differentiated (see `gpmjax.train.step`).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import optax

from gpmjax.arrays import Array, Comparisons, FeatureBatch, TokenBatch
from gpmjax.config import LossConfig
from gpmjax.losses import reward
from gpmjax.losses.tokens import token_logprobs
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel, predictors
from gpmjax.models.scores import PairwiseOutput, PreferenceOutput, cyclic_scores, pair_scores
from gpmjax.models.transformer import unembedding
from gpmjax.train.flops import effort, needed_work
from gpmjax.train.state import TrainState
from gpmjax.train.step import make_step

Batch = TokenBatch | FeatureBatch


class Applied(Protocol):
    """What `batch_loss` needs of a preference model."""

    @property
    def config(self) -> DecoderConfig: ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...


class Penalties(NamedTuple):
    """Prices in the loss of a hybrid's cyclic part and of a gate; numbers, or arrays [] inside a vmapped fit."""

    curl: Array | float
    """ρ, finite: the price of (s_cyclic/τ)². At ρ = ∞ the model has γ = 0 instead."""
    gate: Array | float
    """κ: the price of (λ/λ̄ − 1)²."""

    @classmethod
    def of(cls, config: LossConfig) -> "Penalties":
        """The prices of a config. "auto" is 0: a first stage fits the reward alone and has no penalty."""
        curl, gate = config.strength("curl"), config.strength("gate_penalty")
        return cls(0.0 if curl is None or curl == math.inf else curl, gate or 0.0)

    def none(self) -> bool:
        """Whether both are known to be 0, so that no penalty is computed."""
        return all(isinstance(price, float) and price == 0 for price in self)


def comparison_losses(
    output: PreferenceOutput | PairwiseOutput,
    comparisons: Comparisons,
    config: LossConfig,
    penalties: Penalties | None = None,
) -> tuple[Array, Array]:
    """Scores and losses of the comparisons, each [B, C] f32; losses include the centering of rewards and the penalties.

    Args:
      penalties: None: those of ``config``.
    """
    scores = pair_scores(output, comparisons)
    if isinstance(output, PairwiseOutput) or config.objective == "verdict":
        losses = question_losses(output, comparisons, config)
    else:
        losses = _preference_losses(scores, output.tau, comparisons.margin, comparisons.target, config)
    if config.centering:
        assert isinstance(output, PreferenceOutput) and output.reward is not None  # by the config's rules
        sides = [
            jnp.take_along_axis(output.reward, side, axis=1) for side in (comparisons.chosen, comparisons.rejected)
        ]
        losses += config.centering * reward.centering_penalty(*sides)
    penalties = Penalties.of(config) if penalties is None else penalties
    if not penalties.none():
        assert isinstance(output, PreferenceOutput)  # a pairwise model has no penalty
        losses += penalty_losses(output, comparisons, penalties)
    return scores, losses


def penalty_losses(output: PreferenceOutput, comparisons: Comparisons, penalties: Penalties) -> Array:
    """[B, C] f32: ρ (s_cyclic/τ)² + κ mean_l (λ_l/λ̄ − 1)² of each comparison.

    The penalty is a mean over compared pairs, not the curl of a group (`preference.hybrid.curl_energy`): two
    responses have no curl, so that could not shrink a data set of pairs towards a reward. Here ρ → ∞ gives
    Bradley–Terry's scores for all groups. Whatever part of the cyclic score is a reward can move into r at no cost,
    so only the rest is penalised.
    """
    losses = jnp.zeros_like(comparisons.weight)
    hybrid = output.reward is not None and output.scale is not None
    if hybrid:
        losses += penalties.curl * jnp.square(cyclic_scores(output, comparisons) / output.tau)
    if output.scale is not None:
        scale = output.scale[..., 1:] if hybrid else output.scale
        mean = jnp.mean(scale, axis=-1, keepdims=True)
        # A weight γ = 0 leaves no gate to compare with uniform.
        uneven = jnp.where(mean > 0, scale / jnp.where(mean > 0, mean, 1.0) - 1, 0.0)
        of_response = jnp.mean(jnp.square(uneven), axis=-1)
        sides = [jnp.take_along_axis(of_response, side, axis=1) for side in (comparisons.chosen, comparisons.rejected)]
        losses += penalties.gate * (sides[0] + sides[1]) / 2
    return losses


def _preference_losses(scores: Array, tau: Array, margin: Array, target: Array, config: LossConfig) -> Array:
    common = dict(tau=tau, margin=margin, target=target)
    if config.objective == "expected_error":
        return reward.expected_error(scores, **common)
    return reward.preference_loss(scores, **common, label_smoothing=config.label_smoothing)


def question_losses(output: PreferenceOutput | PairwiseOutput, comparisons: Comparisons, config: LossConfig) -> Array:
    """[B, C] f32: mean loss of a comparison's two questions, "yes" for the chosen response (or order), "no" for the
    other.

    Each question has its own loss. If a pairwise model were fitted by the mean of its two orders, a constant
    preference for the first response would cancel, and so go unpenalised.
    """
    pairwise = isinstance(output, PairwiseOutput)
    values = output.value if pairwise else output.embedding[..., 0]
    mass = jnp.zeros_like(values) if output.mass is None else output.mass

    def asked(question: Array, margin: Array, target: Array) -> Array:
        def pick(array: Array) -> Array:
            return jnp.take_along_axis(array, question, axis=1)

        if config.objective != "verdict":
            return _preference_losses(pick(values), output.tau, margin, target, config)
        common = dict(tau=output.tau, target=target, label_smoothing=config.label_smoothing)
        return reward.verdict_loss(pick(values), mass=pick(mass), **common)

    first = asked(comparisons.chosen, comparisons.margin, comparisons.target)
    second = asked(comparisons.rejected, -comparisons.margin, 1 - comparisons.target)
    return jnp.where(comparisons.chosen == comparisons.rejected, first, (first + second) / 2)


def chosen_logprobs(model: Applied, params: Any, hidden: Array, batch: TokenBatch) -> Array:
    """[B, T] f32: log p of every slot's token given the tokens before it; meaningful where ``lm_weight`` > 0."""
    before = predictors(hidden, batch)
    logprobs = token_logprobs(
        before.reshape(-1, before.shape[-1]),
        batch.tokens.reshape(-1),
        unembedding(params["decoder"]),
        softcap=model.config.final_softcap,
    )
    return logprobs.reshape(batch.tokens.shape)


def batch_totals(batch: Batch, config: LossConfig) -> dict[str, Array]:
    """The whole batch's weights, the divisors of the sums over its micro-batches. An empty batch divides 0 by 1."""
    totals = {
        "comparisons": jnp.sum(batch.comparisons.weight),
        "decided": jnp.sum(_decided(batch)),
    }
    if config.lm_coefficient:
        totals["lm_tokens"] = jnp.sum(_lm_weight(batch))
    return {name: jnp.where(total > 0, total, 1.0) for name, total in totals.items()}


def batch_weighs(batch: Batch, config: LossConfig) -> Array:
    """[] bool: whether any weight in the batch is positive."""
    found = jnp.any(batch.comparisons.weight > 0)
    return found | jnp.any(_lm_weight(batch) > 0) if config.lm_coefficient else found


def _lm_weight(batch: Batch) -> Array:
    assert isinstance(batch, TokenBatch)  # cached features have no tokens to predict
    return batch.lm_weight


def _decided(batch: Batch) -> Array:
    """[B, C] f32: 1 where the label names a winner, 0 on ties and padding; accuracy is over these."""
    return ((batch.comparisons.weight > 0) & (batch.comparisons.target != 0.5)).astype(jnp.float32)


def batch_loss(
    model: Applied,
    params: Any,
    batch: Batch,
    totals: dict[str, Array],
    config: LossConfig,
    penalties: Penalties | None = None,
) -> tuple[Array, dict[str, Array]]:
    """This (micro-)batch's share of the loss and of the metrics; shares add up to the whole batch's.

    ``penalties`` replace those of ``config`` where they are given.
    The metric "margin" is the score in favour of the side that the label names, weighted as the loss is; tied labels
    add 0. The metric "example_loss" [B, C] is not a share but each comparison's own loss, by which a NaN is traced to
    a row.
    """
    hidden: Any = None
    if config.lm_coefficient:
        hidden = model.apply({"params": params}, batch, method="encode")
        output = model.apply({"params": params}, hidden, batch, method="preferences")
    else:
        output = model.apply({"params": params}, batch)
    comparisons = batch.comparisons
    scores, losses = comparison_losses(output, comparisons, config, penalties)

    def mean_share(values: Array) -> Array:
        # 0 · NaN is NaN: padding must not reach the sum, nor its gradient.
        counted = jnp.where(comparisons.weight > 0, values, 0.0)
        return jnp.sum(comparisons.weight * counted) / totals["comparisons"]

    loss = mean_share(losses)
    metrics = {"preference_loss": loss}
    if config.lm_coefficient:
        assert isinstance(batch, TokenBatch)
        logprobs = chosen_logprobs(model, params, hidden, batch)
        metrics["lm_loss"] = -jnp.sum(batch.lm_weight * logprobs) / totals["lm_tokens"]
        loss = reward.regularised(loss, metrics["lm_loss"], config.lm_coefficient)
    # 1 where the label is for the chosen response, −1 where it is for the other one, 0 on a tied label.
    side = jnp.sign(comparisons.target - 0.5)
    # A tie of the model is half right: sign = 0 gives ½.
    right = 0.5 + 0.5 * jnp.sign(scores) * side
    metrics |= {
        "loss": loss,
        "accuracy": jnp.sum(_decided(batch) * right) / totals["decided"],
        "margin": mean_share(side * scores),
        "example_loss": losses,
    }
    return loss, metrics


def make_train_step(
    model: PreferenceModel, optimizer: optax.GradientTransformation, config: LossConfig, accumulate: int = 1
) -> Callable[[TrainState, Any, Batch], tuple[TrainState, dict[str, Array]]]:
    """``step(state, frozen, batch) → (state, metrics)``, see `make_step`.

    Metrics are f32 scalars (the loss, accuracy and mean margin *before* the update, the gradient's global norm, what
    the batch holds and its model FLOPs), and "example_loss" [B, C].
    """
    update = make_step(
        weighs=lambda batch: batch_weighs(batch, config),
        totals=lambda batch: batch_totals(batch, config),
        loss=lambda params, batch, totals: batch_loss(model, params, batch, totals, config),
        optimizer=optimizer,
        accumulate=accumulate,
    )

    def step(state: TrainState, frozen: Any, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        after, metrics = update(state, frozen, batch)
        work = needed_work(model.config, batch, config.lm_coefficient)
        units = "responses" if isinstance(batch, FeatureBatch) else "tokens"
        return after, metrics | effort(model.config, state.params, frozen, work, units)

    return step
