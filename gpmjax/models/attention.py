"""Grouped-query attention over rows of groups; the mask is computed from a ``TokenLayout``, never handed in.

Two implementations of one function: "xla" holds all of a row's logits at once, [B, H, T, T] float32; "chunked" takes the
queries in blocks, [B, H, block, T], each against the keys up to its own end (half the work of the former) and computes
them anew in the backward pass.
"""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gpmjax.arrays import TokenLayout
from gpmjax.models.config import AttentionImplementation, require_one_of

NO_WINDOW = 2**30
CHUNK = 512
# Finite, so that a padding slot, which sees nothing, averages everything and stays a number.
_MASKED = -1e30


def attention_mask(
    queries: TokenLayout, keys: TokenLayout, first_query: int, window: Int[Array, ""] | int | None
) -> Bool[Array, "B Q S"]:
    """Which key slots each query slot sees. ``queries`` starts at slot ``first_query`` of the row, ``keys`` at slot 0.

    >>> layout = TokenLayout(*(jnp.array([row]) for row in ([0, 1, 2, 2, 0], [1, 1, 1, 1, 0], [0, 0, 1, 2, 0])))
    >>> attention_mask(layout, layout, 0, None)[0].astype(int).tolist()
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
    """
    q, k = (TokenLayout(*(jnp.expand_dims(a, axis) for a in side)) for side, axis in ((queries, 2), (keys, 1)))
    length = queries.group.shape[1], keys.group.shape[1]
    slots = jax.lax.broadcasted_iota(jnp.int32, length, 1) <= jax.lax.broadcasted_iota(jnp.int32, length, 0) + first_query
    seen = slots[None] & (q.group == k.group) & (k.group != 0) & ((k.response == 0) | (k.response == q.response))
    if window is not None:
        seen &= q.positions - k.positions < window
    return seen


def _attend(q, k, v, queries, keys, window, *, first_query, scale, softcap):
    """One block of queries against all the keys given; q [B, Q, H, d], k and v [B, S, N, d], H a multiple of N."""
    batch, length, heads, size = q.shape
    grouped = q.reshape(batch, length, k.shape[2], heads // k.shape[2], size)
    logits = jnp.einsum("bqngd,bsnd->bngqs", grouped, k, preferred_element_type=jnp.float32) * scale
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    mask = attention_mask(queries, keys, first_query, window)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, _MASKED), axis=-1).astype(v.dtype)
    return jnp.einsum("bngqs,bsnd->bqngd", weights, v).reshape(batch, length, heads, size)


def attention(
    q: Float[Array, "B T H d"],
    k: Float[Array, "B T N d"],
    v: Float[Array, "B T N d"],
    layout: TokenLayout,
    *,
    scale: float,
    window: Int[Array, ""] | int | None = None,
    softcap: float | None = None,
    implementation: AttentionImplementation = "xla",
) -> Float[Array, "B T H d"]:
    """softmax(softcap·tanh(scale·q·k / softcap)) v over the slots each slot may see; N key heads, H/N queries to each.

    ``window``: positions a token sees, itself included; may be traced (one compiled body for layers that differ);
    None or ``NO_WINDOW`` for all. Logits and softmax are float32.
    """
    require_one_of("attention", implementation, get_args(AttentionImplementation))
    static = dict(scale=scale, softcap=softcap)
    if implementation == "xla":
        return _attend(q, k, v, layout, layout, window, first_query=0, **static)
    blocks = []
    for start in range(0, q.shape[1], CHUNK):
        stop = min(start + CHUNK, q.shape[1])
        queries, keys = (TokenLayout(*(a[:, first:stop] for a in layout)) for first in (start, 0))
        block = jax.checkpoint(functools.partial(_attend, first_query=start, **static))
        blocks.append(block(q[:, start:stop], k[:, :stop], v[:, :stop], queries, keys, window))
    return jnp.concatenate(blocks, axis=1)
