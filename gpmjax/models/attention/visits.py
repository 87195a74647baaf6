"""The order in which a TPU's kernel visits the blocks of a row; it visits only blocks in which a query sees a key.

A grid over all pairs of blocks would also visit those above the diagonal, almost half of them, and do nothing there.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gpmjax.arrays import Array

FIRST, LAST, LIVE = 1, 2, 4
"""Bits of a step's flags: the first and the last step of its outer block, and a step whose block is to be computed."""


class Steps(NamedTuple):
    """The pairs of blocks that a kernel visits, row after row: [B · steps] int32 each."""

    outer: Array
    """The block that is accumulated for."""
    inner: Array
    """The block that is added."""
    flags: Array
    """A sum of FIRST, LAST and LIVE."""


def block_size(slots: int) -> int:
    """Slots of a block: of the sizes that suit a TPU the one that needs the least padding, and of equals the largest.

    >>> block_size(4096), block_size(2304), block_size(40)
    (512, 384, 128)
    """
    return min((512, 384, 256) if slots > 256 else (256, 128), key=lambda size: (-slots % size, -size))


def visits(live: Array, keys_first: bool) -> Steps:
    """The steps of every row: live blocks in the order of the outer blocks, then repeats of the last without flags.

    Args:
      live: [B, n, n], by query block and key block; True only on and below the diagonal.
      keys_first: the outer blocks are blocks of keys, not of queries.
    """
    blocks = live.shape[1]
    outer, inner = np.triu_indices(blocks) if keys_first else np.tril_indices(blocks)
    queries, keys = (inner, outer) if keys_first else (outer, inner)
    # Every outer block is visited at least once, so that its result is written.
    wanted = live[:, queries, keys] | (queries == keys)[None]
    count = jnp.sum(wanted, axis=1, dtype=jnp.int32)[:, None]
    index = jnp.arange(len(outer), dtype=jnp.int32)[None]
    order = jnp.argsort(~wanted, axis=1, stable=True)
    order = jnp.take_along_axis(order, jnp.minimum(index, count - 1), axis=1)
    outer, inner = (jnp.asarray(side, jnp.int32)[order] for side in (outer, inner))
    changes = outer[:, 1:] != outer[:, :-1]
    first = jnp.pad(changes, ((0, 0), (1, 0)), constant_values=True)
    last = jnp.pad(changes, ((0, 0), (0, 1))) | (index == count - 1)
    flags: Any = sum(flag * at.astype(jnp.int32) for flag, at in ((FIRST, first), (LAST, last), (LIVE, index < count)))
    return Steps(*(part.astype(jnp.int32).reshape(-1) for part in (outer, inner, flags)))


def step_count(blocks: int) -> int:
    """The number of blocks on and below the diagonal: no row has more steps."""
    return blocks * (blocks + 1) // 2
