"""The training step of a config, compiled for devices that need not exist; no weight is read, no array is made."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AbstractMesh, Mesh

from gpmjax import hub
from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.models.config import DecoderConfig, require_one_of
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.sharding import batch_sharding, make_mesh, tree_shardings
from gpmjax.train.optimizer import frozen_patterns, make_optimizer, split
from gpmjax.train.state import TrainState, jit_step, state_shardings
from gpmjax.train.step import make_train_step

PUBLISHED: dict[str, str] = {
    "google/gemma-2b": "gemma-2b",
    "google/gemma-2b-it": "gemma-2b",
    "google/gemma-2-2b-it": "gemma2-2b",
    "google/gemma-3-1b-it": "gemma3-1b",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama3-8b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama31-8b",
    "meta-llama/Llama-3.2-1B-Instruct": "llama32-1b",
    "mistralai/Mistral-7B-Instruct-v0.1": "mistral-7b",
    "Qwen/Qwen2.5-0.5B-Instruct": "qwen25-0.5b",
    "Qwen/Qwen2.5-7B-Instruct": "qwen25-7b",
    "Qwen/Qwen3-0.6B": "qwen3-0.6b",
}
"""Hub ids whose shapes are known without asking the hub."""

SCHEDULED_STEPS = 1000  # the schedule's length is a constant in the program, and changes nothing else


class Memory(NamedTuple):
    """Bytes a chip, as the compiler allots them."""

    arguments: int
    """Parameters, optimiser state and the batch."""
    outputs: int
    aliased: int
    """Outputs that take over a donated argument's place."""
    temporaries: int
    code: int

    @property
    def peak(self) -> int:
        """No more than this is in use at once."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


class Compiled(NamedTuple):
    memory: Memory
    text: str
    """The optimised HLO of one device."""


def decoder_shape(source: str, preset: str = "") -> DecoderConfig:
    """The decoder that ``config.model.source`` names; without a network where its shape is known here.

    Args:
      preset: a name in gpmjax.models.presets that overrides it.
    """
    name = preset or PUBLISHED.get(source) or source.partition("random:")[2]
    if not name:
        return hub.open_source(source).config
    require_one_of("--preset", name, tuple(PRESETS))
    return PRESETS[name]


def batch_shape(config: Config, *, row_length: int = 0, responses: int = 2, comparisons: int = 1) -> BatchShape:
    """The shape of a batch. A run takes it from its data; here the longest rows that the config allows stand in."""
    data = config.data
    if row_length and data.row_length:
        row_length = min(row_length, data.row_length)
    return BatchShape(data.rows, row_length or data.row_length or 2 * data.max_length, responses, comparisons)


def slice_devices(topology: str) -> Sequence[Any]:
    """Descriptions of the devices of a TPU slice such as "v5e:4x4"; needs libtpu, no TPU.

    Raises:
      ValueError: libtpu is not installed, or knows no such slice.
    """
    # Nothing is run, so other processes may hold libtpu's lock; and there is no metadata server to ask about this host.
    for name, value in {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "TPU_MIN_LOG_LEVEL": "3",
        "TPU_STDERR_LOG_LEVEL": "3",
    }.items():
        os.environ.setdefault(name, value)
    # A lone chip is not the whole host that libtpu expects a topology to be made of.
    bounds = {"chips_per_host_bounds": [1, 1, 1]} if set(topology.partition(":")[2].split("x")) == {"1"} else {}
    try:
        return topologies.get_topology_desc(topology, platform="tpu", **bounds).devices
    except (RuntimeError, ImportError, OSError) as error:  # jax's own error is a RuntimeError
        reason = str(error).partition("\n")[0]
        raise ValueError(f"--topology={topology}: {reason} (libtpu comes with pip install 'gpmjax[tpu]')") from error


def abstract_arguments(
    config: Config, decoder: DecoderConfig, shape: BatchShape, mesh: Mesh | AbstractMesh
) -> tuple[TrainState, Any, Any]:
    """Shapes and shardings of a step's arguments: state, frozen parameters, batch."""
    model = PreferenceModel(decoder, config.model.spec(), config.model.runtime())
    optimizer = make_optimizer(config.optimizer, SCHEDULED_STEPS)
    row = assemble([[]], dataclasses.replace(shape, rows=1))
    params = jax.eval_shape(model.init, jax.random.key(0), row)["params"]
    trainable, frozen = split(params, frozen_patterns(config.model))
    state = jax.eval_shape(lambda params: TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)), trainable)
    batch = jax.tree.map(
        lambda field: jax.ShapeDtypeStruct((shape.rows, *field.shape[1:]), field.dtype, sharding=batch_sharding(mesh)), row
    )
    return _placed(state, state_shardings(state, mesh)), _placed(frozen, tree_shardings(mesh, frozen)), batch


def _placed(shapes: Any, shardings: Any) -> Any:
    place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return jax.tree.map(place, shapes, shardings)


class DoesNotFit(Exception):
    """The compiler finds no room for the step; the message is its own."""


def compile_step(config: Config, decoder: DecoderConfig, shape: BatchShape, devices: Sequence[Any]) -> Compiled:
    """Compiles the step of a run over ``devices``.

    Raises:
      ValueError: a mesh, or rows, that do not go with that many devices; a backbone that is not trained.
      DoesNotFit: a step that is too large for the devices' memory.
    """
    if config.model.backbone == "frozen":
        raise ValueError("config.model.backbone='frozen': only heads train, on cached features; there is nothing to plan")
    mesh = make_mesh(**dataclasses.asdict(config.mesh), devices=list(devices))
    places = mesh.shape["data"] * mesh.shape["fsdp"] * config.optimizer.accumulate
    if shape.rows % places:
        raise ValueError(
            f"config.data.rows={shape.rows}: must be a multiple of {places} (mesh data × fsdp × optimizer.accumulate)"
        )
    arguments = abstract_arguments(config, decoder, shape, mesh)
    runtime = dataclasses.replace(config.model.runtime(), mesh=mesh if mesh.size > 1 else None)
    model = PreferenceModel(decoder, config.model.spec(), runtime)
    optimizer = make_optimizer(config.optimizer, SCHEDULED_STEPS)
    step = make_train_step(model, optimizer, config.loss, config.optimizer.accumulate)
    try:
        compiled = jit_step(step, arguments[0], mesh).lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(str(error).strip().partition("\n")[0]) from error
    stats = compiled.memory_analysis()
    memory = Memory(
        arguments=stats.argument_size_in_bytes,
        outputs=stats.output_size_in_bytes,
        aliased=stats.alias_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
    )
    return Compiled(memory, compiled.as_text())
