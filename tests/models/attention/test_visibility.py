"""The mask from tags is the mask by its definition, and in a block that is left out no query sees a key."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmjax.arrays import TokenLayout
from gpmjax.models.attention import visibility
from gpmjax.models.attention.grouped_query import NO_WINDOW, attention_mask
from gpmjax.models.attention.visibility import KEY, OWN, POSITION, PROMPT, seen
from gpmjax.models.attention.visits import visits

SLOTS = 48
GROUPS = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=0, max_size=3)), min_size=1, max_size=4
)

slot_tags = jax.jit(visibility.slot_tags, static_argnums=1)
live_blocks = jax.jit(visibility.live_blocks, static_argnums=(1, 2))
plain_mask = jax.jit(functools.partial(attention_mask, first_query=0))


def layout_of(groups) -> TokenLayout:
    """The layout of a row of groups, each (prompt tokens, [tokens of each response]); what does not fit is cut off."""
    parts, count = [], 0
    for number, (prompt, responses) in enumerate(groups, 1):
        parts += [(position, number, 0) for position in range(prompt)]
        for length in responses:
            count += 1
            parts += [(prompt + position, number, count) for position in range(length)]
    parts = (parts + [(0, 0, 0)] * SLOTS)[:SLOTS]
    return TokenLayout(*(np.array([column], np.int32) for column in zip(*parts, strict=True)))


def mask_by_tags(tags, window):
    tags = np.asarray(tags)
    asks, tells = (lambda row: tags[:, row, :, None]), (lambda row: tags[:, row, None, :])
    return seen(asks(POSITION), asks(OWN), asks(PROMPT), tells(POSITION), tells(KEY), window)


@given(GROUPS, st.sampled_from([1, 3, 7, NO_WINDOW]))
def test_tags_say_what_the_mask_says(groups, window):
    layout = layout_of(groups)
    tags = slot_tags(layout, SLOTS + 8)
    expected = np.pad(plain_mask(layout, layout, window=window)[0], ((0, 8), (0, 8)))
    np.testing.assert_array_equal(mask_by_tags(tags, window)[0], expected)


@given(GROUPS, st.sampled_from([1, 3, 7, NO_WINDOW]), st.sampled_from([(8, 8), (16, 4), (4, 12)]))
def test_what_is_seen_is_in_live_blocks(groups, window, sizes):
    tags = slot_tags(layout_of(groups), SLOTS)
    live = np.asarray(live_blocks(tags, *sizes, window)[0])
    mask = np.asarray(mask_by_tags(tags, window)[0])
    blocks = mask.reshape(SLOTS // sizes[0], sizes[0], SLOTS // sizes[1], sizes[1]).any(axis=(1, 3))
    assert not (blocks & ~live).any()


def test_siblings_other_groups_padding_and_the_past_of_a_window_are_left_out():
    tags = slot_tags(layout_of([(8, [8, 8]), (8, [8])]), SLOTS)
    blocks = np.asarray(live_blocks(tags, 8, 8, NO_WINDOW)[0]).astype(int)
    assert blocks.tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    long = slot_tags(layout_of([(40, [])]), SLOTS)
    assert np.asarray(live_blocks(long, 8, 8, 9)[0]).astype(int).sum() == 5 + 4


@pytest.mark.parametrize("keys_first", [False, True])
def test_every_live_block_is_visited_once_and_every_outer_block_at_all(keys_first):
    rng = np.random.default_rng(0)
    live = np.tril(rng.random((5, 6, 6)) < 0.4)
    live[4] = False
    steps = jax.jit(visits, static_argnums=1)(live, keys_first)
    for row, (outer, inner, flags) in enumerate(zip(*(np.asarray(part).reshape(5, -1) for part in steps), strict=True)):
        real = flags >= 4
        pairs = list(zip(outer[real], inner[real], strict=True))
        blocks = [pair[::-1] for pair in pairs] if keys_first else pairs
        wanted = {tuple(block) for block in np.argwhere(live[row])} | {(n, n) for n in range(6)}
        assert len(blocks) == len(wanted) and set(blocks) == wanted
        # Outer blocks come in order; each has one first and one last step. Steps after them compute and copy nothing.
        assert sorted(set(pairs)) == pairs
        assert (
            [o for o, f in zip(outer, flags, strict=True) if f & 1]
            == [*range(6)]
            == [o for o, f in zip(outer, flags, strict=False) if f & 2]
        )
        assert not flags[~real].any() and set(zip(outer[~real], inner[~real], strict=True)) <= {pairs[-1]}
