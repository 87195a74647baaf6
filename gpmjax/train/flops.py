"""Floating-point operations of an update, by formula.

Model FLOPs are those that the update needs (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): 2 for every weight
that a token is multiplied by in the forward pass, 2 more for the gradient of its input and 2 for that of the weight, so
6·N a token where everything trains; attention is added. Differences from one long sequence a row:

    shared prefix   a prompt that K responses share is computed once, and counted once
    attention       a token counts the slots that it may attend to, not the row's length
    padding         costs nothing
    frozen weights  have no gradient of their own; below the lowest trained one there is no backward pass at all
    embedding       a table that is only looked up multiplies nothing; one that predicts tokens does

Hardware FLOPs are those that are executed: every slot and every pair of slots of the padded rows, and everything that
the backward pass recomputes. They are an upper bound for attention kernels, which skip blocks of pairs that are masked
whole. MFU = model FLOPs / (seconds · chips · peak); HFU is the same with hardware FLOPs.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import traverse_util

from gpmjax.arrays import Array, FeatureBatch, TokenBatch, TokenLayout
from gpmjax.models.attention.flash import visited_pairs
from gpmjax.models.config import DecoderConfig, Runtime


class Work(NamedTuple):
    """How many of each thing that costs FLOPs a batch holds; scalars, over all hosts."""

    tokens: Array | float
    """Tokens that pass through the layers."""
    attended: Array | float
    """Pairs (query token, slot it attends to), summed over layers."""
    predicted: Array | float
    """Tokens whose log-probability is taken."""
    responses: Array | float
    """Responses that the heads read."""


def needed_work(config: DecoderConfig, batch: TokenBatch | FeatureBatch, lm_coefficient: float = 0.0) -> Work:
    """The work that a batch's tokens need, f32; may be traced. Padding needs none."""
    responses = jnp.sum(jnp.asarray(batch.response_mask), dtype=jnp.float32)
    nothing = jnp.zeros((), jnp.float32)
    if isinstance(batch, FeatureBatch):
        return Work(nothing, nothing, nothing, responses)
    predicted = jnp.sum(jnp.asarray(batch.lm_weight) > 0, dtype=jnp.float32) if lm_coefficient else nothing
    return Work(*layer_work(config, batch.layout), predicted, responses)


def layer_work(config: DecoderConfig, layout: TokenLayout) -> tuple[Array, Array]:
    """(tokens, attended pairs) that the layers need for rows of this layout; f32 scalars."""
    real = jnp.asarray(layout.group) > 0
    # A token sees its prompt and its response up to itself: as many slots as its position says, and itself.
    seen = jnp.where(real, jnp.asarray(layout.positions) + 1, 0).astype(jnp.float32)
    sliding = config.layer_types.count("sliding")
    attended = (config.num_layers - sliding) * jnp.sum(seen)
    if sliding:
        attended += sliding * jnp.sum(jnp.minimum(seen, config.window))
    return jnp.sum(real, dtype=jnp.float32), attended


def dense_work(config: DecoderConfig, rows: int, slots: int, responses: int, lm_coefficient: float = 0.0) -> Work:
    """The work executed for a batch of [rows, slots] with ``responses`` a row, padding and masked pairs included."""
    tokens = float(rows * slots)
    return Work(tokens, config.num_layers * tokens * slots, tokens if lm_coefficient else 0.0, float(rows * responses))


class Costs(NamedTuple):
    """FLOPs of an update for one unit of each kind of ``Work``."""

    token: float
    pair: float
    prediction: float
    response: float

    def of(self, work: Work) -> Array | float:
        """FLOPs of a whole update."""
        return sum(cost * amount for cost, amount in zip(self, work, strict=True))


def model_costs(config: DecoderConfig, sizes: Mapping[str, int], trained: Collection[str]) -> Costs:
    """FLOPs that an update needs.

    Args:
      sizes: number of scalars of every parameter by its path, such as "decoder/layers/mlp/up/kernel" (stacked: all
        layers').
      trained: the paths of those that train.

    With everything trained a token costs 6 a weight, and attention 12·(query width) a pair:

    >>> tiny = DecoderConfig(vocab_size=9, hidden_size=4, num_layers=1, num_heads=2, mlp_size=8)
    >>> model_costs(tiny, {"decoder/layers/mlp/up/kernel": 32}, ["decoder/layers/mlp/up/kernel"])
    Costs(token=192.0, pair=48.0, prediction=0.0, response=0.0)
    """
    return _costs(config, sizes, frozenset(trained), None)


def hardware_costs(
    config: DecoderConfig, sizes: Mapping[str, int], trained: Collection[str], runtime: Runtime
) -> Costs:
    """FLOPs that an update executes, by the same formula: recomputation by ``runtime.remat`` and attention included."""
    return _costs(config, sizes, frozenset(trained), runtime)


def effort(config: DecoderConfig, trained: Any, frozen: Any, work: Work, units: str) -> dict[str, Any]:
    """Metrics of a step that trains the parameters ``trained`` beside ``frozen`` ones: its model FLOPs and its units.

    f32 scalars: "model_flops", and the ``units`` ("tokens" or "responses") of its work; may be traced.
    """
    sizes, ours = _sizes(trained, frozen)
    return {units: getattr(work, units), "model_flops": model_costs(config, sizes, ours).of(work)}


