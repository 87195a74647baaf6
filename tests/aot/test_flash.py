"""A TPU's compiled training step with flash attention has the kernels, no [T, T] buffer, and the formula's FLOPs.

It is compiled in a separate process, since libtpu reads its environment only once, and logs.
"""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from gpmjax.aot.hlo import dimensions
from gpmjax.arrays import TokenLayout
from gpmjax.models.attention.grouped_query import attention

SLOTS = 640  # larger than any other size in the program, so that it is recognised in shapes

CODE = """
import json, re, sys
from gpmjax.aot.topology import slice_chips
from gpmjax.aot.hlo import Module
from gpmjax.aot.program import compile_step, slice_devices
from gpmjax.aot.report import report
from gpmjax.aot.workload import largest_batch_shape, fit_workload
from gpmjax.config import Config, DataConfig, MeshConfig, ModelConfig
from gpmjax.models.config import DecoderConfig

topology, slots = sys.argv[1], int(sys.argv[2])
decoder = DecoderConfig(vocab_size=256, hidden_size=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=64,
                        mlp_size=256, layer_types=("sliding", "full"), window=100, attention_softcap=30.0)
config = Config(
    model=ModelConfig(source="random:tiny", attention="flash", remat="full"),
    data=DataConfig(train=("builtin:letters",), rows=4, max_length=slots // 2, packing="single"),
    mesh=MeshConfig(tensor=2),
)
workload = fit_workload(config, decoder, largest_batch_shape(config))
compiled = compile_step(config, workload, slice_devices(topology))
chip, chips = slice_chips(topology)
one, module = report(topology, chip, chips, workload, compiled), Module(compiled.text)
kernels = {"forward_kernel": 0, "query_kernel": 0, "key_kernel": 0}
for computation, times in module.runs().items():
    for instruction in module.computations[computation]:
        for name in kernels:
            kernels[name] += times * (instruction.opcode == "custom-call" and instruction.name.startswith(name))
shapes = sorted(set(re.findall(r"\\w+\\[[\\d,]+\\]", compiled.text)))
print(json.dumps(dict(shapes=shapes, kernels=kernels, compiled=one.compiled_flops, run=one.hardware_flops)))
"""


@pytest.fixture(scope="module")
def step():
    # The least effort keeps the compilation short.
    quickly = {"JAX_EXEC_TIME_OPTIMIZATION_EFFORT": "-1", "JAX_MEMORY_FITTING_EFFORT": "-1"}
    command = [sys.executable, "-c", CODE, "v5e:2x2", str(SLOTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ | quickly)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def quadratic(shapes: list[str]) -> list[str]:
    """The shapes of which two sizes are a row's slots, padded or not."""
    return [shape for shape in shapes if sum(size >= SLOTS for size in dimensions(shape)) > 1]


def test_no_buffer_grows_with_the_square_of_a_row(step):
    assert any(SLOTS in dimensions(shape) for shape in step["shapes"]) and quadratic(step["shapes"]) == []
    x, layout = jnp.zeros((1, SLOTS, 1, 8)), TokenLayout(*[jnp.zeros((1, SLOTS), int)] * 3)
    plain = jax.make_jaxpr(lambda x: attention(x, x, x, layout, scale=1.0))(x)
    assert quadratic([f"f32[{','.join(map(str, equation.outvars[0].aval.shape))}]" for equation in plain.eqns])


def test_the_kernels_run_in_every_layer_and_once_more_for_recomputation(step):
    assert step["kernels"] == {"forward_kernel": 4, "query_kernel": 2, "key_kernel": 2}


def test_compiled_flops_are_the_formulas(step):
    assert step["compiled"] == pytest.approx(step["run"], rel=1e-3)
