"""Compiles real training steps for eight fake devices and prints, as JSON, the collectives of each:

    compiled.py CASE…

What XLA says while it partitions goes to stderr, which is why this is a program of its own.
"""

import json
import os
import re
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

from gpmjax.arrays import Comparisons, TokenBatch, TokenLayout
from gpmjax.config import LossConfig, OptimizerConfig
from gpmjax.fit.step import make_train_step
from gpmjax.models.config import DecoderConfig, LoRA, Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import batch_sharding, make_mesh, tree_shardings
from gpmjax.train.optimizer import ALL_BUT_ADAPTERS, make_optimizer, split_params
from gpmjax.train.state import TrainState, jit_step, state_shardings

# No two sizes are alike, so that a shape tells what it is of.
LAYERS, WIDTH, INNER, VOCABULARY, ROWS, SLOTS = 3, 64, 160, 512, 16, 24
DECODER = DecoderConfig(
    vocab_size=VOCABULARY, hidden_size=WIDTH, num_layers=LAYERS, num_heads=8, num_kv_heads=4, mlp_size=INNER,
    tie_embeddings=True,
)  # fmt: skip
LORA = LoRA(4, 8.0, ("q", "v", "down"))
CASES = {
    "fsdp": dict(mesh=(1, 8, 1)),
    "all": dict(mesh=(2, 2, 2), lm=0.1),
    "lora": dict(mesh=(1, 4, 2), lora=LORA, freeze=(ALL_BUT_ADAPTERS,)),
    "frozen": dict(mesh=(2, 4, 1), freeze=("^decoder/",)),
}


def shaped_batch(mesh):
    def of(dtype, *shape):
        return jax.ShapeDtypeStruct((ROWS, *shape), dtype, sharding=batch_sharding(mesh))

    integers, floats = (lambda *shape: of(jnp.int32, *shape)), (lambda *shape: of(jnp.float32, *shape))
    layout = TokenLayout(*(integers(SLOTS) for _ in range(3)))
    pairs = Comparisons(integers(1), integers(1), floats(1), floats(1), floats(1), integers(1))
    return TokenBatch(
        integers(SLOTS), layout, integers(2), integers(2), of(bool, 2), integers(SLOTS), floats(SLOTS), pairs
    )


def compile_step(mesh, lora=None, freeze=(), lm=0.0) -> str:
    """Optimised HLO of one step."""
    mesh = make_mesh(*mesh)
    spec = PreferenceSpec(kind="gpm", dim=4, gate="softmax", normalise="l2", tau=0.1)
    model = PreferenceModel(DECODER, spec, Runtime(dtype="bfloat16", remat="full", lora=lora, mesh=mesh))
    batch = shaped_batch(mesh)

    def blank(shapes):
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    params = jax.eval_shape(lambda key: model.init(key, blank(batch))["params"], jax.random.key(0))
    trainable, frozen = split_params(params, freeze)
    optimizer = make_optimizer(OptimizerConfig(), 10)
    state = TrainState(jax.ShapeDtypeStruct((), jnp.int32), trainable, jax.eval_shape(optimizer.init, trainable))

    def placed(leaf, sharding):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    arguments = (
        jax.tree.map(placed, state, state_shardings(state, mesh)),
        jax.tree.map(placed, frozen, tree_shardings(mesh, frozen)),
        batch,
    )
    step = jit_step(make_train_step(model, optimizer, LossConfig(lm_coefficient=lm)), state, mesh)
    return step.lower(*arguments).compile().as_text()


def collectives(hlo: str) -> list[dict]:
    """Every collective: its kind, the shapes that it gives, and whether it is part of the program's top level."""
    found, top = [], False
    for line in hlo.splitlines():
        if line and not line[0].isspace():
            top = line.startswith("ENTRY")
        line = re.sub(r"/\*.*?\*/", "", line)
        match = re.search(
            r" = (\(.*?\)|\S+) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)", line
        )
        if match:
            shapes = [
                [int(size) for size in dims.split(",") if size] for dims in re.findall(r"\w\[([\d,]*)\]", match[1])
            ]
            name = re.search(r'op_name="([^"]*)"', line)
            found.append({"kind": match[2], "shapes": shapes, "top": top, "name": name[1] if name else ""})
    return found


if __name__ == "__main__":
    print(json.dumps({case: collectives(compile_step(**CASES[case])) for case in sys.argv[1:]}))
