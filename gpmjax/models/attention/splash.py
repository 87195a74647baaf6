"""Sparse flash attention for TPUs: Pallas kernels over rows of groups; no buffer grows with the square of a row.

Softmax is taken block by block with running maxima (Dao 2023, arXiv 2307.08691, algorithms 1 and 2), and only blocks in
which something is seen are visited, as in jax's own splash attention. That one takes a mask that is known when it is
compiled, and segments; "its prompt and itself, not its siblings" is neither, for which the mask is made here, from
``visibility.slot_tags``. Merging two attentions by their log-sum-exp instead would need a backward pass of its own as well.

Each kernel walks a list of (query block, key block) steps, made outside of it and put into scalar memory; of what the next
step shares with this one nothing is fetched again.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from gpmjax.arrays import Array
from gpmjax.models.attention.block_softmax import MASKED, NT, Settings, block_logits, logits_gradient, product
from gpmjax.models.attention.visibility import KEY, OWN, POSITION, PROMPT, TAGS, live_blocks, seen
from gpmjax.models.attention.visits import FIRST, LAST, LIVE, Steps, block_size, step_count, visits

_LANES = 128


def _wide(column: Array, width: int) -> Array:
    """[n, 128] of equal columns → [n, width]."""
    return jnp.tile(column, (1, -(-width // _LANES)))[:, :width]


def _spread(rows: Array, names: tuple[int, ...], into) -> None:
    """Rows of [8, n] → columns, [n, 128] each, at the same places of a scratch buffer."""
    columns = rows.T
    for name in names:
        into[name] = jnp.broadcast_to(columns[:, name : name + 1], into.shape[1:])


def _on(steps: Steps, flag: int):
    """Runs what it decorates at steps with that flag."""
    at = pl.program_id(0) * pl.num_programs(2) + pl.program_id(2)
    return pl.when((steps.flags[at] & flag) != 0)


def _forward_kernel(
    outer, inner, flags, window, q, k, v, q_tags, k_tags, out, total, top, sums, mixed, own, *, settings
):
    """Per query block: ``out``, and ``total``, the log of its sum of exponentials, in a row."""
    steps = Steps(outer, inner, flags)
    size = q_tags.shape[2]

    @_on(steps, FIRST)
    def begin():
        top[...] = jnp.full_like(top, MASKED)
        sums[...], mixed[...] = jnp.zeros_like(sums), jnp.zeros_like(mixed)
        _spread(q_tags[0], (POSITION, OWN, PROMPT), own)

    @_on(steps, LIVE)
    def add():
        asks = (_wide(own[name], size) for name in (POSITION, OWN, PROMPT))
        mask = seen(*asks, k_tags[0, POSITION : POSITION + 1], k_tags[0, KEY : KEY + 1], window[0])
        logits = jnp.where(mask, block_logits(q[0, 0], k[0, 0], settings), MASKED)
        before = top[...]
        highest = jnp.maximum(before, jnp.max(logits, axis=1, keepdims=True))
        weights = jnp.exp(logits - _wide(highest, size))
        fade = jnp.exp(before - highest)
        top[...] = highest
        sums[...] = fade * sums[...] + jnp.sum(weights, axis=1, keepdims=True)
        mixed[...] = _wide(fade, mixed.shape[1]) * mixed[...] + product(weights, v[0, 0])

    @_on(steps, LAST)
    def end():
        # Padding has seen nothing: its output is 0, and a total without bound makes its weights 0 in the backward pass.
        some = top[...] > 0.5 * MASKED
        share = jnp.where(some, 1 / sums[...], 0.0)
        out[0, 0] = (mixed[...] * _wide(share, mixed.shape[1])).astype(out.dtype)
        total[0, 0] = jnp.where(some, top[...] + jnp.log(sums[...]), -MASKED).T[:1]


def _query_kernel(
    outer, inner, flags, window, q, k, v, q_tags, k_tags, rows, given, dq, gathered, own, sides, *, settings
):
    """Per query block: its gradient. ``rows``: total and mean, rows 0 and 1 of [8, block]; ``given``: gradient of the output."""
    steps = Steps(outer, inner, flags)
    size = q_tags.shape[2]

    @_on(steps, FIRST)
    def begin():
        gathered[...] = jnp.zeros_like(gathered)
        _spread(q_tags[0], (POSITION, OWN, PROMPT), own)
        _spread(rows[0, 0], (0, 1), sides)

    @_on(steps, LIVE)
    def add():
        asks = (_wide(own[name], size) for name in (POSITION, OWN, PROMPT))
        mask = seen(*asks, k_tags[0, POSITION : POSITION + 1], k_tags[0, KEY : KEY + 1], window[0])
        logits = block_logits(q[0, 0], k[0, 0], settings)
        weights = jnp.where(mask, jnp.exp(logits - _wide(sides[0], size)), 0.0)
        change = product(given[0, 0], v[0, 0], NT)
        gathered[...] += product(logits_gradient(weights, change, _wide(sides[1], size), logits, settings), k[0, 0])

    @_on(steps, LAST)
    def end():
        dq[0, 0] = gathered[...].astype(dq.dtype)


def _key_kernel(
    outer, inner, flags, window, q, k, v, q_tags, k_tags, rows, given, dk, dv, keys, values, own, *, settings
):
    """Per key block: gradients of keys and values, over all the query heads that read them. Logits are [keys, queries] here."""
    steps = Steps(outer, inner, flags)
    size, head, heads = q_tags.shape[2], pl.program_id(3), pl.num_programs(3)

    @_on(steps, FIRST)
    def begin():
        @pl.when(head == 0)
        def _():
            keys[...], values[...] = jnp.zeros_like(keys), jnp.zeros_like(values)
            _spread(k_tags[0], (POSITION, KEY), own)

    @_on(steps, LIVE)
    def add():
        asks = (q_tags[0, name : name + 1] for name in (POSITION, OWN, PROMPT))
        mask = seen(*asks, _wide(own[POSITION], size), _wide(own[KEY], size), window[0])
        logits = block_logits(k[0, 0], q[0, 0], settings)
        weights = jnp.where(mask, jnp.exp(logits - rows[0, 0, :1]), 0.0)
        change = product(v[0, 0], given[0, 0], NT)
        values[...] += product(weights, given[0, 0])
        keys[...] += product(logits_gradient(weights, change, rows[0, 0, 1:2], logits, settings), q[0, 0])

    @_on(steps, LAST)
    def end():
        @pl.when(head == heads - 1)
        def _():
            dk[0, 0], dv[0, 0] = keys[...].astype(dk.dtype), values[...].astype(dv.dtype)


def forward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, settings: Settings, *, interpret: bool = False
) -> tuple[Array, Array]:
    """Attention of q [B, H, S, d] over k and v [B, N, S, d]: the mix [B, H, S, d], and the log of its normaliser, [B, H, S] f32.

    Args:
      tags: ``slot_tags`` of the S slots, a multiple of their ``block_size``.
      window: [1] int32.
    """
    size, width = block_size(q.shape[2]), q.shape[3]
    columns = lambda *names: pltpu.VMEM((*names, size, _LANES), jnp.float32)
    steps = _steps(tags, size, window, keys_first=False)
    query, key, asks, tells, row = _specs(q, k, size, keys_first=False)
    out, total = _call(
        functools.partial(_forward_kernel, settings=settings),
        steps, window, (q, k, v, tags, tags), interpret,
        in_specs=[query, key, key, asks, tells],
        outputs=[(query, q.shape, q.dtype), (row(1), (*q.shape[:2], 1, q.shape[2]), jnp.float32)],
        scratch=[columns(), columns(), pltpu.VMEM((size, width), jnp.float32), _tag_columns(size)],
        products=2,
    )  # fmt: skip
    return out, total[:, :, 0]


def backward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, total: Array, mean: Array, given: Array,
    settings: Settings, *, interpret: bool = False,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Gradients of q, k and v, given that of the mix.

    Args:
      total: the forward pass's log of the normaliser, [B, H, S] f32.
      mean: Σ_d mix · given, [B, H, S] f32: what each weight's gradient is on average.
    """
    size, width = block_size(q.shape[2]), q.shape[3]
    rows = jnp.pad(jnp.stack([total, mean], axis=2), ((0, 0), (0, 0), (0, TAGS - 2), (0, 0)))
    arrays = (q, k, v, tags, tags, rows, given)
    block = pltpu.VMEM((size, width), jnp.float32)
    query, key, asks, tells, row = _specs(q, k, size, keys_first=False)
    (dq,) = _call(
        functools.partial(_query_kernel, settings=settings),
        _steps(tags, size, window, keys_first=False), window, arrays, interpret,
        in_specs=[query, key, key, asks, tells, row(TAGS), query],
        outputs=[(query, q.shape, q.dtype)],
        scratch=[block, _tag_columns(size), pltpu.VMEM((2, size, _LANES), jnp.float32)],
        products=3,
    )  # fmt: skip
    query, key, asks, tells, row = _specs(q, k, size, keys_first=True)
    dk, dv = _call(
        functools.partial(_key_kernel, settings=settings),
        _steps(tags, size, window, keys_first=True), window, arrays, interpret,
        in_specs=[query, key, key, asks, tells, row(TAGS), query],
        outputs=[(key, k.shape, k.dtype), (key, v.shape, v.dtype)],
        scratch=[block, block, _tag_columns(size)],
        products=4,
    )  # fmt: skip
    return dq, dk, dv


