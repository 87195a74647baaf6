"""The mask of attention, and the memory of its implementations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.arrays import TokenLayout
from gpmjax.models.attention.grouped_query import attention, attention_mask
from gpmjax.models.rotary import frequencies
from gpmjax.models.transformer import sequence_layout


def slow_mask(layout, window):
    """The mask by its definition, slot by slot."""
    position, group, response = (np.asarray(a)[0] for a in layout)
    slots = len(group)
    mask = np.zeros((slots, slots), bool)
    for q in range(slots):
        for s in range(q + 1):
            mine = group[q] == group[s] != 0 and response[s] in (0, response[q])
            mask[q, s] = mine and (window is None or position[q] - position[s] < window)
    return mask


@pytest.mark.parametrize("window", [None, 1, 3, 6])
def test_mask_is_its_definition(groups, token_batch, window):
    layout = token_batch([groups], slots=64).layout
    np.testing.assert_array_equal(attention_mask(layout, layout, 0, window)[0], slow_mask(layout, window))


def test_window_counts_positions_not_slots():
    # A prompt of 3, then two responses of 4. The second starts 5 slots after the prompt's end, but 1 position after it.
    layout = TokenLayout(
        jnp.array([[0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6]]), jnp.ones((1, 11), int), jnp.array([[0] * 3 + [1] * 4 + [2] * 4])
    )
    mask = np.asarray(attention_mask(layout, layout, 0, 3)[0])
    np.testing.assert_array_equal(mask[3:7, :3], mask[7:, :3])
    assert mask[7].nonzero()[0].tolist() == [1, 2, 7]


def test_unknown_implementation_names_the_known():
    x = jnp.ones((1, 2, 1, 2))
    with pytest.raises(ValueError, match="attention is 'sparse'; allowed: 'xla', 'chunked', 'flash', 'blockwise'"):
        attention(x, x, x, sequence_layout(jnp.array([2]), 2), scale=1.0, implementation="sparse")


def test_chunked_never_holds_all_logits():
    layout = sequence_layout(jnp.array([4096]), 4096)
    x = jax.ShapeDtypeStruct((1, 4096, 2, 8), jnp.float32)

    def temporary(implementation):
        run = functools.partial(attention, layout=layout, scale=1.0, implementation=implementation)
        grad = jax.jit(jax.grad(lambda q, k, v: run(q, k, v).sum(), argnums=(0, 1, 2)))
        return grad.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    whole_row = 2 * 4096 * 4096 * 4
    assert temporary("xla") > whole_row
    assert temporary("chunked") < whole_row


def test_frequencies_do_not_overflow_for_large_bases():
    slow = frequencies(256, 1e6)
    assert slow.shape == (128,) and slow[0] == 1.0 and 0 < slow[-1] < 2e-6
