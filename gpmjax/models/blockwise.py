"""Flash attention in plain JAX, for CPUs: what is left of a row's [T, T] is one block of it, small enough for a core's cache.

The blocks in which something is seen, of all rows, make one list, and one loop walks it; softmax is taken with running maxima
(Dao 2023, arXiv 2307.08691, algorithms 1 and 2). A block that nobody looks at, above the diagonal, of siblings or of another
group, is not in the list and costs nothing. The loop's length depends on the batch, so it is differentiated by hand.
``flash`` holds the rule, and puts this beside ``splash``, whose arguments these functions share.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gpmjax.arrays import Array
from gpmjax.models.block_softmax import Settings
from gpmjax.models.visibility import KEY, OWN, POSITION, PROMPT, live_blocks, seen

BLOCK = 64
"""Slots of a block. Logits of nine heads take 147 KB: they stay in a cache of 2 MB beside what they are made of."""

_MASKED = -1e30
_FLOOR = -1e20
"""Least running maximum: far above what is masked, so that e^(masked − maximum) is 0 even where nothing is seen."""


class _Visit(NamedTuple):
    """The n-th block of the list: which rows of the arrays of blocks, see ``_split``, hold its queries and its keys."""

    query: Array
    key: Array


def forward(
    q: Float[Array, "B H S d"],
    k: Float[Array, "B N S d"],
    v: Float[Array, "B N S d"],
    tags: Int[Array, "B 8 S"],
    window: Int[Array, "1"],
    settings: Settings,
) -> tuple[Float[Array, "B H S d"], Float[Array, "B H S"]]:
    """Mixed values, and log Σ exp of each query's logits in float32; padding slots give 0."""
    heads, size = k.shape[1], BLOCK
    count, visit = _visits(tags, size, window)
    queries, keys, values = (_split(x, heads, size) for x in (q, k, v))
    tags = _split_tags(tags, size)

    def step(n, carry):
        mixed, largest, total = carry
        at = visit(n)
        logits = _logits(queries, keys, tags, at, window, settings)
        before = _at(largest, at.query)
        peak = jnp.maximum(before, jnp.max(logits, axis=-1))
        weights = jnp.exp(logits - peak[..., None])
        shrunk = jnp.exp(before - peak)
        more = _product(weights.astype(v.dtype), _at(values, at.key), 2, 1)
        return (
            _put(mixed, _at(mixed, at.query) * shrunk[..., None] + more, at.query),
            _put(largest, peak, at.query),
            _put(total, _at(total, at.query) * shrunk + jnp.sum(weights, axis=-1), at.query),
        )

    start = jnp.zeros(queries.shape, jnp.float32), *(jnp.full(queries.shape[:3], x, jnp.float32) for x in (_FLOOR, 0.0))
    mixed, largest, total = jax.lax.fori_loop(0, count, step, start)
    total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)  # 0 where nothing is seen
    mixed = (mixed / total[..., None]).astype(q.dtype)
    return _join(mixed, q.shape), _join((largest + jnp.log(total))[..., None], (*q.shape[:3], 1))[..., 0]


