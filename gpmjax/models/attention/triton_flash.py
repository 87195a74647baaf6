"""Flash attention for NVIDIA GPUs: the same function as ``splash``'s, as kernels that Pallas gives to Triton.

A program holds one block of queries (or of keys) and walks the list of blocks that it sees (that see it). cuDNN has no such
mask: through jax it takes causal masks, lengths and windows, and anything else as a bias of [T, T].
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from gpmjax.arrays import Array
from gpmjax.models.attention.block_softmax import MASKED, NT, Settings, block_logits, logits_gradient, product
from gpmjax.models.attention.visibility import KEY, OWN, POSITION, PROMPT, TAGS, live_blocks, seen

_ASKS = (POSITION, OWN, PROMPT)


def forward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, settings: Settings, *, interpret: bool = False
) -> tuple[Array, Array]:
    """See ``splash.forward``."""
    true_width = q.shape[3]
    q, k, v = map(_widened, (q, k, v))
    (rows, heads, slots, width), group = q.shape, q.shape[1] // k.shape[1]
    size = _block(width, backward=False)
    lists = _lists(live_blocks(tags, size, size, window[0]))
    block = pl.BlockSpec((None, None, size, width), lambda b, h, i: (b, h, i, 0))
    whole = pl.BlockSpec((None, None, slots, width), lambda b, h, i: (b, jax.lax.div(h, group), 0, 0))
    out, total = _call(
        functools.partial(_forward_kernel, settings=settings),
        (rows, heads, slots // size), lists, (window, q, k, v, tags), width, interpret,
        in_specs=[block, whole, whole],
        outputs=[
            (block, q.shape, q.dtype),
            (pl.BlockSpec((None, None, size), lambda b, h, i: (b, h, i)), q.shape[:3], jnp.float32),
        ],
    )  # fmt: skip
    return out[..., :true_width], total


def backward(
    q: Array, k: Array, v: Array, tags: Array, window: Array, total: Array, mean: Array, given: Array,
    settings: Settings, *, interpret: bool = False,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """See ``splash.backward``."""
    true_width = q.shape[3]
    q, k, v, given = map(_widened, (q, k, v, given))
    (rows, heads, slots, width), group = q.shape, q.shape[1] // k.shape[1]
    size = _block(width, backward=True)
    live = live_blocks(tags, size, size, window[0])
    arrays = (window, q, k, v, tags, given, total, mean)
    block = pl.BlockSpec((None, None, size, width), lambda b, h, i: (b, h, i, 0))
    whole = pl.BlockSpec((None, None, slots, width), lambda b, h, i: (b, jax.lax.div(h, group), 0, 0))
    row = pl.BlockSpec((None, None, size), lambda b, h, i: (b, h, i))
    (dq,) = _call(
        functools.partial(_query_kernel, settings=settings),
        (rows, heads, slots // size), _lists(live), arrays, width, interpret,
        in_specs=[block, whole, whole, block, row, row],
        outputs=[(block, q.shape, q.dtype)],
    )  # fmt: skip
    readers = pl.BlockSpec((None, group, slots, width), lambda b, n, j: (b, n, 0, 0))
    rows_of = pl.BlockSpec((None, group, slots), lambda b, n, j: (b, n, 0))
    dk, dv = _call(
        functools.partial(_key_kernel, settings=settings, group=group),
        (rows, k.shape[1], slots // size), _lists(jnp.swapaxes(live, 1, 2)), arrays, width, interpret,
        in_specs=[readers, block, block, readers, rows_of, rows_of],
        outputs=[(block, k.shape, k.dtype), (block, v.shape, v.dtype)],
    )  # fmt: skip
    return tuple(gradient[..., :true_width] for gradient in (dq, dk, dv))


def _widened(x: Array) -> Array:
    """Zeros behind the last axis, to a power of two: Triton's blocks have no other sizes."""
    return jnp.pad(x, [(0, 0)] * 3 + [(0, max(16, pl.next_power_of_2(x.shape[3])) - x.shape[3])])


def _block(width: int, backward: bool) -> int:
    """Slots of a block, so that a program's blocks fit into registers and shared memory; a divisor of 128."""
    if backward:
        return 64 if width <= 128 else 32
    return 128 if width <= 128 else 64


