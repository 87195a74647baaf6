"""Flash attention in plain JAX, for CPUs. Of a row's [T, T] logits one block exists at a time, in a core's cache.

The outer loop goes over the blocks of queries of all rows. The inner loop goes over the blocks of keys that the outer
block sees; blocks above the diagonal, of sibling responses and of other groups cost nothing. The softmax is taken with
a running maximum (Dao 2023, arXiv 2307.08691, algorithms 1 and 2). The inner loop's length depends on the batch, which
JAX cannot differentiate backwards, so ``backward`` is written by hand; ``flash`` makes the two one differentiable
function. The arguments are those of ``splash``.

Inside, arrays are cut into blocks (``_split``). With n = B · S/BLOCK blocks, and G = H/N · BLOCK queries of a block
that share a key head:

    queries, d_out           [n, N, G, d]      the inputs' dtype
    keys, values             [n, N, BLOCK, d]  the inputs' dtype
    tags, each of the eight  [n, BLOCK]        int32
    logsumexp, delta         [n, N, G, 1]      float32
    logits, weights          [N, G, BLOCK]     float32, of one block of queries and one of keys
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gpmjax.arrays import Array
from gpmjax.models.attention.block_softmax import MASKED, AttentionSettings
from gpmjax.models.attention.visibility import KEY, OWN, POSITION, PROMPT, live_blocks, seen
from gpmjax.softcap import soft_cap, soft_cap_slope

BLOCK = 64
"""Slots of a block. A block's logits of nine heads take 147 KB: with their inputs they fit in a cache of 2 MB."""

_FLOOR = -1e20
"""The running maximum starts here, far above MASKED: exp(MASKED − maximum) is 0 even for a slot that sees no key."""


def forward(
    q: Float[Array, "B H S d"],
    k: Float[Array, "B N S d"],
    v: Float[Array, "B N S d"],
    tags: Int[Array, "B 8 S"],
    window: Int[Array, "1"],
    settings: AttentionSettings,
) -> tuple[Float[Array, "B H S d"], Float[Array, "B H S"]]:
    """Attention's output, 0 in padding, and the log-sum-exp of each query's logits in float32."""
    heads = k.shape[1]
    queries, keys, values = (_split(x, heads) for x in (q, k, v))
    tags_of, (visited, counts) = _split_tags(tags), _visits(tags, window)

    def one_block(block):
        query, mine, visit, count = block

        def step(n, carry):
            mixed, largest, total = carry  # Σ exp(logit − largest) v, the largest logit, Σ exp(logit − largest), so far
            at = visit[n]
            logits = _logits(query, mine, _at(keys, at), [_at(tag, at) for tag in tags_of], window, settings)
            peak = jnp.maximum(largest, jnp.max(logits, axis=-1))
            weights = jnp.exp(logits - peak[..., None])
            shrunk = jnp.exp(largest - peak)
            more = _product(weights.astype(v.dtype), _at(values, at), 2, 1)
            return mixed * shrunk[..., None] + more, peak, total * shrunk + jnp.sum(weights, axis=-1)

        start = jnp.zeros(query.shape, jnp.float32), *(jnp.full(query.shape[:2], x, jnp.float32) for x in (_FLOOR, 0.0))
        mixed, largest, total = jax.lax.fori_loop(0, count, step, start)
        total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)  # a padding slot's total is 0
        return (mixed / total[..., None]).astype(q.dtype), largest + jnp.log(total)

    mixed, logsumexp = jax.lax.map(one_block, (queries, tags_of, visited, counts))
    return _join(mixed, q.shape), _join(logsumexp[..., None], (*q.shape[:3], 1))[..., 0]


