"""The step that a run repeats, in shapes alone: of a preference model's fit, or of a policy's iteration."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gpmjax import hub
from gpmjax.config import BackboneConfig, Config
from gpmjax.config.improve import ImproveConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup
from gpmjax.fit.step import make_train_step
from gpmjax.improve.batch import PolicyShape, assemble_policy
from gpmjax.improve.step import make_policy_step
from gpmjax.models.config import DecoderConfig, Runtime, require_one_of
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.transformer import Decoder
from gpmjax.train.flops import Work, dense_work, needed_work

PUBLISHED: dict[str, str] = {
    "google/gemma-2b": "gemma-2b",
    "google/gemma-2b-it": "gemma-2b",
    "google/gemma-2-2b-it": "gemma2-2b",
    "google/gemma-3-1b-it": "gemma3-1b",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama3-8b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama31-8b",
    "meta-llama/Llama-3.2-1B-Instruct": "llama32-1b",
    "mistralai/Mistral-7B-Instruct-v0.1": "mistral-7b",
    "Qwen/Qwen2.5-0.5B-Instruct": "qwen25-0.5b",
    "Qwen/Qwen2.5-7B-Instruct": "qwen25-7b",
    "Qwen/Qwen3-0.6B": "qwen3-0.6b",
}
"""Hub ids → presets, for models whose shapes are known without asking the hub."""


class Workload(NamedTuple):
    """A training step, without devices."""

    decoder: DecoderConfig
    backbone: BackboneConfig
    rows: int
    slots: int
    """Token slots of a row."""
    params: Any
    """The shape of every parameter, float32."""
    row: Any
    """A batch of one row."""
    make_step: Callable[[Runtime, optax.GradientTransformation], Callable]
    """The pure step that a run jits."""
    needed: Work
    """The work required by a batch whose rows are full."""
    run: Work
    """The work executed for any batch, with padding and masked pairs."""
    fewer_slots: str
    """The flags that make rows shorter, for advice."""
    section: str
    """The section of the config that holds ``backbone``."""


def decoder_shape(source: str, preset: str = "") -> DecoderConfig:
    """The decoder that a config's ``source`` names. Shapes that are known here need no network.

    Args:
      preset: a name in gpmjax.models.presets that overrides ``source``.
    """
    name = preset or PUBLISHED.get(source) or source.partition("random:")[2]
    if not name:
        return hub.open_source(source).config
    require_one_of("--preset", name, tuple(PRESETS))
    return PRESETS[name]


def largest_batch_shape(config: Config, *, row_length: int = 0, responses: int = 2, comparisons: int = 1) -> BatchShape:
    """The shape of a batch with the longest rows that the config allows. A run takes the shape from its data."""
    data = config.data
    return BatchShape(data.rows, row_length or data.row_length or 2 * data.max_length, responses, comparisons)


def fit_workload(config: Config, decoder: DecoderConfig, shape: BatchShape) -> Workload:
    """The step of a preference model's fit; raises ValueError for a backbone that is not trained."""
    if config.model.backbone == "frozen":
        raise ValueError(
            "config.model.backbone='frozen': only heads train, on cached features; there is nothing to plan"
        )
    decoder.require_positions("config.data.max_length", config.data.max_length)
    spec, accumulate = config.model.spec(), config.optimizer.accumulate
    if spec.head == "verdict":
        spec = dataclasses.replace(spec, verdict_tokens=(0, 1))  # any two tokens do: there is no tokenizer
    one = dataclasses.replace(shape, rows=1)
    row = assemble([[]], one)
    # A full row: the longest responses that fit after a prompt of one token.
    response = np.zeros((shape.tokens - 1) // shape.responses, np.int32)
    full = assemble([[EncodedGroup(np.zeros(1, np.int32), 0, (response,) * shape.responses, ())]], one)
    coefficient = config.loss.lm_coefficient
    return Workload(
        decoder,
        config.model,
        shape.rows,
        shape.tokens,
        jax.eval_shape(PreferenceModel(decoder, spec, config.model.runtime()).init, jax.random.key(0), row)["params"],
        row,
        lambda runtime, rule: make_train_step(PreferenceModel(decoder, spec, runtime), rule, config.loss, accumulate),
        Work(*(shape.rows * float(amount) for amount in needed_work(decoder, full, coefficient))),
        dense_work(decoder, shape.rows, shape.tokens, shape.responses, coefficient),
        "--config.data.row_length, --config.data.max_length",
        "model",
    )


def policy_workload(config: ImproveConfig, decoder: DecoderConfig) -> Workload:
    """A policy's step, without sampling and scoring, on rows of the longest prompt and responses of the config."""
    responses = 2 if config.loss.estimator == "best_and_worst" else config.rollout.responses
    prompt, length = config.prompts.max_length, config.rollout.max_new_tokens
    slots = prompt + responses * length
    row = assemble_policy([], PolicyShape(1, slots, responses, length))
    group = EncodedGroup(np.zeros(prompt, np.int32), prompt - 1, (np.zeros(length, np.int32),) * responses, ())
    full = needed_work(decoder, assemble([[group]], BatchShape(1, slots, responses, 1)))
    predicted = float(config.batch * responses * length)
    params = jax.eval_shape(Decoder(decoder, config.policy.runtime()).init, jax.random.key(0), row.tokens, row.layout)
    return Workload(
        decoder,
        config.policy,
        config.batch,
        slots,
        {"decoder": params["params"]},
        row,
        lambda runtime, rule: make_policy_step(
            Decoder(decoder, runtime), rule, config.loss, accumulate=config.optimizer.accumulate
        ),
        Work(config.batch * float(full.tokens), config.batch * float(full.attended), predicted, 0.0),
        dense_work(decoder, config.batch, slots, 0)._replace(predicted=predicted),
        "--config.rollout.max_new_tokens, --config.prompts.max_length",
        "policy",
    )
