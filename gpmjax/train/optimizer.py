"""The optimiser of a config, and which parameters it may touch."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from gpmjax.config import BackboneConfig, OptimizerConfig


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up over ``warmup_fraction`` of ``steps``, then cosine or linear to 0, or constant."""
    # A warm-up of at least one step would waste that step at rate 0 when the fraction is 0.
    warmup = round(config.warmup_fraction * steps)
    after = max(steps - warmup, 1)
    peak = config.learning_rate
    tail = {
        "cosine": lambda: optax.cosine_decay_schedule(peak, after),
        "linear": lambda: optax.linear_schedule(peak, 0.0, after),
        "constant": lambda: optax.constant_schedule(peak),
    }[config.schedule]()
    if not warmup:
        return tail
    # Step 0 already moves: the rate climbs peak/warmup, …, peak.
    climb = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([climb, tail], [warmup])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, then the named rule; weight decay skips vectors (norms, biases)."""
    rate = schedule(config, steps)

    def decayed(params):
        # Stacked layers add a leading axis, so a norm's scale is [L, D]: a vector all the same.
        paths = traverse_util.flatten_dict(params, sep="/")
        return traverse_util.unflatten_dict(
            {path: path.endswith(("kernel", "embedding", "lora_a", "lora_b")) for path in paths}, sep="/"
        )

    rule = {
        "adamw": lambda: optax.adamw(
            rate,
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            mu_dtype=config.moment_dtype,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
        "rmsprop": lambda: optax.rmsprop(rate, decay=config.b2, eps=config.eps),
        "adafactor": lambda: optax.adafactor(rate),
        "sgd": lambda: optax.sgd(rate, momentum=config.b1),
    }[config.name]()
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    slower = [] if config.cyclic_rate == 1 else [scale_head_updates(cyclic=config.cyclic_rate)]
    return _with_standard_promotion(optax.chain(clip, rule, *slower))


def scale_head_updates(*, reward: float = 1.0, cyclic: float = 1.0, other: float = 1.0) -> optax.GradientTransformation:
    """Multiplies the updates of a hybrid's head: of its reward, of its cyclic part, and of ``other``, all that both
    are read from.

    The reward is the first output of the head's last layer, the cyclic part are the rest of them. The gate keeps its
    updates.
    """

    def update(updates, state, params=None):
        flat: Any = traverse_util.flatten_dict(updates, sep="/")
        layers = {path.rpartition("/")[0] for path in flat if path.startswith("heads/value/")}
        last = max(layers, key=lambda layer: int(layer.rpartition("net_")[2] or 0) if "net_" in layer else 0)
        for path, leaf in flat.items():
            if path.rpartition("/")[0] == last:
                columns = jnp.full(leaf.shape[-1], cyclic, leaf.dtype).at[0].set(reward)
                flat[path] = leaf * columns.reshape((1,) * (leaf.ndim - 1) + (-1,))
            elif not path.startswith("heads/gate/"):
                flat[path] = leaf * jnp.asarray(other, leaf.dtype)
        return traverse_util.unflatten_dict(flat, sep="/"), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _with_standard_promotion(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Optax mixes int32 counts with f32 decays; a program that promotes strictly, as our tests do, needs this door."""

    def init(params):
        with jax.numpy_dtype_promotion("standard"):
            return rule.init(params)

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return rule.update(updates, state, params)

    return optax.GradientTransformation(init, update)


ALL_BUT_ADAPTERS = r"^decoder/(?!.*lora_[ab]$)"
"""Freezes what LoRA leaves alone: every decoder parameter that is not an adapter."""


def frozen_patterns(config: BackboneConfig) -> tuple[str, ...]:
    """What does not train: ``config.freeze``, and with LoRA all of the decoder but its adapters."""
    return tuple(config.freeze) + ((ALL_BUT_ADAPTERS,) if config.lora_rank else ())


def split_params(params: dict, freeze: Sequence[str]) -> tuple[dict, dict]:
    """(trainable, frozen): two nested dicts whose ``merge_params`` is ``params``.

    Args:
      freeze: regular expressions, searched in paths such as "decoder/layers/mlp/up/kernel".

    Raises:
      ValueError: for a pattern that is found in no path (a misspelt one would silently train what it meant to
        freeze), and when nothing is left to train.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    for pattern in freeze:
        if not any(re.search(pattern, path) for path in flat):
            raise ValueError(
                f"config.model.freeze pattern {pattern!r}: found in no parameter path, e.g. {next(iter(flat))}"
            )

    frozen = {path: leaf for path, leaf in flat.items() if any(re.search(pattern, path) for pattern in freeze)}
    trainable = {path: leaf for path, leaf in flat.items() if path not in frozen}
    if not trainable:
        raise ValueError(f"config.model.freeze={tuple(freeze)!r}: leaves no parameter to train")
    return traverse_util.unflatten_dict(trainable, sep="/"), traverse_util.unflatten_dict(frozen, sep="/")


def merge_params(trainable: dict, frozen: dict) -> dict:
    """The inverse of ``split_params``."""
    flat = traverse_util.flatten_dict(trainable, sep="/") | traverse_util.flatten_dict(frozen, sep="/")
    return traverse_util.unflatten_dict(flat, sep="/")


def count(params: dict) -> int:
    """Number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
