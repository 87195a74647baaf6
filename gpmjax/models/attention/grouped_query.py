"""Grouped-query attention over rows of groups; the mask is computed from a ``TokenLayout``, never handed in.

Four implementations of one function: "xla" holds all of a row's logits at once, [B, H, T, T] float32; "chunked" takes the
queries a block at a time, [B, H, block, T], and computes the block's logits anew in the backward pass; "flash" runs the
kernels of the platform (``flash``), "blockwise" those in plain JAX, which are a CPU's, on any. A decode step, whose keys and
values are mostly cached, has ``cached_attention``.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from gpmjax.arrays import Array, TokenLayout
from gpmjax.models.attention import blockwise
from gpmjax.models.attention.flash import flash_attention
from gpmjax.models.cache import DecodeStep, Past
from gpmjax.models.config import ATTENTIONS, require_one_of

AUTO = "auto"
NO_WINDOW = 2**30
CHUNK = 512
_KERNELS = {"flash": None, "blockwise": blockwise}
# Finite, so that a padding slot, which sees nothing, averages everything and stays a number.
_MASKED = -1e30


def preferred(implementation: str = AUTO) -> str:
    """The implementation to run texts of any length with on this platform, where none is named: "blockwise" on CPUs, else "xla"."""
    if implementation != AUTO:
        return implementation
    return "blockwise" if jax.default_backend() == "cpu" else "xla"


def attention_mask(
    queries: TokenLayout, keys: TokenLayout, first_query: Int[Array, ""] | int, window: Int[Array, ""] | int | None
) -> Bool[Array, "B Q S"]:
    """Which key slots each query slot sees. ``queries`` starts at slot ``first_query`` of the row, ``keys`` at slot 0.

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
    """One block of queries against all the keys given; q [B, Q, H, d], k and v [B, S, N, d], H a multiple of N."""
    logits = _logits("bqngd,bsnd->bngqs", _grouped(q, k.shape[2]), k, scale, softcap)
    mask = attention_mask(queries, keys, first_query, window)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, _MASKED), axis=-1).astype(v.dtype)
    return jnp.einsum("bngqs,bsnd->bqngd", weights, v).reshape(q.shape)


def _grouped(q: Array, key_heads: int) -> Array:
    """[B, Q, H, d] → [B, Q, N, H/N, d]: the queries of each key head together."""
    return q.reshape(*q.shape[:2], key_heads, -1, q.shape[3])


def _logits(contraction: str, q: Array, k: Array, scale: float, softcap: float | None) -> Array:
    logits = jnp.einsum(contraction, q, k, preferred_element_type=jnp.float32) * scale
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


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
    """softmax(softcap·tanh(scale·q·k / softcap)) v over the slots each slot may see; N key heads, H/N queries to each.

    ``window``: positions a token sees, itself included; may be traced (one compiled body for layers that differ);
    None or ``NO_WINDOW`` for all. Logits and softmax are float32. ``mesh``: for "flash" and "blockwise", which
    XLA cannot split by itself.
    """
    require_one_of("attention", implementation, ATTENTIONS)
    static = dict(scale=scale, softcap=softcap)
    if implementation in _KERNELS:
        reach = NO_WINDOW if window is None else window
        return flash_attention(q, k, v, layout, window=reach, everywhere=_KERNELS[implementation], mesh=mesh, **static)
    if implementation == "xla":
        return _attend(q, k, v, layout, layout, window, first_query=0, **static)
    # A loop, not blocks side by side: those the compiler overlaps, and then holds all their logits after all.
    size = min(CHUNK, q.shape[1])
    queries = TokenLayout(*(_blocks(a, size) for a in layout))
    one = jax.checkpoint(functools.partial(_attend, **static))
    mixed = jax.lax.map(
        lambda block: one(block[0], k, v, block[1], layout, window, first_query=block[2]),
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
    """The same softmax for one new token of each of K responses: over their prompt, their own past, and themselves.

    The prompt's keys are read once for all K responses, and no response reads another's.
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
    logits = jnp.where(seen[:, None, None, None], jnp.concatenate(logits, axis=-1), _MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    shares = jnp.split(weights, [past.prompt_k.shape[1], weights.shape[-1] - 1], axis=-1)
    mixed = [jnp.einsum(f"bkngs,{axes}->bkngd", share, values) for share, (axes, _, values) in zip(shares, parts)]
    return sum(mixed).reshape(q.shape)


def past_mask(
    at: DecodeStep, prompt_slots: int, response_slots: int, window: Int[Array, ""] | int | None
) -> Bool[Array, "B S"]:
    """What a new token sees: slots of the prompt, then of its response's past, then itself.

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
    everywhere = lambda seen: jnp.broadcast_to(seen, (length.shape[0], seen.shape[1]))
    return jnp.concatenate([of_prompt, everywhere(of_response), everywhere(jnp.array([[True]]))], axis=1)


def _blocks(x: Array, size: int) -> Array:
    """[B, T, ...] → [T/size, B, size, ...], zeros at the end where T is no multiple."""
    count = -(-x.shape[1] // size)
    padding = [(0, count * size - x.shape[1] if axis == 1 else 0) for axis in range(x.ndim)]
    return jnp.moveaxis(jnp.pad(x, padding).reshape(x.shape[0], count, size, *x.shape[2:]), 1, 0)
