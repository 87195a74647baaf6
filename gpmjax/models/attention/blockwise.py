"""Flash attention in plain JAX, for CPUs: what is left of a row's [T, T] is one block of it, small enough for a core's cache.

One loop goes over the blocks of queries of all rows, a loop inside it over the blocks of keys in which these see something;
softmax is taken with running maxima (Dao 2023, arXiv 2307.08691, algorithms 1 and 2). A block that nobody looks at, above the
diagonal, of siblings or of another group, costs nothing. The inner loop's length depends on the batch, so all of it is
differentiated by hand. ``flash`` holds the rule, and puts this beside ``splash``, whose arguments these functions share.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gpmjax.arrays import Array
from gpmjax.models.attention.block_softmax import Settings
from gpmjax.models.attention.visibility import KEY, OWN, POSITION, PROMPT, live_blocks, seen

BLOCK = 64
"""Slots of a block. Logits of nine heads take 147 KB: they stay in a cache of 2 MB beside what they are made of."""

_MASKED = -1e30
_FLOOR = -1e20
"""Least running maximum: far above what is masked, so that e^(masked − maximum) is 0 even where nothing is seen."""


def forward(
    q: Float[Array, "B H S d"],
    k: Float[Array, "B N S d"],
    v: Float[Array, "B N S d"],
    tags: Int[Array, "B 8 S"],
    window: Int[Array, "1"],
    settings: Settings,
) -> tuple[Float[Array, "B H S d"], Float[Array, "B H S"]]:
    """Mixed values, and log Σ exp of each query's logits in float32; padding slots give 0."""
    heads = k.shape[1]
    queries, keys, values = (_split(x, heads) for x in (q, k, v))
    tags_of, (visited, counts) = _split_tags(tags), _visits(tags, window)

    def one(block):
        query, mine, visit, count = block

        def step(n, carry):
            mixed, largest, total = carry
            at = visit[n]
            logits = _logits(query, mine, _at(keys, at), [_at(tag, at) for tag in tags_of], window, settings)
            peak = jnp.maximum(largest, jnp.max(logits, axis=-1))
            weights = jnp.exp(logits - peak[..., None])
            shrunk = jnp.exp(largest - peak)
            more = _product(weights.astype(v.dtype), _at(values, at), 2, 1)
            return mixed * shrunk[..., None] + more, peak, total * shrunk + jnp.sum(weights, axis=-1)

        start = jnp.zeros(query.shape, jnp.float32), *(jnp.full(query.shape[:2], x, jnp.float32) for x in (_FLOOR, 0.0))
        mixed, largest, total = jax.lax.fori_loop(0, count, step, start)
        total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)  # 0 where nothing is seen
        return (mixed / total[..., None]).astype(q.dtype), largest + jnp.log(total)

    mixed, total = jax.lax.map(one, (queries, tags_of, visited, counts))
    return _join(mixed, q.shape), _join(total[..., None], (*q.shape[:3], 1))[..., 0]


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
    heads = k.shape[1]
    queries, keys, values, given = (_split(x, heads) for x in (q, k, v, given))
    total, mean = (_split(x[..., None], heads) for x in (total, mean))
    tags_of, (visited, counts) = _split_tags(tags), _visits(tags, window)

    def one(d_others, block):
        query, mine, total, mean, given, visit, count = block

        def step(n, carry):
            d_query, d_keys, d_values = carry
            at = visit[n]
            key, value = _at(keys, at), _at(values, at)
            logits = _logits(query, mine, key, [_at(tag, at) for tag in tags_of], window, settings)
            weights = jnp.exp(logits - total)
            change = weights * (_product(given, value, 2, 2) - mean) * settings.scale
            if settings.softcap is not None:
                change *= 1 - jnp.square(jnp.maximum(logits, -settings.softcap) / settings.softcap)
            change, weights = change.astype(q.dtype), weights.astype(q.dtype)
            return (
                d_query + _product(change, key, 2, 1),
                _add(d_keys, _product(change, query, 1, 1), at),
                _add(d_values, _product(weights, given, 1, 1), at),
            )

        start = jnp.zeros(query.shape, jnp.float32), *d_others
        d_query, *d_others = jax.lax.fori_loop(0, count, step, start)
        return tuple(d_others), d_query.astype(q.dtype)

    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in (keys, values))
    d_others, d_queries = jax.lax.scan(one, start, (queries, tags_of, total, mean, given, visited, counts))
    changes = zip((d_queries, *d_others), (q, k, v), strict=True)
    return tuple(_join(change.astype(x.dtype), x.shape) for change, x in changes)


def _visits(tags: Array, window: Array) -> tuple[Int[Array, "all blocks"], Int[Array, "all"]]:
    """Which rows of the arrays of blocks, see ``_split``, hold the keys that each block of queries sees, and how many do.

    The first ``count`` of a block's list are those; the rest of it means nothing.
    """
    live = live_blocks(tags, BLOCK, BLOCK, window[0])
    rows, blocks = live.shape[:2]
    first = jnp.arange(0, rows * blocks, blocks, dtype=jnp.int32)
    visited = first[:, None, None] + jnp.argsort(~live, axis=2, stable=True).astype(jnp.int32)
    return visited.reshape(-1, blocks), jnp.sum(live, axis=2, dtype=jnp.int32).reshape(-1)


def _logits(
    query: Array, mine: list[Array], key: Array, theirs: list[Array], window: Array, settings: Settings
) -> Array:
    """Of one block, [N, H/N · size, size] float32: scaled, capped and masked by the tags of both sides."""
    logits = _product(query, key, 2, 2) * settings.scale
    if settings.softcap is not None:
        logits = settings.softcap * jnp.tanh(logits / settings.softcap)
    asking = [mine[name][:, None] for name in (POSITION, OWN, PROMPT)]
    mask = seen(*asking, theirs[POSITION][None], theirs[KEY][None], window[0])
    by_head = logits.reshape(logits.shape[0], -1, *mask.shape)
    return jnp.where(mask[None, None], by_head, _MASKED).reshape(logits.shape)


def _product(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    """a · b over the two axes, key head by key head, summed in float32."""
    return jax.lax.dot_general(a, b, (((a_axis,), (b_axis,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _at(x: Array, row: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(x, row, 0, keepdims=False)


def _add(x: Array, value: Array, row: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(x, _at(x, row) + value, row, 0)


def _split(x: Array, heads: int) -> Array:
    """[B, H, S, d] → [B · S/size, N, H/N · size, d]: a block's queries of one key head together."""
    rows, all_heads, slots, width = x.shape
    x = x.reshape(rows, heads, all_heads // heads, slots // BLOCK, BLOCK, width)
    return x.transpose(0, 3, 1, 2, 4, 5).reshape(rows * slots // BLOCK, heads, -1, width)


def _join(x: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of ``_split``."""
    rows, all_heads, slots, width = shape
    heads, blocks = x.shape[1], x.shape[0] // rows
    x = x.reshape(rows, blocks, heads, all_heads // heads, slots // blocks, width)
    return x.transpose(0, 2, 3, 1, 4, 5).reshape(shape)


def _split_tags(tags: Array) -> list[Array]:
    """[B, 8, S] → each tag's [B · S/size, size]; apart, so that the loop over a block's logits reads them without strides."""
    return [tags[:, name].reshape(-1, BLOCK) for name in range(tags.shape[1])]
