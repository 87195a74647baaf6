"""The order in which a kernel goes through the blocks of a row: only those in which something is seen.

A grid over all pairs of blocks would also stop at those above the diagonal, almost half of them, to do nothing there.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from gpmjax.arrays import Array

FIRST, LAST, LIVE = 1, 2, 4


class Steps(NamedTuple):
    """The blocks that a kernel visits, row by row: [B · steps] int32 each."""

    outer: Array
    """The block that is accumulated for."""
    inner: Array
    flags: Array
    """FIRST and LAST of its outer block, LIVE where there is something to see."""


def block_size(slots: int) -> int:
    """Slots of a block: of the sizes that a TPU works well with, the one that needs the least padding; of equals the largest.

    >>> block_size(4096), block_size(2304), block_size(40)
    (512, 384, 128)
    """
    return min((512, 384, 256) if slots > 256 else (256, 128), key=lambda size: (-slots % size, -size))


def visits(live: Array, keys_first: bool) -> Steps:
    """Live blocks in order, first of all those of the first outer block; what is left of the list repeats its end.

    Args:
      live: [B, n, n], by query and key block; on and below the diagonal only.
      keys_first: the outer blocks are keys', not queries'.
    """
    blocks = live.shape[1]
    outer, inner = np.triu_indices(blocks) if keys_first else np.tril_indices(blocks)
    queries, keys = (inner, outer) if keys_first else (outer, inner)
    # Every outer block is visited once at least, so that it is written.
    wanted = live[:, queries, keys] | (queries == keys)[None]
    count = jnp.sum(wanted, axis=1, dtype=jnp.int32)[:, None]
    index = jnp.arange(len(outer), dtype=jnp.int32)[None]
    order = jnp.argsort(~wanted, axis=1, stable=True)
    order = jnp.take_along_axis(order, jnp.minimum(index, count - 1), axis=1)
    outer, inner = (jnp.asarray(side, jnp.int32)[order] for side in (outer, inner))
    changes = outer[:, 1:] != outer[:, :-1]
    first = jnp.pad(changes, ((0, 0), (1, 0)), constant_values=True)
    last = jnp.pad(changes, ((0, 0), (0, 1))) | (index == count - 1)
    flags = sum(flag * at.astype(jnp.int32) for flag, at in ((FIRST, first), (LAST, last), (LIVE, index < count)))
    return Steps(*(part.astype(jnp.int32).reshape(-1) for part in (outer, inner, flags)))


def step_count(blocks: int) -> int:
    """Blocks on and below the diagonal: no row needs more."""
    return blocks * (blocks + 1) // 2