def backward(
    q: Float[Array, "B H S d"],
    k: Float[Array, "B N S d"],
    v: Float[Array, "B N S d"],
    tags: Int[Array, "B 8 S"],
    window: Int[Array, "1"],
    total: Float[Array, "B H S"],
    mean: Float[Array, "B H S"],
    given: Float[Array, "B H S d"],
    settings: Settings,
) -> tuple[Array, Array, Array]:
    """Gradients of q, k and v, from ``given``, that of the mixed values; ``mean``: ⟨mixed, given⟩ of each query."""
    heads, size = k.shape[1], BLOCK
    count, visit = _visits(tags, size, window)
    queries, keys, values, given = (_split(x, heads, size) for x in (q, k, v, given))
    total, mean = (_split(x[..., None], heads, size) for x in (total, mean))
    tags = _split_tags(tags, size)

    def step(n, carry):
        d_queries, d_keys, d_values = carry
        at = visit(n)
        logits = _logits(queries, keys, tags, at, window, settings)
        weights = jnp.exp(logits - _at(total, at.query))
        change = weights * (_product(_at(given, at.query), _at(values, at.key), 2, 2) - _at(mean, at.query)) * settings.scale
        if settings.softcap is not None:
            change *= 1 - jnp.square(jnp.maximum(logits, -settings.softcap) / settings.softcap)
        change, weights = change.astype(q.dtype), weights.astype(q.dtype)
        return (
            _put(d_queries, _at(d_queries, at.query) + _product(change, _at(keys, at.key), 2, 1), at.query),
            _put(d_keys, _at(d_keys, at.key) + _product(change, _at(queries, at.query), 1, 1), at.key),
            _put(d_values, _at(d_values, at.key) + _product(weights, _at(given, at.query), 1, 1), at.key),
        )

    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in (queries, keys, values))
    changes = jax.lax.fori_loop(0, count, step, start)
    return tuple(_join(change.astype(x.dtype), x.shape) for change, x in zip(changes, (q, k, v)))


def _visits(tags: Array, size: int, window: Array):
    """How many blocks are visited, and a function from a number below that to the block."""
    live = live_blocks(tags, size, size, window[0])
    rows, blocks = live.shape[:2]
    query, key = np.tril_indices(blocks)
    row = np.arange(rows)[:, None] * blocks
    where = [jnp.asarray((row + side[None]).reshape(-1), jnp.int32) for side in (query, key)]
    wanted = live[:, query, key].reshape(-1)
    order = jnp.argsort(~wanted, stable=True)
    query, key = (side[order] for side in where)
    return jnp.sum(wanted, dtype=jnp.int32), lambda n: _Visit(query[n], key[n])


def _logits(queries: Array, keys: Array, tags: Array, at: _Visit, window: Array, settings: Settings) -> Array:
    """Of one block, [N, H/N · size, size] float32: scaled, capped and masked."""
    logits = _product(_at(queries, at.query), _at(keys, at.key), 2, 2) * settings.scale
    if settings.softcap is not None:
        logits = settings.softcap * jnp.tanh(logits / settings.softcap)
    mine, theirs = ([_at(tag, row) for tag in tags] for row in at)
    asking = [mine[name][:, None] for name in (POSITION, OWN, PROMPT)]
    mask = seen(*asking, theirs[POSITION][None], theirs[KEY][None], window[0])
    by_head = logits.reshape(logits.shape[0], -1, *mask.shape)
    return jnp.where(mask[None, None], by_head, _MASKED).reshape(logits.shape)


def _product(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    """a · b over the two axes, key head by key head, summed in float32."""
    return jax.lax.dot_general(a, b, (((a_axis,), (b_axis,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _at(x: Array, row: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(x, row, 0, keepdims=False)


def _put(x: Array, value: Array, row: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(x, value, row, 0)


def _split(x: Array, heads: int, size: int) -> Array:
    """[B, H, S, d] → [B · S/size, N, H/N · size, d]: a block's queries of one key head together."""
    rows, all_heads, slots, width = x.shape
    x = x.reshape(rows, heads, all_heads // heads, slots // size, size, width)
    return x.transpose(0, 3, 1, 2, 4, 5).reshape(rows * slots // size, heads, -1, width)


def _join(x: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of ``_split``."""
    rows, all_heads, slots, width = shape
    heads, blocks = x.shape[1], x.shape[0] // rows
    x = x.reshape(rows, blocks, heads, all_heads // heads, slots // blocks, width)
    return x.transpose(0, 2, 3, 1, 4, 5).reshape(shape)


def _split_tags(tags: Array, size: int) -> list[Array]:
    """[B, 8, S] → each tag's [B · S/size, size]; apart, so that the loop over a block's logits reads them without strides."""
    return [tags[:, name].reshape(-1, size) for name in range(tags.shape[1])]
