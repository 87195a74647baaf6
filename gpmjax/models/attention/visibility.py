"""What each slot of a row of groups may see, in the form in which attention kernels read it.

A kernel works on blocks of queries and keys and makes each block's mask itself, from a few integers a slot (``slot_tags``,
``seen``): the mask of a whole row, [T, T], is nowhere. Blocks in which nothing is seen are left out (``live_blocks``): what
lies above the diagonal, other groups, a response's siblings, and what a sliding window has left behind.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from gpmjax.arrays import Array, TokenLayout

POSITION, KEY, OWN, PROMPT = range(4)
TAGS = 8
"""Rows of ``slot_tags``; the rest of them are 0. A TPU transposes int32 by eights."""

_NOBODY = -(2**30)


def slot_tags(layout: TokenLayout, slots: int) -> Int[Array, "B 8 S"]:
    """Four integers for each of ``slots`` ≥ T slots: its position, what it is as a key, and the two keys that it sees.

    A key is −group in a prompt and its response's number in a response; both count over the whole row.

    >>> layout = TokenLayout(*(jnp.array([row]) for row in ([0, 1, 2, 2, 0], [1, 1, 1, 1, 0], [0, 0, 1, 2, 0])))
    >>> slot_tags(layout, 5)[0, :4, :4].tolist()
    [[0, 1, 2, 2], [-1, -1, 1, 2], [-1, -1, 1, 2], [-1, -1, -1, -1]]
    """
    positions, group, response = (
        jnp.pad(jnp.asarray(field, jnp.int32), ((0, 0), (0, slots - field.shape[1]))) for field in layout
    )
    kind = jnp.where(response > 0, response, -group)
    padding = group == 0
    rows = [positions, jnp.where(padding, _NOBODY, kind), jnp.where(padding, 0, kind), jnp.where(padding, 0, -group)]
    return jnp.stack(rows + [jnp.zeros_like(group)] * (TAGS - len(rows)), axis=1)


def seen(
    position: Array, own: Array, prompt: Array, key_position: Array, key: Array, window: Array
) -> Bool[Array, "..."]:
    """Whether a query sees a key, of tags that broadcast together.

    Within a prompt, and within a response and its prompt, slots are in the order of positions: no slot is asked for.
    """
    distance = position - key_position
    return ((key == own) | (key == prompt)) & (distance >= 0) & (distance < window)


def live_blocks(
    tags: Int[Array, "B 8 S"], queries: int, keys: int, window: Int[Array, ""] | int
) -> Bool[Array, "B S/queries S/keys"]:
    """False for blocks of ``queries`` × ``keys`` slots in which no query sees a key; some of the others may be empty too.

    >>> layout = TokenLayout(*(jnp.array([row]) for row in ([0, 1, 2, 3, 2, 3], [1] * 6, [0, 0, 1, 1, 2, 2])))
    >>> live_blocks(slot_tags(layout, 6), 2, 2, 9)[0].astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    far = 2**29
    part = lambda row, size, used, empty: jnp.where(used, tags[:, row], empty).reshape(tags.shape[0], -1, size)
    low = lambda row, size, used: jnp.min(part(row, size, used, far), axis=2)
    high = lambda row, size, used: jnp.max(part(row, size, used, -far), axis=2)
    asks, of_prompt, of_response = tags[:, PROMPT] < 0, tags[:, KEY] < 0, tags[:, KEY] > 0
    of_prompt &= tags[:, KEY] != _NOBODY
    overlap = lambda row, asking, key: (
        (low(row, queries, asking)[:, :, None] <= high(KEY, keys, key)[:, None])
        & (high(row, queries, asking)[:, :, None] >= low(KEY, keys, key)[:, None])
    )
    anything = overlap(PROMPT, asks, of_prompt) | overlap(OWN, asks & (tags[:, OWN] > 0), of_response)
    used = of_prompt | of_response
    nearest = low(POSITION, queries, asks)[:, :, None] - high(POSITION, keys, used)[:, None]
    first = [jnp.arange(0, tags.shape[2], size, dtype=jnp.int32) for size in (queries, keys)]
    below_diagonal = first[1][None] < first[0][:, None] + queries
    return anything & (nearest < window) & below_diagonal[None]
