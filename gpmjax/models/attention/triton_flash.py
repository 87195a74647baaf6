"""Flash attention for NVIDIA GPUs: the same function as ``splash``'s, as kernels that Pallas compiles with Triton.

cuDNN has no mask of this kind. Through jax it takes causal masks, lengths and windows; any other mask is a bias [T, T].

The arrays are those of ``splash``, with d padded to a power of two, and with ``logsumexp`` and ``delta`` as [B, H, S]
float32 each. A *block* is ``size`` slots (``_block``). The grid has three axes, all of them parallel:

    axis 0  b, the row
    axis 1  h, the head           a query head, or in _key_kernel a key head
    axis 2  i, the outer block    of queries, or in _key_kernel of keys

A program (b, h, i) holds its outer block in registers and walks the list of the inner blocks that it needs: the blocks
of keys that its queries see, or the blocks of queries that see its keys. It loads each inner block from global memory,
adds to sums in registers, and writes its result once. Programs share nothing and there are no atomics, so results are
deterministic.

Every kernel's first three arguments are in global memory: ``count`` [n] int32, how many inner blocks each outer block
of row b has; ``which`` [n] int32, the list of those of block i, of which the first ``count[i]`` are meant; ``window``
[1] int32.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from gpmjax.arrays import Array
from gpmjax.models.attention.block_softmax import MASKED, NT, AttentionSettings, block_logits, logits_gradient, product
from gpmjax.models.attention.visibility import KEY, OWN, POSITION, PROMPT, TAGS, live_blocks, seen

_ASKS = (POSITION, OWN, PROMPT)
"""The tags that a query brings to ``seen``; a key brings POSITION and KEY."""


def forward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, settings: AttentionSettings, *, interpret: bool = False
) -> tuple[Array, Array]:
    """Attention and its log-sum-exp; arguments and results are those of ``splash.forward``."""
    true_width = q.shape[3]
    q, k, v = map(_widened, (q, k, v))
    (rows, heads, slots, width), group = q.shape, q.shape[1] // k.shape[1]
    size = _block(width, backward=False)
    lists = _lists(live_blocks(tags, size, size, window[0]))
    block = pl.BlockSpec((None, None, size, width), lambda b, h, i: (b, h, i, 0))
    whole = pl.BlockSpec((None, None, slots, width), lambda b, h, i: (b, jax.lax.div(h, group), 0, 0))
    out, logsumexp = _call(
        functools.partial(_forward_kernel, settings=settings),
        (rows, heads, slots // size), lists, (window, q, k, v, tags), width, interpret,
        in_specs=[block, whole, whole],
        outputs=[
            (block, q.shape, q.dtype),
            (pl.BlockSpec((None, None, size), lambda b, h, i: (b, h, i)), q.shape[:3], jnp.float32),
        ],
    )  # fmt: skip
    return out[..., :true_width], logsumexp


def backward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, logsumexp: Array, delta: Array, d_out: Array,
    settings: AttentionSettings, *, interpret: bool = False,
) -> tuple[Array, ...]:  # fmt: skip
    """The gradients of q, k and v; arguments and results are those of ``splash.backward``."""
    true_width = q.shape[3]
    q, k, v, d_out = map(_widened, (q, k, v, d_out))
    (rows, heads, slots, width), group = q.shape, q.shape[1] // k.shape[1]
    size = _block(width, backward=True)
    live = live_blocks(tags, size, size, window[0])
    arrays = (window, q, k, v, tags, d_out, logsumexp, delta)
    block = pl.BlockSpec((None, None, size, width), lambda b, h, i: (b, h, i, 0))
    whole = pl.BlockSpec((None, None, slots, width), lambda b, h, i: (b, jax.lax.div(h, group), 0, 0))
    per_query = pl.BlockSpec((None, None, size), lambda b, h, i: (b, h, i))
    (dq,) = _call(
        functools.partial(_query_kernel, settings=settings),
        (rows, heads, slots // size), _lists(live), arrays, width, interpret,
        in_specs=[block, whole, whole, block, per_query, per_query],
        outputs=[(block, q.shape, q.dtype)],
    )  # fmt: skip
    readers = pl.BlockSpec((None, group, slots, width), lambda b, n, j: (b, n, 0, 0))
    per_reader = pl.BlockSpec((None, group, slots), lambda b, n, j: (b, n, 0))
    dk, dv = _call(
        functools.partial(_key_kernel, settings=settings, group=group),
        (rows, k.shape[1], slots // size), _lists(jnp.swapaxes(live, 1, 2)), arrays, width, interpret,
        in_specs=[readers, block, block, readers, per_reader, per_reader],
        outputs=[(block, k.shape, k.dtype), (block, v.shape, v.dtype)],
    )  # fmt: skip
    return tuple(gradient[..., :true_width] for gradient in (dq, dk, dv))


def _widened(x: Array) -> Array:
    """x with zeros behind its last axis, to a power of two and at least 16: Triton's blocks have no other sizes."""
    return jnp.pad(x, [(0, 0)] * 3 + [(0, max(16, pl.next_power_of_2(x.shape[3])) - x.shape[3])])


