"""Tags: a few integers per slot that say which slots of its row the slot sees. Attention masks are made of tags.

A kernel works on one block of queries and one block of keys at a time, and makes that block's mask from the tags of
both sides (``slot_tags``, ``seen``). The mask of a whole row, [T, T], never exists. A block in which no query sees a
key is left out (``live_blocks``): such a block lies above the diagonal, between two groups, between two responses, or
before a window.

Every slot has a *label*: −g in the prompt of the row's group g, and r in the row's r-th response; both count from 1. A
query sees the keys that bear its own label or its prompt's label, are no later than itself, and lie within its window.
"""

import jax.numpy as jnp
from jaxtyping import Bool, Int

from gpmjax.arrays import Array, TokenLayout

POSITION, KEY, OWN, PROMPT = range(4)
"""Rows of ``slot_tags``. POSITION: the token's position in its own sequence. KEY: the label that others find the slot
by. OWN and PROMPT: the two labels that the slot sees as a query, its own and its prompt's."""

TAGS = 8
"""How many rows ``slot_tags`` has; rows 4 to 7 are 0. A TPU transposes int32 in tiles of eight rows."""

_NO_LABEL = -(2**30)
"""KEY of padding; no query asks for it. OWN and PROMPT of padding are 0, which is no slot's label."""


def slot_tags(layout: TokenLayout, slots: int) -> Int[Array, "B 8 S"]:
    """The tags of ``slots`` ≥ T slots of every row, int32; the slots after the layout's T are padding.

    >>> layout = TokenLayout(*(jnp.array([row]) for row in ([0, 1, 2, 2, 0], [1, 1, 1, 1, 0], [0, 0, 1, 2, 0])))
    >>> slot_tags(layout, 5)[0, :4, :4].tolist()
    [[0, 1, 2, 2], [-1, -1, 1, 2], [-1, -1, 1, 2], [-1, -1, -1, -1]]
    """
    positions, group, response = (
        jnp.pad(jnp.asarray(field, jnp.int32), ((0, 0), (0, slots - field.shape[1]))) for field in layout
    )
    label = jnp.where(response > 0, response, -group)
    padding = group == 0
    rows = [
        positions,
        jnp.where(padding, _NO_LABEL, label),
        jnp.where(padding, 0, label),
        jnp.where(padding, 0, -group),
    ]
    return jnp.stack(rows + [jnp.zeros_like(group)] * (TAGS - len(rows)), axis=1)


def seen(
    position: Array, own: Array, prompt: Array, key_position: Array, key: Array, window: Array
) -> Bool[Array, "..."]:
    """Whether a query sees a key: the query's three tags, then the key's two.

    The arguments broadcast together; ``window`` counts the query itself. Slots are not compared: within a prompt, and
    within a prompt and one of its responses, slots are in the order of positions.
    """
    distance = position - key_position
    return ((key == own) | (key == prompt)) & (distance >= 0) & (distance < window)


def live_blocks(
    tags: Int[Array, "B 8 S"], queries: int, keys: int, window: Int[Array, ""] | int
) -> Bool[Array, "B S/queries S/keys"]:
    """False for blocks of ``queries`` × ``keys`` slots in which no query sees a key. A True block may be empty too.

    A block is kept when the range of labels that its queries ask for meets the range of its keys' labels, its nearest
    query and key are within the window, and it is not above the diagonal.

    >>> layout = TokenLayout(*(jnp.array([row]) for row in ([0, 1, 2, 3, 2, 3], [1] * 6, [0, 0, 1, 1, 2, 2])))
    >>> live_blocks(slot_tags(layout, 6), 2, 2, 9)[0].astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    far = 2**29

    def by_block(row: int, size: int, used: Array, empty: int) -> Array:
        """One row of the tags, [B, blocks, size]; ``empty`` where ``used`` is False."""
        return jnp.where(used, tags[:, row], empty).reshape(tags.shape[0], -1, size)

    def least(row: int, size: int, used: Array) -> Array:
        return jnp.min(by_block(row, size, used, far), axis=2)

    def most(row: int, size: int, used: Array) -> Array:
        return jnp.max(by_block(row, size, used, -far), axis=2)

    def overlap(row: int, asking: Array, key: Array) -> Array:
        """[B, query blocks, key blocks]: whether the labels asked for in ``row`` may be among the keys'."""
        reaches_up = least(row, queries, asking)[:, :, None] <= most(KEY, keys, key)[:, None]
        return reaches_up & (most(row, queries, asking)[:, :, None] >= least(KEY, keys, key)[:, None])

    asks, of_prompt, of_response = tags[:, PROMPT] < 0, tags[:, KEY] < 0, tags[:, KEY] > 0
    of_prompt &= tags[:, KEY] != _NO_LABEL
    anything = overlap(PROMPT, asks, of_prompt) | overlap(OWN, asks & (tags[:, OWN] > 0), of_response)
    used = of_prompt | of_response
    nearest = least(POSITION, queries, asks)[:, :, None] - most(POSITION, keys, used)[:, None]
    first_query, first_key = (jnp.arange(0, tags.shape[2], size, dtype=jnp.int32) for size in (queries, keys))
    below_diagonal = first_key[None] < first_query[:, None] + queries
    return anything & (nearest < window) & below_diagonal[None]
