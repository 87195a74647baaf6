"""Flash attention, with a TPU's kernels interpreted, equals plain attention, gradients too, also on a mesh."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from gpmjax.arrays import TokenLayout
from gpmjax.models.attention import flash, splash, triton_flash
from gpmjax.models.attention.block_softmax import AttentionSettings
from gpmjax.models.attention.flash import padded_slots
from gpmjax.models.attention.grouped_query import attention
from gpmjax.models.attention.visibility import slot_tags
from gpmjax.models.attention.visits import block_size
from gpmjax.sharding import batch_sharding, make_mesh
from tests.models.attention.gradients import both, draw_inputs

SLOTS = 1100  # not a multiple of a block's 384 slots: three blocks


interpreted = types.SimpleNamespace(
    forward=functools.partial(splash.forward, interpret=True),
    backward=functools.partial(splash.backward, interpret=True),
)


@pytest.fixture(autouse=True)
def tpu_kernels(monkeypatch):
    """A TPU's kernels, interpreted, take the place of this platform's."""
    monkeypatch.setattr(flash, "blockwise", interpreted)


@pytest.fixture(scope="module")
def layout(token_batch):
    """Two rows: three groups; and one whose responses are further apart than a block."""

    def ids(*lengths):
        return [[7] * length for length in lengths]

    rows = [[(7, ids(130, 250, 20)), (30, ids(260)), (5, ids(200, 133))], [(300, ids(400, 399))]]
    rows = [[([7] * prompt, answers) for prompt, answers in row] for row in rows]
    return TokenLayout(*map(jnp.asarray, token_batch(rows, slots=SLOTS).layout))


def arrays(heads, key_heads, width, slots=SLOTS, **options):
    return draw_inputs(slots, heads, key_heads, width, **options)


@pytest.mark.parametrize(
    "window, softcap, heads, width",
    [(None, None, (4, 2), 16), (jnp.int32(237), 2.0, (3, 1), 6)],
    ids=["grouped", "window-softcap-multiquery"],
)
def test_the_same_function_as_plain_attention(layout, window, softcap, heads, width):
    settings = dict(scale=0.4, window=window, softcap=softcap)
    plain, ours = (both(layout, *arrays(*heads, width), **settings, implementation=name) for name in ("xla", "flash"))
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_bfloat16_is_as_near_to_float32_as_plain_attention_is(layout):
    exact = both(layout, *arrays(2, 2, 16), scale=0.25)
    short = arrays(2, 2, 16, dtype=jnp.bfloat16)
    plain, ours = (both(layout, *short, scale=0.25, implementation=name) for name in ("xla", "flash"))

    def error(rounded, true):
        return np.abs(np.asarray(rounded, np.float32) - true).mean()

    for mine, theirs, true in zip(ours, plain, exact, strict=True):
        assert mine.dtype == jnp.bfloat16 and error(mine, true) <= 1.5 * error(theirs, true)


def test_padding_gives_nothing_and_takes_nothing(layout):
    q, k, v, given = arrays(1, 1, 8)
    padding = np.asarray(layout.group) == 0

    @jax.jit
    def run(q, k, v, given):
        mixed, back = jax.vjp(functools.partial(attention, layout=layout, scale=1.0, implementation="flash"), q, k, v)
        return mixed, back(given)

    mixed, gradients = run(q, k, v, np.where(padding[:, :, None, None], given, 0))
    assert padding.any() and not np.asarray(mixed)[padding].any()
    assert not any(np.asarray(gradient).any() for gradient in gradients)


@pytest.mark.parametrize("key_heads", [2, 1])
def test_on_a_mesh_rows_and_heads_are_split_and_nothing_else_changes(layout, key_heads):
    mesh = make_mesh(2, 2, 2)
    tiled = TokenLayout(*(jnp.tile(field[:, 350:500], (2, 1)) for field in layout))
    q, k, v, given = arrays(4, key_heads, 8, rows=4, slots=150)
    alone = both(tiled, q, k, v, given, scale=0.3, implementation="flash")
    rows = jax.device_put((tiled, q, k, v, given), batch_sharding(mesh))
    spread = both(*rows, scale=0.3, implementation="flash", mesh=mesh)
    for ours, theirs in zip(spread, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    split = jax.jit(functools.partial(attention, scale=0.3, implementation="flash", mesh=mesh))
    text = split.lower(*rows[1:4], rows[0]).compile().as_text()
    assert "all-gather" not in text and "all-reduce" not in text


def test_heads_that_the_tensor_axis_cannot_split_are_refused(layout):
    mesh = make_mesh(1, 2, 4)
    for heads, key_heads in ((6, 2), (12, 3)):
        q, k, v, _ = arrays(heads, key_heads, 4)
        with pytest.raises(ValueError, match=f"config.mesh.tensor=4: attention='flash' needs .* {heads} query heads"):
            attention(q, k, v, layout, scale=1.0, implementation="flash", mesh=mesh)


@pytest.mark.parametrize("slots", [1, 128, 300, 2304, 4096, 4100])
def test_padding_is_less_than_a_block_and_needs_no_more(slots):
    padded = padded_slots(slots)
    assert 0 <= padded - slots < block_size(slots) and padded % block_size(padded) == 0 == padded % 128


def test_the_kernels_for_gpus_give_the_results_of_those_for_tpus(layout):
    tags, window = slot_tags(layout, padded_slots(SLOTS)), jnp.array([237])
    q, k, v, given = (
        jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, padded_slots(SLOTS) - SLOTS), (0, 0)))
        for x in arrays(2, 1, 24)
    )

    @functools.partial(jax.jit, static_argnums=0)
    def run(kernels):
        mixed, total = kernels.forward(q, k, v, tags, window, AttentionSettings(0.4, 2.0), interpret=True)
        mean = jnp.sum(mixed * given, axis=-1)
        return (
            mixed,
            total,
            *kernels.backward(q, k, v, tags, window, total, mean, given, AttentionSettings(0.4, 2.0), interpret=True),
        )

    for ours, theirs in zip(run(triton_flash), run(splash), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_tpus_copies_of_blocks_change_no_result(layout):
    """Blocks are copied ahead and back as on a TPU, through memory that held NaN before."""
    slots = padded_slots(SLOTS)
    tags, window = slot_tags(layout, slots), jnp.array([237])
    rng = np.random.default_rng(0)
    q, k, v, given = (jnp.asarray(rng.standard_normal((2, heads, slots, 8)), jnp.float32) for heads in (2, 1, 1, 2))

    @functools.partial(jax.jit, static_argnums=0)
    def run(interpret):
        mixed, total = splash.forward(q, k, v, tags, window, AttentionSettings(0.4, None), interpret=interpret)
        mean = jnp.sum(mixed * given, axis=-1)
        return (
            mixed,
            total,
            *splash.backward(
                q, k, v, tags, window, total, mean, given, AttentionSettings(0.4, None), interpret=interpret
            ),
        )

    as_a_tpu = pltpu.InterpretParams(uninitialized_memory="nan")
    for ours, theirs in zip(run(as_a_tpu), run(True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("width", [96, 256])
def test_the_kernels_for_gpus_lower_without_one(width):
    def row(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    layout, q, k = (
        TokenLayout(*[row(1, 500)] * 3),
        *(jax.ShapeDtypeStruct((1, 500, n, width), jnp.bfloat16) for n in (4, 2)),
    )

    def loss(q, k, v, layout):
        return attention(q, k, v, layout, scale=0.1, softcap=9.0, implementation="flash").sum()

    lowered = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(q, k, k, layout).lower(lowering_platforms=("cuda",))
    assert all(name in lowered.as_text() for name in ("forward_kernel", "query_kernel", "key_kernel"))
