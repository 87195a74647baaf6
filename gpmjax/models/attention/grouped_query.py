"""Grouped-query attention over rows of groups. The mask is computed from a ``TokenLayout``; no argument is a mask.

One function, ``attention``, has four implementations:

    "xla"        holds all of a row's logits at once, [B, H, T, T] float32
    "chunked"    takes a block of queries at a time, [B, H, block, T], and computes its logits again backwards
    "flash"      runs the platform's kernels (``flash``)
    "blockwise"  runs the kernels in plain JAX, which are a CPU's, on any platform

``cached_attention`` is the same function for a decode step, whose keys and values are mostly cached.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from gpmjax.arrays import Array, TokenLayout
from gpmjax.models.attention import blockwise
from gpmjax.models.attention.block_softmax import MASKED
from gpmjax.models.attention.flash import flash_attention
from gpmjax.models.cache import DecodeStep, Past
from gpmjax.models.config import ATTENTIONS, require_one_of
from gpmjax.softcap import soft_cap

AUTO = "auto"
NO_WINDOW = 2**30
"""A window that no text reaches the end of."""
CHUNK = 512
"""Queries of a block of "chunked"."""
_KERNELS = {"flash": None, "blockwise": blockwise}


def preferred(implementation: str = AUTO) -> str:
    """``implementation``; for "auto" this platform's for texts of any length: "blockwise" on CPUs, else "xla"."""
    if implementation != AUTO:
        return implementation
    return "blockwise" if jax.default_backend() == "cpu" else "xla"


def attention_mask(
    queries: TokenLayout, keys: TokenLayout, first_query: Int[Array, ""] | int, window: Int[Array, ""] | int | None
) -> Bool[Array, "B Q S"]:
    """The key slots that each query slot sees. ``queries`` starts at the row's slot ``first_query``, ``keys`` at 0.

    >>> layout = TokenLayout(*(jnp.array([row]) for row in ([0, 1, 2, 2, 0], [1, 1, 1, 1, 0], [0, 0, 1, 2, 0])))
    >>> attention_mask(layout, layout, 0, None)[0].astype(int).tolist()
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
    """
    q, k = (TokenLayout(*(jnp.expand_dims(a, axis) for a in side)) for side, axis in ((queries, 2), (keys, 1)))
    length = queries.group.shape[1], keys.group.shape[1]
    slots = (
        jax.lax.broadcasted_iota(jnp.int32, length, 1) <= jax.lax.broadcasted_iota(jnp.int32, length, 0) + first_query
    )
    seen = slots[None] & (q.group == k.group) & (k.group != 0) & ((k.response == 0) | (k.response == q.response))
    if window is not None:
        seen &= q.positions - k.positions < window
    return seen


def _attend(q, k, v, queries, keys, window, *, first_query, scale, softcap):
    """Attention of one block of queries over all the keys; q [B, Q, H, d], k and v [B, S, N, d], H a multiple of N."""
    logits = _logits("bqngd,bsnd->bngqs", _grouped(q, k.shape[2]), k, scale, softcap)
    mask = attention_mask(queries, keys, first_query, window)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, MASKED), axis=-1).astype(v.dtype)
    return jnp.einsum("bngqs,bsnd->bqngd", weights, v).reshape(q.shape)


def _grouped(q: Array, key_heads: int) -> Array:
    """[B, Q, H, d] → [B, Q, N, H/N, d]: the queries that share a key head lie together."""
    return q.reshape(*q.shape[:2], key_heads, -1, q.shape[3])


def _logits(contraction: str, q: Array, k: Array, scale: float, softcap: float | None) -> Array:
    return soft_cap(jnp.einsum(contraction, q, k, preferred_element_type=jnp.float32) * scale, softcap)


