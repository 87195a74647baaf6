"""The training step with flash attention as a TPU's compiler leaves it: kernels, no [T, T], and the FLOPs of the formula.

In a process of its own: libtpu reads its environment once, and logs.
"""

import json
import subprocess
import sys

import pytest

SLOTS = 1536  # more than any other size of the program, so that a shape tells

CODE = """
import json, math, re, sys
from gpmjax.aot.chips import slice_chips
from gpmjax.aot.hlo import Module, dimensions
from gpmjax.aot.program import compile_step, slice_devices
from gpmjax.aot.report import report
from gpmjax.aot.workload import batch_shape, fit_workload
from gpmjax.config import Config, DataConfig, MeshConfig, ModelConfig
from gpmjax.models.config import DecoderConfig

topology, attention, slots = sys.argv[1], sys.argv[2], int(sys.argv[3])
decoder = DecoderConfig(vocab_size=512, hidden_size=256, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=64, mlp_size=512,
                        layer_types=("sliding", "full", "sliding"), window=100, attention_softcap=30.0)
config = Config(
    model=ModelConfig(source="random:tiny", attention=attention, remat="full"),
    data=DataConfig(train=("builtin:letters",), rows=4, max_length=slots // 2, packing="single"),
    mesh=MeshConfig(tensor=2),
)
workload = fit_workload(config, decoder, batch_shape(config))
compiled = compile_step(config, workload, slice_devices(topology))
chip, chips = slice_chips(topology)
one = report(topology, chip, chips, workload, compiled)
quadratic = [shape for shape in set(re.findall(r"\\w+\\[[\\d,]+\\]", compiled.text)) if sum(size >= slots for size in dimensions(shape)) > 1]
kernels = {name: sum(runs * (i.opcode == "custom-call" and name in i.name) for c, runs in Module(compiled.text).runs().items()
                     for i in Module(compiled.text).computations[c]) for name in ("forward_kernel", "query_kernel", "key_kernel")}
print(json.dumps(dict(quadratic=quadratic, kernels=kernels, compiled=one.compiled_flops, run=one.hardware_flops,
                      planned=one.planned_flops, sent=one.sent, needed=one.needed.total)))
"""


def compiled(attention: str) -> dict:
    command = [sys.executable, "-c", CODE, "v5e:2x2", attention, str(SLOTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def flash():
    return compiled("flash")


def test_no_buffer_grows_with_the_square_of_a_row(flash):
    assert flash["quadratic"] == [] and compiled("xla")["quadratic"]


def test_the_kernels_run_in_every_layer_and_once_more_for_recomputation(flash):
    assert flash["kernels"] == {"forward_kernel": 6, "query_kernel": 3, "key_kernel": 3}


def test_compiled_flops_are_the_formulas(flash):
    assert flash["compiled"] == pytest.approx(flash["run"], rel=1e-3)