def _block(width: int, backward: bool) -> int:
    """Slots of a block, a divisor of 128, so chosen that a program's blocks fit into registers and shared memory."""
    if backward:
        return 64 if width <= 128 else 32
    return 128 if width <= 128 else 64


def _lists(live: Array) -> tuple[Array, Array]:
    """How many inner blocks each outer block has, [B, n], and which, [B, n, n], int32; ``live`` [B, outer, inner]."""
    return jnp.sum(live, axis=2, dtype=jnp.int32), jnp.argsort(~live, axis=2, stable=True).astype(jnp.int32)


def _walk(count, which, step, start):
    """The state after step(inner block, state) over a program's list, from ``start``."""
    return jax.lax.fori_loop(0, count[pl.program_id(2)], lambda n, state: step(which[n], state), start)


def _tags(tags, names, slots, axis: int) -> list[Array]:
    """The tags ``names`` of some slots, [size] each, with a new axis 0 (a row) or 1 (a column)."""
    return [jnp.expand_dims(tags[name, slots], axis) for name in names]


def _forward_kernel(count, which, window, q, k, v, tags, out, logsumexp, *, settings: AttentionSettings):
    """Attention of one block of queries over the blocks of keys that it sees.

    Inputs     q [size, d], the outer block; k, v [S, d], all slots of the head's key head; tags [8, S] int32
    Outputs    out [size, d]; logsumexp [size] float32
    Registers  mixed [size, d] float32: Σ exp(logit − top) v so far; top [size] float32: the largest logit so far;
               total [size] float32: Σ exp(logit − top) so far
    """
    size = q.shape[0]
    query, asks = q[...], _tags(tags, _ASKS, pl.ds(pl.program_id(2) * size, size), 1)

    def add(inner, state):
        mixed, top, total = state
        slots = pl.ds(inner * size, size)
        mask = seen(*asks, *_tags(tags, (POSITION, KEY), slots, 0), window=window[0])
        logits = jnp.where(mask, block_logits(query, k[slots, :], settings), MASKED)  # [queries, keys]
        highest = jnp.maximum(top, jnp.max(logits, axis=1))
        weights, fade = jnp.exp(logits - highest[:, None]), jnp.exp(top - highest)
        return mixed * fade[:, None] + product(weights, v[slots, :]), highest, total * fade + jnp.sum(weights, axis=1)

    start = jnp.zeros(q.shape, jnp.float32), jnp.full((size,), MASKED, jnp.float32), jnp.zeros((size,), jnp.float32)
    mixed, top, total = _walk(count, which, add, start)
    # A padding slot sees no key: see splash._forward_kernel.
    some = top > 0.5 * MASKED
    total = jnp.where(some, total, 1.0)
    out[...] = jnp.where(some[:, None], mixed / total[:, None], 0.0).astype(out.dtype)
    logsumexp[...] = jnp.where(some, top + jnp.log(total), -MASKED)