def _tag_columns(size: int):
    return pltpu.VMEM((PROMPT + 1, size, _LANES), jnp.int32)


def _steps(tags: Array, size: int, window: Array, keys_first: bool) -> Steps:
    return visits(live_blocks(tags, size, size, window[0]), keys_first)


def _specs(q: Array, k: Array, size: int, keys_first: bool):
    """Blocks of queries, of keys, of their tags, and of rows with a number a query, along a grid of [B, N, steps, H/N] or [B, H, steps, 1]."""
    group = q.shape[1] // k.shape[1]
    heads = (lambda h, g: (h * group + g, h)) if keys_first else (lambda h, g: (h, jax.lax.div(h, jnp.int32(group))))
    count = step_count(q.shape[2] // size)

    def at(b, t, outer, inner):
        sides = outer[b * count + t], inner[b * count + t]
        return sides[::-1] if keys_first else sides

    query = lambda b, h, t, g, outer, inner, *_: (b, heads(h, g)[0], at(b, t, outer, inner)[0], 0)
    key = lambda b, h, t, g, outer, inner, *_: (b, heads(h, g)[1], at(b, t, outer, inner)[1], 0)
    asks = lambda b, h, t, g, outer, inner, *_: (b, 0, at(b, t, outer, inner)[0])
    tells = lambda b, h, t, g, outer, inner, *_: (b, 0, at(b, t, outer, inner)[1])
    row = lambda b, h, t, g, outer, inner, *_: (b, heads(h, g)[0], 0, at(b, t, outer, inner)[0])
    block = (1, 1, size, q.shape[3])
    return (
        pl.BlockSpec(block, query),
        pl.BlockSpec(block, key),
        pl.BlockSpec((1, TAGS, size), asks),
        pl.BlockSpec((1, TAGS, size), tells),
        lambda rows: pl.BlockSpec((1, 1, rows, size), row),
    )


def _call(kernel, steps, window, arrays, interpret: bool, *, in_specs, outputs, scratch, products: int) -> list[Array]:
    """Runs a kernel over the steps. ``products``: of (query, key) size that it makes a block."""
    q, k = arrays[:2]
    rows, heads, slots, width = q.shape
    size = in_specs[0].block_shape[2]
    count = step_count(slots // size)
    # One head of keys after the other, or one of queries.
    outer = outputs[0][1][1]
    pairs = rows * heads * count * size * size
    cost = pl.CostEstimate(
        flops=2 * products * pairs * width,
        transcendentals=pairs,
        # A step fetches the two arrays of its inner block; what is accumulated for is fetched, and written, once.
        bytes_accessed=q.dtype.itemsize * (2 * pairs // size * width + sum(x.size for x in arrays if x.ndim == 4)),
    )
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=4,
        grid=(rows, outer, count, heads // outer),
        in_specs=in_specs,
        out_specs=[spec for spec, _, _ in outputs],
        scratch_shapes=scratch,
    )
    return pl.pallas_call(
        kernel,
        grid_spec=grid,
        out_shape=[jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in outputs],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary")),
        cost_estimate=cost,
        interpret=interpret,
        name=kernel.func.__name__.strip("_"),
    )(*steps, window, *arrays)
