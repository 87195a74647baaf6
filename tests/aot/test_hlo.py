"""Counts from compiled text are right for programs whose loops, collectives and traffic are known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gpmjax.aot.hlo import Module, shape_bytes
from gpmjax.aot.traffic import collectives, hbm_bytes, sent_by_kind
from gpmjax.sharding import make_mesh

# Text as a TPU's compiler writes it, without trip counts. The loop's counter starts at 1 and goes up by 2 while below
# 10, so there are 5 turns. The all-gather is spread over two fusions, one of them in the loop. The permuted buffer and
# %slice's result are on the chip.
TPU_TEXT = """HloModule step, is_scheduled=true

%start (p.0: f32[8,128]) -> f32[16,128] {
  %p.0 = f32[8,128]{1,0} parameter(0)
  ROOT %ag.0 = f32[16,128]{1,0} all-gather(%p.0), channel_id=7, replica_groups=[1,2]<=[2], dimensions={0}
}

%onward (p.1: f32[8,128]) -> f32[16,128] {
  %p.1 = f32[8,128]{1,0} parameter(0)
  ROOT %ag.1 = f32[16,128]{1,0} all-gather(%p.1), channel_id=7, replica_groups=[1,2]<=[2], dimensions={0}
}

%pick (p.2: f32[5,8,128], p.3: s32[]) -> f32[8,128] {
  %p.2 = f32[5,8,128]{2,1,0} parameter(0)
  %p.3 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %piece = f32[8,128]{1,0} dynamic-slice(%p.2, %p.3, %zero, %zero), dynamic_slice_sizes={1,8,128}
}

%body (state: (s32[], f32[8,128], f32[5,8,128])) -> (s32[], f32[8,128], f32[5,8,128]) {
  %state = (s32[], f32[8,128]{1,0}, f32[5,8,128]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[8,128]{1,0} get-tuple-element(%state), index=1
  %stack = f32[5,8,128]{2,1,0} get-tuple-element(%state), index=2
  %one = s32[] constant(1)
  %j = s32[] add(%i, %one)
  %next = s32[] add(%j, %one)
  %slice = f32[8,128]{1,0:T(8,128)S(1)} fusion(%stack, %i), kind=kLoop, calls=%pick
  %more = f32[16,128]{1,0:T(8,128)S(1)} fusion(%slice), kind=kCustom, calls=%onward
  %sent = (f32[8,128]{1,0:S(1)}, f32[8,128]{1,0:S(1)}, u32[]{:S(2)}) \
collective-permute-start(%slice), channel_id=9, source_target_pairs={{0,1},{1,0}}
  %got = f32[8,128]{1,0:S(1)} collective-permute-done(%sent)
  ROOT %new = (s32[], f32[8,128]{1,0}, f32[5,8,128]{2,1,0}) tuple(%next, %x, %stack)
}

%condition (state.1: (s32[], f32[8,128], f32[5,8,128])) -> pred[] {
  %state.1 = (s32[], f32[8,128]{1,0}, f32[5,8,128]{2,1,0}) parameter(0)
  %counter = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[] constant(10)
  ROOT %less = pred[] compare(%counter, %limit), direction=LT
}

ENTRY %main (a: f32[8,128], b: f32[5,8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  %b = f32[5,8,128]{2,1,0} parameter(1)
  %first = s32[] constant(1)
  %begun = f32[16,128]{1,0:T(8,128)S(1)} fusion(%a), kind=kCustom, calls=%start
  %init = (s32[], f32[8,128]{1,0}, /*index=2*/f32[5,8,128]{2,1,0}) tuple(%first, %a, %b)
  %loop = (s32[], f32[8,128]{1,0}, f32[5,8,128]{2,1,0}) while(%init), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0} get-tuple-element(%loop), index=1
}
"""
PIECE = 4 * 8 * 128


def test_a_loop_without_a_trip_count_is_counted_by_its_counter():
    runs = Module(TPU_TEXT).runs()
    assert runs["body"] == 5 and runs["onward"] == 5 and runs["start"] == 1


def test_a_collective_hidden_behind_a_loop_is_counted_once():
    kinds = sent_by_kind(collectives(Module(TPU_TEXT), 2))
    assert kinds == {
        "all-gather": {"times": 1, "bytes": PIECE},  # half of the result was here already
        "collective-permute": {"times": 5, "bytes": 5 * PIECE},
    }


def test_hbm_traffic_leaves_out_buffers_on_the_chip_and_parts_that_are_not_sliced():
    # The all-gather's operand counts once, and one slice of the stack in each of five turns.
    counters = 5 * (2 * 12 + 9 + 4)  # two additions of 4-byte numbers a turn, a comparison, and the slice's index
    assert hbm_bytes(Module(TPU_TEXT)) == PIECE + 5 * PIECE + counters


def test_a_slice_that_is_fetched_ahead_counts_without_the_rest_of_its_array():
    slice_ = (
        "%cut = ((f32[8,128]{1,0}), f32[2,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2], [0:128]}"
    )
    text = TPU_TEXT.replace("  %begun =", f"  {slice_}\n  %begun =")
    assert hbm_bytes(Module(text)) == hbm_bytes(Module(TPU_TEXT)) + 4 * 2 * 128


def test_a_loop_of_unknown_turns_is_an_error():
    with pytest.raises(ValueError, match="while loop loop: its condition condition does not compare"):
        Module(TPU_TEXT.replace("direction=LT", "direction=NE")).runs()


@pytest.mark.parametrize(
    "shape, size", [("f32[2,3]{1,0}", 24), ("(s8[5], pred[2])", 7), ("bf16[]", 2), ("token[]", 0), ("f8e4m3fn[3]", 3)]
)
def test_sizes(shape, size):
    assert shape_bytes(shape) == size


@pytest.mark.parametrize("layers", [3, 7])
def test_collectives_of_a_scanned_model_grow_with_its_layers(layers):
    mesh = make_mesh()

    def split(*spec):
        return NamedSharding(mesh, P(*spec))

    weights = jax.ShapeDtypeStruct((layers, 64, 64), jnp.float32, sharding=split(None, "fsdp"))
    rows = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=split("fsdp"))

    def run(rows, weights):
        def layer(x, w):
            return (jax.lax.with_sharding_constraint(jnp.tanh(x @ w), split("fsdp")), None)

        return jax.lax.scan(layer, rows, weights)[0]

    module = Module(jax.jit(run, out_shardings=split("fsdp")).lower(rows, weights).compile().as_text())
    kinds = sent_by_kind(collectives(module, 8))
    # Seven eighths of every layer's 64 × 64 weights come from elsewhere.
    assert kinds == {"all-gather": {"times": layers, "bytes": layers * 4 * 64 * 64 * 7 / 8}}