def _query_kernel(count, which, window, q, k, v, tags, d_out, logsumexp, delta, dq, *, settings: AttentionSettings):
    """The gradient of one block of queries, summed over the blocks of keys that it sees.

    Inputs     q, d_out [size, d], the outer block; k, v [S, d], all slots of the head's key head; tags [8, S] int32;
               logsumexp, delta [size] float32, the outer block's
    Outputs    dq [size, d]
    Registers  sum_dq [size, d] float32
    """
    size = q.shape[0]
    query, d_mixed, norms, deltas = q[...], d_out[...], logsumexp[...][:, None], delta[...][:, None]
    asks = _tags(tags, _ASKS, pl.ds(pl.program_id(2) * size, size), 1)

    def add(inner, sum_dq):
        slots = pl.ds(inner * size, size)
        mask = seen(*asks, *_tags(tags, (POSITION, KEY), slots, 0), window=window[0])
        logits = block_logits(query, k[slots, :], settings)  # [queries, keys]
        weights = jnp.where(mask, jnp.exp(logits - norms), 0.0)
        d_weights = product(d_mixed, v[slots, :], NT)
        return sum_dq + product(logits_gradient(weights, d_weights, deltas, logits, settings), k[slots, :])

    dq[...] = _walk(count, which, add, jnp.zeros(q.shape, jnp.float32)).astype(dq.dtype)


def _key_kernel(
    count, which, window, q, k, v, tags, d_out, logsumexp, delta, dk, dv, *, settings: AttentionSettings, group: int
):
    """The gradients of one block of keys and values, summed over the blocks of queries, of all heads, that see it.

    Inputs     k, v [size, d], the outer block; q, d_out [H/N, S, d], all slots of the query heads that read it;
               tags [8, S] int32; logsumexp, delta [H/N, S] float32
    Outputs    dk, dv [size, d]
    Registers  sum_dk, sum_dv [size, d] float32
    """
    size = k.shape[0]
    key, value = k[...], v[...]
    tells = _tags(tags, (POSITION, KEY), pl.ds(pl.program_id(2) * size, size), 1)

    def add(head, inner, state):
        sum_dk, sum_dv = state
        slots = pl.ds(inner * size, size)
        mask = seen(*_tags(tags, _ASKS, slots, 0), *tells, window=window[0])
        query, d_mixed = q[head, slots, :], d_out[head, slots, :]
        logits = block_logits(key, query, settings)  # [keys, queries]
        weights = jnp.where(mask, jnp.exp(logits - logsumexp[head, slots][None]), 0.0)
        d_weights = product(value, d_mixed, NT)
        gradient = logits_gradient(weights, d_weights, delta[head, slots][None], logits, settings)
        return sum_dk + product(gradient, query), sum_dv + product(weights, d_mixed)

    def over_heads(inner, state):
        return jax.lax.fori_loop(0, group, lambda head, state: add(head, inner, state), state)

    nothing = jnp.zeros(k.shape, jnp.float32)
    sum_dk, sum_dv = _walk(count, which, over_heads, (nothing, nothing))
    dk[...], dv[...] = sum_dk.astype(dk.dtype), sum_dv.astype(dv.dtype)


def _call(kernel, grid, lists, arrays, width: int, interpret: bool, *, in_specs, outputs) -> list[Array]:
    """Runs a kernel over a grid of (rows, heads, outer blocks).

    Args:
      lists: from ``_lists``.
      arrays: window, q, k, v, tags, and what else the kernel takes; all in global memory.
      in_specs: those of ``arrays`` without window and tags.
      outputs: (BlockSpec, shape, dtype) each.
    """
    count, which = lists
    slots = arrays[4].shape[2]
    first = [
        pl.BlockSpec((None, count.shape[1]), lambda b, h, i: (b, 0)),
        pl.BlockSpec((None, None, which.shape[2]), lambda b, h, i: (b, i, 0)),
        pl.BlockSpec((1,), lambda b, h, i: (0,)),
    ]
    tags = pl.BlockSpec((None, TAGS, slots), lambda b, h, i: (b, 0, 0))
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[*first, *in_specs[:3], tags, *in_specs[3:]],
        out_specs=[spec for spec, _, _ in outputs],
        out_shape=[jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in outputs],
        compiler_params=plgpu.CompilerParams(num_warps=4 if width <= 64 else 8, num_stages=2),
        interpret=interpret,
        name=kernel.func.__name__.strip("_"),
    )(count, which, *arrays)