def attention(
    q: Float[Array, "B T H d"],
    k: Float[Array, "B T N d"],
    v: Float[Array, "B T N d"],
    layout: TokenLayout,
    *,
    scale: float,
    window: Int[Array, ""] | int | None = None,
    softcap: float | None = None,
    implementation: str = "xla",
    mesh: Mesh | None = None,
) -> Float[Array, "B T H d"]:
    """softmax(softcap·tanh(scale·q·k / softcap)) v over the slots that a slot sees; H/N query heads share a key head.

    Logits and softmax are float32.

    Args:
      window: how many positions a token sees, itself included; None or ``NO_WINDOW`` for all. It may be traced, so that
        layers with different windows share one compiled body.
      implementation: one of ``ATTENTIONS``.
      mesh: how "flash" and "blockwise" are split over devices; XLA cannot split these by itself.
    """
    require_one_of("attention", implementation, ATTENTIONS)
    static = dict(scale=scale, softcap=softcap)
    if implementation in _KERNELS:
        reach = NO_WINDOW if window is None else window
        return flash_attention(q, k, v, layout, window=reach, everywhere=_KERNELS[implementation], mesh=mesh, **static)
    if implementation == "xla":
        return _attend(q, k, v, layout, layout, window, first_query=0, **static)
    # A loop: the compiler would overlap unrolled blocks, and hold the logits of all of them at once.
    size = min(CHUNK, q.shape[1])
    queries = TokenLayout(*(_blocks(a, size) for a in layout))
    attend = jax.checkpoint(functools.partial(_attend, **static))
    mixed = jax.lax.map(
        lambda block: attend(block[0], k, v, block[1], layout, window, first_query=block[2]),
        (_blocks(q, size), queries, jnp.arange(0, q.shape[1], size, dtype=jnp.int32)),
    )
    return jnp.moveaxis(mixed, 0, 1).reshape(q.shape[0], -1, *q.shape[2:])[:, : q.shape[1]]


def cached_attention(
    q: Float[Array, "B K H d"],
    k: Float[Array, "B K N d"],
    v: Float[Array, "B K N d"],
    past: Past,
    at: DecodeStep,
    *,
    scale: float,
    window: Int[Array, ""] | int | None = None,
    softcap: float | None = None,
) -> Float[Array, "B K H d"]:
    """The same softmax for one new token of K responses, over the prompt, the response's past and the token itself.

    The prompt's keys are read once for all K responses. No response reads another response's keys.
    """
    shared, own = "bsnd", "bksnd"
    parts = (
        (shared, past.prompt_k, past.prompt_v),
        (own, past.response_k, past.response_v),
        (own, k[:, :, None], v[:, :, None]),
    )
    grouped = _grouped(q, k.shape[2])
    logits = [_logits(f"bkngd,{axes}->bkngs", grouped, keys, scale, softcap) for axes, keys, _ in parts]
    seen = past_mask(at, past.prompt_k.shape[1], past.response_k.shape[2], window)
    logits = jnp.where(seen[:, None, None, None], jnp.concatenate(logits, axis=-1), MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    shares = jnp.split(weights, [past.prompt_k.shape[1], weights.shape[-1] - 1], axis=-1)
    mixed = [
        jnp.einsum(f"bkngs,{axes}->bkngd", share, values)
        for share, (axes, _, values) in zip(shares, parts, strict=True)
    ]
    whole: Any = sum(mixed)
    return whole.reshape(q.shape)


def past_mask(
    at: DecodeStep, prompt_slots: int, response_slots: int, window: Int[Array, ""] | int | None
) -> Bool[Array, "B S"]:
    """The slots that a new token sees: slots of the prompt, then slots of its response's past, then the token itself.

    >>> past_mask(DecodeStep(jnp.array([2]), jnp.array(1)), 3, 2, None).astype(int).tolist()
    [[1, 1, 0, 1, 0, 1]]
    >>> past_mask(DecodeStep(jnp.array([2]), jnp.array(1)), 3, 2, 2).astype(int).tolist()
    [[0, 0, 0, 1, 0, 1]]
    """
    window = NO_WINDOW if window is None else window
    length, step = jnp.asarray(at.prompt_length)[:, None], jnp.asarray(at.step)
    prompt, response = (jnp.arange(slots, dtype=jnp.int32)[None] for slots in (prompt_slots, response_slots))
    of_prompt = (prompt < length) & (length + step - prompt < window)
    of_response = (response < step) & (step - response < window)
    for_all = [jnp.broadcast_to(seen, (length.shape[0], seen.shape[1])) for seen in (of_response, jnp.array([[True]]))]
    return jnp.concatenate([of_prompt, *for_all], axis=1)


def _blocks(x: Array, size: int) -> Array:
    """[B, T, ...] → [T/size, B, size, ...], with zeros at the end where ``size`` does not divide T."""
    count = -(-x.shape[1] // size)
    padding = [(0, count * size - x.shape[1] if axis == 1 else 0) for axis in range(x.ndim)]
    return jnp.moveaxis(jnp.pad(x, padding).reshape(x.shape[0], count, size, *x.shape[2:]), 1, 0)
