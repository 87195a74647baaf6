"""FLOPs counted in compiled text: of products, of convolutions, and of kernels that state their cost."""

import jax
import jax.numpy as jnp
import pytest

from gpmjax.aot.compute import kernel_bytes, matrix_flops
from gpmjax.aot.hlo import Module

TEXT = """HloModule step

ENTRY %main (a: f32[4,6], b: f32[6,5]) -> f32[4,5] {{
  %a = f32[{left}]{{1,0}} parameter(0)
  %b = f32[{right}]{{1,0}} parameter(1)
  ROOT %out = f32[{out}]{{1,0}} convolution(%a, %b), {attributes}
}}
"""


def test_loops_count_as_often_as_they_turn():
    def run(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    shapes = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((5, 16, 16), jnp.float32)
    assert matrix_flops(Module(jax.jit(run).lower(*shapes).compile().as_text())) == 5 * 2 * 8 * 16 * 16


@pytest.mark.parametrize(
    "left, right, out, attributes, flops",
    [
        # One matrix product, [4, 6] × [6, 5].
        ("4,6", "6,5", "4,5", "dim_labels=bf_io->bf", 2 * 4 * 6 * 5),
        # Three products, one per row: a window of three over three dilated rows meets each row once.
        (
            "3,4,6",
            "3,6,5",
            "3,4,5",
            "window={size=3 stride=2 lhs_dilate=3}, dim_labels=0bf_0io->0bf",
            3 * 2 * 4 * 6 * 5,
        ),
        # A sum over two rows is a window that fits once.
        ("2,4,6", "2,6,5", "1,4,5", "window={size=2}, dim_labels=0bf_0io->0bf", 2 * 2 * 4 * 6 * 5),
        # An outer product over rows: in each window all places but one are padding.
        (
            "1,4,6",
            "7,6,5",
            "7,4,5",
            "window={size=7 pad=6_6 rhs_reversal=1}, dim_labels=0bf_0io->0bf",
            7 * 2 * 4 * 6 * 5,
        ),
    ],
    ids=["matrix", "batch", "contraction", "outer"],
)
def test_convolutions_count_only_elements_that_are_not_padding(left, right, out, attributes, flops):
    assert matrix_flops(Module(TEXT.format(left=left, right=right, out=out, attributes=attributes))) == flops


def test_a_kernel_counts_with_the_cost_that_it_states():
    estimate = '"cost_estimate":{"flops":"48","transcendentals":"2","bytes_accessed":"77"}'
    cost = f'backend_config={{"custom_call_config":{{{estimate}}}}}'
    text = TEXT.format(left="4,6", right="6,5", out="4,5", attributes=f'custom_call_target="tpu_custom_call", {cost}')
    module = Module(text.replace("convolution(", "custom-call("))
    (kernel,) = (i for i in module.computations["main"] if i.root)
    assert matrix_flops(module) == 48 and kernel_bytes(kernel) == 77
    assert kernel_bytes(module.computations["main"][0]) is None
