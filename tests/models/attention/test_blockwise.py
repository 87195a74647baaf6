"""Blockwise attention equals plain attention, gradients too, and leaves out blocks in which nothing is seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.arrays import TokenLayout
from gpmjax.models.attention import blockwise
from gpmjax.models.attention.grouped_query import attention
from gpmjax.models.attention.visibility import slot_tags
from gpmjax.models.transformer import sequence_layout
from gpmjax.sharding import batch_sharding, make_mesh
from tests.models.attention.gradients import both, draw_inputs

SLOTS = 150  # not a multiple of a block's 64 slots: three blocks


@pytest.fixture(scope="module")
def layout(token_batch):
    """Two rows with padding: three groups; and one whose second response starts a block after its prompt."""

    def ids(*lengths):
        return [[7] * length for length in lengths]

    rows = [[(7, ids(20, 30, 10)), (15, ids(30)), (5, ids(10, 13))], [(40, ids(70, 20))]]
    rows = [[([7] * prompt, answers) for prompt, answers in row] for row in rows]
    return TokenLayout(*map(jnp.asarray, token_batch(rows, slots=SLOTS).layout))


arrays = functools.partial(draw_inputs, SLOTS)


@pytest.mark.parametrize(
    ("window", "softcap", "heads"),
    [(None, None, (4, 2)), (37, 2.0, (3, 1)), (1, None, (2, 2))],
    ids=["grouped", "window-softcap-multiquery", "itself-alone"],
)
def test_the_same_function_as_plain_attention(layout, window, softcap, heads):
    settings = dict(scale=0.4, window=None if window is None else jnp.int32(window), softcap=softcap)
    plain, ours = (both(layout, *arrays(*heads, 6), **settings, implementation=name) for name in ("xla", "blockwise"))
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_bfloat16_stays_bfloat16_and_near(layout):
    exact = both(layout, *arrays(2, 2, 16), scale=0.25)
    ours = both(layout, *arrays(2, 2, 16, dtype=jnp.bfloat16), scale=0.25, implementation="blockwise")
    for mine, true in zip(ours, exact, strict=True):
        assert mine.dtype == jnp.bfloat16 and np.abs(np.asarray(mine, np.float32) - true).mean() < 0.02


def test_padding_gives_nothing_and_takes_nothing(layout):
    q, k, v, given = arrays(1, 1, 8)
    padding = np.asarray(layout.group) == 0

    @jax.jit
    def run(q, k, v, given):
        mixed, back = jax.vjp(
            functools.partial(attention, layout=layout, scale=1.0, implementation="blockwise"), q, k, v
        )
        return mixed, back(given)

    mixed, gradients = run(q, k, v, given)
    assert padding.any() and not np.asarray(mixed)[padding].any()
    assert not any(np.asarray(gradient)[padding].any() for gradient in gradients)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_only_blocks_in_which_something_is_seen_are_visited():
    # A prompt of one block, three responses of one block each, a block of padding: a response sees the prompt and
    # itself.
    position = np.concatenate([np.arange(64), np.tile(64 + np.arange(64), 3), np.zeros(64)])
    group, response = np.repeat([1, 1, 1, 1, 0], 64), np.repeat([0, 1, 2, 3, 0], 64)
    layout = TokenLayout(*(jnp.asarray(field, jnp.int32)[None] for field in (position, group, response)))
    two_rows = TokenLayout(*(jnp.tile(field, (2, 1)) for field in layout))
    visited, counts = blockwise._visits(slot_tags(two_rows, 320), jnp.array([2**30]))
    keys = [blocks[:count].tolist() for blocks, count in zip(visited, counts, strict=True)]
    assert keys == [[0], [0, 1], [0, 2], [0, 3], [], [5], [5, 6], [5, 7], [5, 8], []]


def test_on_a_mesh_rows_and_heads_are_split_and_nothing_else_changes(layout):
    mesh = make_mesh(2, 2, 2)
    tiled = TokenLayout(*(jnp.tile(field, (2, 1)) for field in layout))
    q, k, v, given = arrays(4, 2, 8, rows=4)
    alone = both(tiled, q, k, v, given, scale=0.3, implementation="blockwise")
    rows = jax.device_put((tiled, q, k, v, given), batch_sharding(mesh))
    spread = both(*rows, scale=0.3, implementation="blockwise", mesh=mesh)
    for mine, theirs in zip(spread, alone, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_no_buffer_grows_with_the_square_of_a_row():
    slots = 4096
    layout = sequence_layout(jnp.array([slots]), slots)
    x = jax.ShapeDtypeStruct((1, slots, 2, 8), jnp.float32)

    def run(q, k, v):
        return attention(q, k, v, layout, scale=1.0, implementation="blockwise").sum()

    compiled = jax.jit(jax.grad(run, argnums=(0, 1, 2))).lower(x, x, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < slots * slots