def backward(
    q: Float[Array, "B H S d"],
    k: Float[Array, "B N S d"],
    v: Float[Array, "B N S d"],
    tags: Int[Array, "B 8 S"],
    window: Int[Array, "1"],
    logsumexp: Float[Array, "B H S"],
    delta: Float[Array, "B H S"],
    d_out: Float[Array, "B H S d"],
    settings: AttentionSettings,
) -> tuple[Array, ...]:
    """The gradients of q, k and v, from the output's gradient ``d_out``; ``delta`` is ⟨out, d_out⟩ of each query."""
    heads = k.shape[1]
    queries, keys, values, d_out = (_split(x, heads) for x in (q, k, v, d_out))
    logsumexp, delta = (_split(x[..., None], heads) for x in (logsumexp, delta))
    tags_of, (visited, counts) = _split_tags(tags), _visits(tags, window)

    def one_block(d_others, block):
        query, mine, logsumexp, delta, d_out, visit, count = block

        def step(n, carry):
            d_query, d_keys, d_values = carry
            at = visit[n]
            key, value = _at(keys, at), _at(values, at)
            logits = _logits(query, mine, key, [_at(tag, at) for tag in tags_of], window, settings)
            weights = jnp.exp(logits - logsumexp)
            d_logits = weights * (_product(d_out, value, 2, 2) - delta) * settings.scale
            if settings.softcap is not None:
                # The maximum takes MASKED back into the cap's range; its weight is 0.
                d_logits *= soft_cap_slope(jnp.maximum(logits, -settings.softcap), settings.softcap)
            d_logits, weights = d_logits.astype(q.dtype), weights.astype(q.dtype)
            return (
                d_query + _product(d_logits, key, 2, 1),
                _add(d_keys, _product(d_logits, query, 1, 1), at),
                _add(d_values, _product(weights, d_out, 1, 1), at),
            )

        start = jnp.zeros(query.shape, jnp.float32), *d_others
        d_query, *d_others = jax.lax.fori_loop(0, count, step, start)
        return tuple(d_others), d_query.astype(q.dtype)

    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in (keys, values))
    d_others, d_queries = jax.lax.scan(one_block, start, (queries, tags_of, logsumexp, delta, d_out, visited, counts))
    gradients = zip((d_queries, *d_others), (q, k, v), strict=True)
    return tuple(_join(gradient.astype(x.dtype), x.shape) for gradient, x in gradients)


def _visits(tags: Array, window: Array) -> tuple[Int[Array, "all blocks"], Int[Array, "all"]]:
    """The blocks of keys that each block of queries sees: a list of indices into the n blocks, and its true length.

    The rest of a list is blocks of the same row that are not seen.
    """
    live = live_blocks(tags, BLOCK, BLOCK, window[0])
    rows, blocks = live.shape[:2]
    first = jnp.arange(0, rows * blocks, blocks, dtype=jnp.int32)
    visited = first[:, None, None] + jnp.argsort(~live, axis=2, stable=True).astype(jnp.int32)
    return visited.reshape(-1, blocks), jnp.sum(live, axis=2, dtype=jnp.int32).reshape(-1)


def _logits(
    query: Array, mine: list[Array], key: Array, theirs: list[Array], window: Array, settings: AttentionSettings
) -> Array:
    """One block's logits [N, G, BLOCK] float32: scaled, capped, and masked by the tags of queries and keys."""
    logits = soft_cap(_product(query, key, 2, 2) * settings.scale, settings.softcap)
    asking = [mine[name][:, None] for name in (POSITION, OWN, PROMPT)]
    mask = seen(*asking, key_position=theirs[POSITION][None], key=theirs[KEY][None], window=window[0])
    by_head = logits.reshape(logits.shape[0], -1, *mask.shape)
    return jnp.where(mask[None, None], by_head, MASKED).reshape(logits.shape)


def _product(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    """The product of a and b over one axis each, for every key head (axis 0), summed in float32."""
    return jax.lax.dot_general(a, b, (((a_axis,), (b_axis,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _at(x: Array, row: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(x, row, 0, keepdims=False)


def _add(x: Array, value: Array, row: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(x, _at(x, row) + value, row, 0)


def _split(x: Array, heads: int) -> Array:
    """[B, H, S, d] → [n, N, G, d]: the queries of a block that share a key head lie together."""
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
    """[B, 8, S] → eight arrays [n, BLOCK], apart, so that the loop over a block's logits reads them without strides."""
    return [tags[:, name].reshape(-1, BLOCK) for name in range(tags.shape[1])]