def hardware_flops(config: DecoderConfig, runtime: Runtime, trained: Any, frozen: Any, work: Work) -> float:
    """FLOPs that an update of the parameters ``trained`` executes, for the ``dense_work`` of its batch.

    Flash attention skips more than is known here: of masked pairs only those above the diagonal are left out.
    """
    if runtime.attention == "flash" and work.tokens:
        slots = round(float(work.attended / work.tokens) / config.num_layers)
        work = work._replace(attended=config.num_layers * work.tokens / slots * visited_pairs(slots))
    return float(hardware_costs(config, *_sizes(trained, frozen), runtime).of(work))


def _sizes(trained: Any, frozen: Any) -> tuple[dict[str, int], list[str]]:
    """Scalars of every parameter by path, and the paths of those that train."""
    ours: Any = traverse_util.flatten_dict(trained, sep="/")
    theirs: Any = traverse_util.flatten_dict(frozen, sep="/")
    return {path: leaf.size for path, leaf in (ours | theirs).items()}, list(ours)


def _costs(config: DecoderConfig, sizes: Mapping[str, int], trained: frozenset[str], runtime: Runtime | None) -> Costs:
    per_unit = dict.fromkeys(("token", "prediction", "response"), 0.0)
    backward = any(_floor(path) <= _LAYERS for path in trained)
    for path, size in sizes.items():
        for kind in _uses(path, sizes):
            again = runtime is not None and _recomputed(path, kind, config, runtime, backward)
            # A tied table predicts at the top of the model, where it stands for lm_head.
            place = path if kind == "token" or path.startswith("heads/") else "decoder/lm_head/kernel"
            passes = 1 + (path in trained) + any(_feeds(other, place) for other in trained) + again
            per_unit[kind] += 2.0 * size * passes
    return Costs(
        token=per_unit["token"],
        pair=2.0 * config.q_size * _attention_products(runtime, trained, backward),
        prediction=per_unit["prediction"],
        response=per_unit["response"],
    )


_EMBED, _LAYERS, _TOP = range(3)


def _floor(path: str) -> int:
    """The level of a parameter in the model. All layers are one level: each feeds the next."""
    if path.startswith("decoder/embed"):
        return _EMBED
    return _LAYERS if path.startswith("decoder/layers") else _TOP


def _feeds(lower: str, upper: str) -> bool:
    """Whether the input of ``upper`` depends on ``lower``, so that training this one needs the gradient of that
    input."""
    if _floor(lower) == _floor(upper) == _LAYERS or _floor(lower) < _floor(upper):
        return True
    if lower.startswith("decoder/final_norm"):
        return upper.startswith(("heads/", "decoder/lm_head"))
    # The layers of an MLP head are named net_0, net_2, …
    ours, theirs = (re.fullmatch(r"(heads/\w+/net_)(\d+)/\w+", path) for path in (lower, upper))
    if ours is None or theirs is None:
        return False
    return ours[1] == theirs[1] and int(ours[2]) < int(theirs[2])


def _uses(path: str, paths: Collection[str]) -> list[str]:
    """The kinds of work that a parameter multiplies; norms, biases and looked-up tables none."""
    if path.startswith("heads/"):
        return ["response"] if path.endswith("/kernel") else []
    unembedding = "decoder/lm_head/kernel" if "decoder/lm_head/kernel" in paths else "decoder/embed/embedding"
    if path == unembedding:
        # A decoder without heads reads a response by the logits of its next token.
        headless = "decoder/final_norm/scale" in paths and not any(other.startswith("heads/") for other in paths)
        return ["prediction", "response"] if headless else ["prediction"]
    return ["token"] if re.search(r"layers/.*(kernel|lora_a|lora_b)$", path) else []


def _recomputed(path: str, kind: str, config: DecoderConfig, runtime: Runtime, backward: bool) -> bool:
    if kind == "prediction":  # losses.tokens recomputes every chunk's logits
        return True
    if kind != "token" or not backward or runtime.remat != "full":
        return False
    # The backward pass does not need a layer's last product, unless a norm follows it.
    return config.post_norms or not re.search(r"down/(kernel|lora_b)$", path)


def _attention_products(runtime: Runtime | None, trained: frozenset[str], backward: bool) -> int:
    """Products of (query, key) size a layer: q·k and weights·v, and two more each for their gradients."""
    if not backward:
        return 2
    if runtime is None:
        return 6
    kernels = runtime.attention in ("flash", "blockwise")
    again = 0
    if runtime.remat == "full":
        again = 2
    elif kernels:
        again = 0  # the kernels' outputs are kept by name
    elif runtime.remat == "dots":
        # Products with a batch dimension are not kept: q·k is recomputed, and weights·v where W_o's gradient needs it.
        again = 1 + any(re.search(r"attention/o/(kernel|lora_a)$", path) for path in trained)
    # Blocks recompute q·k; an accelerator's kernels do so for queries and for keys, and the weights' gradient too.
    return 6 + again + {"xla": 0, "chunked": 1, "blockwise": 1, "flash": 3}[runtime.attention]