def _lists(live: Array) -> tuple[Array, Array]:
    """How many inner blocks each outer block has, [B, n], and which, [B, n, n]."""
    return jnp.sum(live, axis=2, dtype=jnp.int32), jnp.argsort(~live, axis=2, stable=True).astype(jnp.int32)


def _walk(count, which, step, start):
    """step(inner block, state) over a program's list."""
    return jax.lax.fori_loop(0, count[pl.program_id(2)], lambda n, state: step(which[n], state), start)


def _tags(tags, names, slots, axis: int) -> list[Array]:
    return [jnp.expand_dims(tags[name, slots], axis) for name in names]


def _forward_kernel(count, which, window, q, k, v, tags, out, total, *, settings: Settings):
    size = q.shape[0]
    query, asks = q[...], _tags(tags, _ASKS, pl.ds(pl.program_id(2) * size, size), 1)

    def add(inner, state):
        mixed, top, sums = state
        slots = pl.ds(inner * size, size)
        mask = seen(*asks, *_tags(tags, (POSITION, KEY), slots, 0), window[0])
        logits = jnp.where(mask, block_logits(query, k[slots, :], settings), MASKED)
        highest = jnp.maximum(top, jnp.max(logits, axis=1))
        weights, fade = jnp.exp(logits - highest[:, None]), jnp.exp(top - highest)
        return mixed * fade[:, None] + product(weights, v[slots, :]), highest, sums * fade + jnp.sum(weights, axis=1)

    start = jnp.zeros(q.shape, jnp.float32), jnp.full((size,), MASKED, jnp.float32), jnp.zeros((size,), jnp.float32)
    mixed, top, sums = _walk(count, which, add, start)
    some = top > 0.5 * MASKED
    sums = jnp.where(some, sums, 1.0)
    out[...] = jnp.where(some[:, None], mixed / sums[:, None], 0.0).astype(out.dtype)
    total[...] = jnp.where(some, top + jnp.log(sums), -MASKED)


def _query_kernel(count, which, window, q, k, v, tags, given, total, mean, dq, *, settings: Settings):
    size = q.shape[0]
    query, change_of, totals, means = q[...], given[...], total[...][:, None], mean[...][:, None]
    asks = _tags(tags, _ASKS, pl.ds(pl.program_id(2) * size, size), 1)

    def add(inner, gathered):
        slots = pl.ds(inner * size, size)
        mask = seen(*asks, *_tags(tags, (POSITION, KEY), slots, 0), window[0])
        logits = block_logits(query, k[slots, :], settings)
        weights = jnp.where(mask, jnp.exp(logits - totals), 0.0)
        change = product(change_of, v[slots, :], NT)
        return gathered + product(logits_gradient(weights, change, means, logits, settings), k[slots, :])

    dq[...] = _walk(count, which, add, jnp.zeros(q.shape, jnp.float32)).astype(dq.dtype)


def _key_kernel(count, which, window, q, k, v, tags, given, total, mean, dk, dv, *, settings: Settings, group: int):
    size = k.shape[0]
    key, value = k[...], v[...]
    tells = _tags(tags, (POSITION, KEY), pl.ds(pl.program_id(2) * size, size), 1)

    def add(head, inner, state):
        keys, values = state
        slots = pl.ds(inner * size, size)
        mask = seen(*_tags(tags, _ASKS, slots, 0), *tells, window[0])
        query, change_of = q[head, slots, :], given[head, slots, :]
        logits = block_logits(key, query, settings)
        weights = jnp.where(mask, jnp.exp(logits - total[head, slots][None]), 0.0)
        gradient = logits_gradient(weights, product(value, change_of, NT), mean[head, slots][None], logits, settings)
        return keys + product(gradient, query), values + product(weights, change_of)

    def over_heads(inner, state):
        return jax.lax.fori_loop(0, group, lambda head, state: add(head, inner, state), state)

    nothing = jnp.zeros(k.shape, jnp.float32)
    keys, values = _walk(count, which, over_heads, (nothing, nothing))
    dk[...], dv[...] = keys.astype(dk.dtype), values.astype(dv.dtype)


def _call(kernel, grid, lists, arrays, width: int, interpret: bool, *, in_specs, outputs) -> list[Array]:
    """Runs a kernel over a grid of (rows, heads, outer blocks); ``in_specs`` are those of all arrays but window and tags."""
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
