"""Sparse flash attention for TPUs: Pallas kernels over rows of groups. No buffer grows with the square of a row.

The softmax is taken block by block with a running maximum (Dao 2023, arXiv 2307.08691, algorithms 1 and 2), and only
blocks in which a query sees a key are visited, as in jax's own splash attention. That one takes segments, and a mask
that is known when it is compiled. "Its prompt and itself, not its siblings" is neither, so these kernels make the mask
from ``visibility.slot_tags``. (To merge two attentions by their log-sum-exp would need a backward pass of its own as
well.)

Arrays in HBM, for B rows of S slots, H query heads and N key heads of size d:

    q, out, d_out, dq    [B, H, S, d]   the model's dtype
    k, v, dk, dv         [B, N, S, d]   the model's dtype
    tags                 [B, 8, S]      int32, visibility.slot_tags; a kernel gets them twice, for queries and for keys
    logsumexp            [B, H, 1, S]   float32, log Σ exp of each query's logits
    stats                [B, H, 8, S]   float32, row 0 logsumexp, row 1 delta = Σ_d out · d_out, rows 2 to 7 are 0

A *block* is ``size`` slots (``visits.block_size``). A *step* is one (outer block, inner block) pair: the outer block is
the one that is accumulated for, of queries in ``_forward_kernel`` and ``_query_kernel``, of keys in ``_key_kernel``.
The list of steps is made outside the kernel (``visits``) and lies in scalar memory (SMEM). Pallas copies a step's
blocks from HBM to VMEM ahead of the step; a block that the next step shares with this one is not copied again. The grid
has four axes:

    axis 0  b, the row              parallel
    axis 1  h, the outer head       parallel    H query heads, or N key heads in _key_kernel
    axis 2  t, the step of the row  in order    scratch buffers keep their values from step to step
    axis 3  g, the inner head       in order    1, or in _key_kernel the H/N query heads that read key head h

So one program (b, h, t, g) adds one inner block to the sums in scratch. It sets them to 0 at the first step of its
outer block, and writes the result at the last.

Every kernel's first four arguments are in SMEM: ``outer``, ``inner`` and ``flags``, [B · steps] int32 each
(``visits.Steps``), and ``window``, [1] int32. The others are blocks in VMEM. They are inputs, outputs and scratch.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from gpmjax.arrays import Array
from gpmjax.models.attention.block_softmax import MASKED, NT, AttentionSettings, block_logits, logits_gradient, product
from gpmjax.models.attention.visibility import KEY, OWN, POSITION, PROMPT, TAGS, live_blocks, seen
from gpmjax.models.attention.visits import FIRST, LAST, LIVE, Steps, block_size, step_count, visits

_LANES = 128
"""Lanes of a TPU's vector registers. A number per query is kept as a column [n, 128] of equal lanes."""


def _wide(column: Array, width: int) -> Array:
    """A column [n, 128] of equal lanes → [n, width]."""
    return jnp.tile(column, (1, -(-width // _LANES)))[:, :width]


def _to_columns(rows: Array, names: tuple[int, ...], into) -> None:
    """Writes the rows ``names`` of [8, n] as columns [n, 128], to the same places of the scratch buffer ``into``."""
    columns = rows.T
    for name in names:
        into[name] = jnp.broadcast_to(columns[:, name : name + 1], into.shape[1:])


def _on(steps: Steps, flag: int):
    """A decorator that runs a function at once, on those steps that have ``flag`` set."""
    at = pl.program_id(0) * pl.num_programs(2) + pl.program_id(2)
    return pl.when((steps.flags[at] & flag) != 0)


def _forward_kernel(
    outer, inner, flags, window, q, k, v, q_tags, k_tags, out, logsumexp, top, total, mixed, q_columns, *, settings
):
    """Attention of one block of queries over the blocks of keys that it sees.

    Inputs    q [1, 1, size, d] (outer); k, v [1, 1, size, d] (inner); q_tags, k_tags [1, 8, size] int32
    Outputs   out [1, 1, size, d]; logsumexp [1, 1, 1, size] float32
    Scratch   top [size, 128] float32: the largest logit so far; total [size, 128] float32: Σ exp(logit − top) so far;
              mixed [size, d] float32: Σ exp(logit − top) v so far; q_columns [4, size, 128] int32: q_tags as columns
    """
    steps = Steps(outer, inner, flags)
    size = q_tags.shape[2]

    @_on(steps, FIRST)
    def begin():
        top[...] = jnp.full_like(top, MASKED)
        total[...], mixed[...] = jnp.zeros_like(total), jnp.zeros_like(mixed)
        _to_columns(q_tags[0], (POSITION, OWN, PROMPT), q_columns)

    @_on(steps, LIVE)
    def add():
        asks = [_wide(q_columns[name], size) for name in (POSITION, OWN, PROMPT)]
        mask = seen(
            *asks, key_position=k_tags[0, POSITION : POSITION + 1], key=k_tags[0, KEY : KEY + 1], window=window[0]
        )
        logits = jnp.where(mask, block_logits(q[0, 0], k[0, 0], settings), MASKED)  # [queries, keys]
        before = top[...]
        highest = jnp.maximum(before, jnp.max(logits, axis=1, keepdims=True))
        weights = jnp.exp(logits - _wide(highest, size))
        fade = jnp.exp(before - highest)  # takes the sums so far to the new maximum
        top[...] = highest
        total[...] = fade * total[...] + jnp.sum(weights, axis=1, keepdims=True)
        mixed[...] = _wide(fade, mixed.shape[1]) * mixed[...] + product(weights, v[0, 0])

    @_on(steps, LAST)
    def end():
        # A padding slot sees no key. Its output is 0, and its log-sum-exp of 1e30 makes its weights 0 in the backward
        # pass.
        some = top[...] > 0.5 * MASKED
        share = jnp.where(some, 1 / total[...], 0.0)
        out[0, 0] = (mixed[...] * _wide(share, mixed.shape[1])).astype(out.dtype)
        logsumexp[0, 0] = jnp.where(some, top[...] + jnp.log(total[...]), -MASKED).T[:1]


def _query_kernel(
    outer, inner, flags, window, q, k, v, q_tags, k_tags, stats, d_out, dq, sum_dq, q_columns, stat_columns, *, settings
):
    """The gradient of one block of queries, summed over the blocks of keys that it sees.

    Inputs    q, d_out [1, 1, size, d] (outer); k, v [1, 1, size, d] (inner); q_tags, k_tags [1, 8, size] int32;
              stats [1, 1, 8, size] float32 (outer)
    Outputs   dq [1, 1, size, d]
    Scratch   sum_dq [size, d] float32; q_columns [4, size, 128] int32: q_tags as columns;
              stat_columns [2, size, 128] float32: logsumexp and delta as columns
    """
    steps = Steps(outer, inner, flags)
    size = q_tags.shape[2]

    @_on(steps, FIRST)
    def begin():
        sum_dq[...] = jnp.zeros_like(sum_dq)
        _to_columns(q_tags[0], (POSITION, OWN, PROMPT), q_columns)
        _to_columns(stats[0, 0], (0, 1), stat_columns)

    @_on(steps, LIVE)
    def add():
        asks = [_wide(q_columns[name], size) for name in (POSITION, OWN, PROMPT)]
        mask = seen(
            *asks, key_position=k_tags[0, POSITION : POSITION + 1], key=k_tags[0, KEY : KEY + 1], window=window[0]
        )
        logits = block_logits(q[0, 0], k[0, 0], settings)  # [queries, keys]
        weights = jnp.where(mask, jnp.exp(logits - _wide(stat_columns[0], size)), 0.0)
        d_weights = product(d_out[0, 0], v[0, 0], NT)
        sum_dq[...] += product(
            logits_gradient(weights, d_weights, _wide(stat_columns[1], size), logits, settings), k[0, 0]
        )

    @_on(steps, LAST)
    def end():
        dq[0, 0] = sum_dq[...].astype(dq.dtype)


def _key_kernel(
    outer, inner, flags, window, q, k, v, q_tags, k_tags, stats, d_out, dk, dv, sum_dk, sum_dv, k_columns, *, settings
):
    """The gradients of one block of keys and values, summed over the blocks of queries, of all heads, that see it.

    Logits are [keys, queries] here: numbers per query are rows, and need no transpose.

    Inputs    k, v [1, 1, size, d] (outer); q, d_out [1, 1, size, d] (inner, query head g of the key head's group);
              q_tags, k_tags [1, 8, size] int32; stats [1, 1, 8, size] float32 (inner)
    Outputs   dk, dv [1, 1, size, d]
    Scratch   sum_dk, sum_dv [size, d] float32; k_columns [4, size, 128] int32: k_tags as columns
    """
    steps = Steps(outer, inner, flags)
    size, head, heads = q_tags.shape[2], pl.program_id(3), pl.num_programs(3)

    @_on(steps, FIRST)
    def begin():
        @pl.when(head == 0)
        def _():
            sum_dk[...], sum_dv[...] = jnp.zeros_like(sum_dk), jnp.zeros_like(sum_dv)
            _to_columns(k_tags[0], (POSITION, KEY), k_columns)

    @_on(steps, LIVE)
    def add():
        asks = [q_tags[0, name : name + 1] for name in (POSITION, OWN, PROMPT)]
        mask = seen(
            *asks, key_position=_wide(k_columns[POSITION], size), key=_wide(k_columns[KEY], size), window=window[0]
        )
        logits = block_logits(k[0, 0], q[0, 0], settings)  # [keys, queries]
        weights = jnp.where(mask, jnp.exp(logits - stats[0, 0, :1]), 0.0)
        d_weights = product(v[0, 0], d_out[0, 0], NT)
        sum_dv[...] += product(weights, d_out[0, 0])
        sum_dk[...] += product(logits_gradient(weights, d_weights, stats[0, 0, 1:2], logits, settings), q[0, 0])

    @_on(steps, LAST)
    def end():
        @pl.when(head == heads - 1)
        def _():
            dk[0, 0], dv[0, 0] = sum_dk[...].astype(dk.dtype), sum_dv[...].astype(dv.dtype)


def forward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, settings: AttentionSettings, *, interpret: bool = False
) -> tuple[Array, Array]:
    """Attention of q [B, H, S, d] over k and v [B, N, S, d].

    Args:
      tags: ``slot_tags`` of the S slots, [B, 8, S]; S is a multiple of ``block_size(S)``.
      window: [1] int32.
      interpret: run the kernel's operations one by one, on any platform; for tests.
    Returns:
      The output [B, H, S, d], 0 in padding, and the log-sum-exp of each query's logits, [B, H, S] float32.
    """
    size, width = block_size(q.shape[2]), q.shape[3]
    column = pltpu.VMEM((size, _LANES), jnp.float32)
    steps = _steps(tags, size, window, keys_first=False)
    query, key, q_tags, k_tags, stats = _specs(q, k, size, keys_first=False)
    out, logsumexp = _call(
        functools.partial(_forward_kernel, settings=settings),
        steps, window, (q, k, v, tags, tags), interpret,
        in_specs=[query, key, key, q_tags, k_tags],
        outputs=[(query, q.shape, q.dtype), (stats(1), (*q.shape[:2], 1, q.shape[2]), jnp.float32)],
        scratch=[column, column, pltpu.VMEM((size, width), jnp.float32), _tag_columns(size)],
        products=2,
    )  # fmt: skip
    return out, logsumexp[:, :, 0]


def backward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, logsumexp: Array, delta: Array, d_out: Array,
    settings: AttentionSettings, *, interpret: bool = False,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The gradients of q, k and v, each of its array's shape and dtype.

    Args:
      logsumexp: from ``forward``, [B, H, S] float32.
      delta: Σ_d out · d_out, [B, H, S] float32, which is Σ weights · d_weights of each query.
      d_out: gradient of the output, [B, H, S, d].
    The other arguments are those of ``forward``.
    """
    size, width = block_size(q.shape[2]), q.shape[3]
    per_query = jnp.pad(jnp.stack([logsumexp, delta], axis=2), ((0, 0), (0, 0), (0, TAGS - 2), (0, 0)))
    arrays = (q, k, v, tags, tags, per_query, d_out)
    block = pltpu.VMEM((size, width), jnp.float32)
    query, key, q_tags, k_tags, stats = _specs(q, k, size, keys_first=False)
    (dq,) = _call(
        functools.partial(_query_kernel, settings=settings),
        _steps(tags, size, window, keys_first=False), window, arrays, interpret,
        in_specs=[query, key, key, q_tags, k_tags, stats(TAGS), query],
        outputs=[(query, q.shape, q.dtype)],
        scratch=[block, _tag_columns(size), pltpu.VMEM((2, size, _LANES), jnp.float32)],
        products=3,
    )  # fmt: skip
    query, key, q_tags, k_tags, stats = _specs(q, k, size, keys_first=True)
    dk, dv = _call(
        functools.partial(_key_kernel, settings=settings),
        _steps(tags, size, window, keys_first=True), window, arrays, interpret,
        in_specs=[query, key, key, q_tags, k_tags, stats(TAGS), query],
        outputs=[(key, k.shape, k.dtype), (key, v.shape, v.dtype)],
        scratch=[block, block, _tag_columns(size)],
        products=4,
    )  # fmt: skip
    return dq, dk, dv


def _tag_columns(size: int):
    """Scratch for the tags of a block as columns, [4, size, 128] int32; a kernel fills only the tags that it needs."""
    return pltpu.VMEM((PROMPT + 1, size, _LANES), jnp.int32)


def _steps(tags: Array, size: int, window: Array, keys_first: bool) -> Steps:
    return visits(live_blocks(tags, size, size, window[0]), keys_first)


def _specs(q: Array, k: Array, size: int, keys_first: bool):
    """Which block of each array a program (b, h, t, g) works on; ``keys_first``: the outer blocks are of keys.

    Returns the BlockSpecs of arrays by query, by key, of the queries' tags, of the keys' tags, and a function from a
    number of rows n to the BlockSpec of arrays [B, H, n, S], which hold numbers per query."""
    group = q.shape[1] // k.shape[1]
    count = step_count(q.shape[2] // size)

    def heads(h, g):
        """The query head and the key head."""
        return (h * group + g, h) if keys_first else (h, jax.lax.div(h, jnp.int32(group)))

    def blocks(b, t, outer, inner):
        """The block of queries and the block of keys of step t of row b."""
        sides = outer[b * count + t], inner[b * count + t]
        return sides[::-1] if keys_first else sides

    def query(b, h, t, g, outer, inner, *_):
        return b, heads(h, g)[0], blocks(b, t, outer, inner)[0], 0

    def key(b, h, t, g, outer, inner, *_):
        return b, heads(h, g)[1], blocks(b, t, outer, inner)[1], 0

    def query_tags(b, h, t, g, outer, inner, *_):
        return b, 0, blocks(b, t, outer, inner)[0]

    def key_tags(b, h, t, g, outer, inner, *_):
        return b, 0, blocks(b, t, outer, inner)[1]

    def per_query(b, h, t, g, outer, inner, *_):
        return b, heads(h, g)[0], 0, blocks(b, t, outer, inner)[0]

    block = (1, 1, size, q.shape[3])
    return (
        pl.BlockSpec(block, query),
        pl.BlockSpec(block, key),
        pl.BlockSpec((1, TAGS, size), query_tags),
        pl.BlockSpec((1, TAGS, size), key_tags),
        lambda rows: pl.BlockSpec((1, 1, rows, size), per_query),
    )


def _call(kernel, steps, window, arrays, interpret: bool, *, in_specs, outputs, scratch, products: int) -> list[Array]:
    """Runs a kernel over the steps.

    Args:
      arrays: the inputs in HBM, in the order of ``in_specs``; q first.
      outputs: (BlockSpec, shape, dtype) each; their heads are the grid's axis 1.
      scratch: buffers in VMEM.
      products: how many matrix products of size × size × d a step makes, for the cost estimate.
    """
    q = arrays[0]
    rows, heads, slots, width = q.shape
    size = in_specs[0].block_shape[2]
    count = step_count(slots // size)
    outer_heads = outputs[0][1][1]
    pairs = rows * heads * count * size * size
    cost = pl.CostEstimate(
        flops=2 * products * pairs * width,
        transcendentals=pairs,
        # A step copies the two arrays of its inner block; arrays of the outer block are copied, and written, once.
        bytes_accessed=q.dtype.itemsize * (2 * pairs // size * width + sum(x.size for x in arrays if x.ndim == 4)),
    )
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=4,
        grid=(rows, outer_heads, count, heads // outer_heads),
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
