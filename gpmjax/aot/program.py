"""The training step of a config, compiled for devices that need not exist. No weights are read; no arrays are made."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AbstractMesh, Mesh

from gpmjax.aot.exchange import Exchange, needed_exchange
from gpmjax.aot.workload import Workload
from gpmjax.config import Config
from gpmjax.config.improve import ImproveConfig
from gpmjax.sharding import batch_places, batch_sharding, make_mesh, tree_shardings
from gpmjax.train.optimizer import frozen_patterns, make_optimizer, split_params
from gpmjax.train.state import TrainState, jit_step, state_shardings

ROWS = {"model": "data.rows", "policy": "batch"}
"""The config field with a batch's number of rows, by the section of the config that holds the backbone."""

SCHEDULED_STEPS = 1000  # the schedule's length; only a constant in the program depends on it


class Memory(NamedTuple):
    """Bytes per chip, as the compiler allocates them."""

    arguments: int
    """Parameters, optimiser state and the batch."""
    outputs: int
    aliased: int
    """Outputs that reuse the memory of donated arguments."""
    temporaries: int
    code: int

    @property
    def peak(self) -> int:
        """An upper bound of the bytes in use at one time."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


class Compiled(NamedTuple):
    """A compiled step: the memory that it takes and the program itself."""

    memory: Memory
    text: str
    """The optimised HLO of one device."""
    needed: Exchange
    """The bytes that a chip must send, in theory."""


def slice_devices(topology: str) -> Sequence[Any]:
    """Descriptions of the devices of a TPU slice such as "v5e:4x4"; needs libtpu, no TPU.

    Raises:
      ValueError: libtpu is not installed, or knows no such slice.
    """
    # Nothing is run, so another process may hold libtpu's lock. There is no metadata server to ask about this host.
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
    # libtpu builds a topology of whole hosts by default, so a slice of one chip needs hosts of one chip.
    bounds = {"chips_per_host_bounds": [1, 1, 1]} if set(topology.partition(":")[2].split("x")) == {"1"} else {}
    try:
        return topologies.get_topology_desc(topology, platform="tpu", **bounds).devices
    except (RuntimeError, ImportError, OSError) as error:  # jax's own error is a RuntimeError
        reason = str(error).partition("\n")[0]
        raise ValueError(f"--topology={topology}: {reason} (libtpu comes with pip install 'gpmjax[tpu]')") from error


def abstract_arguments(
    config: Config | ImproveConfig, workload: Workload, mesh: Mesh | AbstractMesh
) -> tuple[TrainState, Any, Any]:
    """The shapes and shardings of a step's arguments: state, frozen parameters, batch."""
    optimizer = make_optimizer(config.optimizer, SCHEDULED_STEPS)
    trainable, frozen = split_params(workload.params, frozen_patterns(workload.backbone))
    state = jax.eval_shape(
        lambda params: TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)), trainable
    )
    batch = jax.tree.map(
        lambda row: jax.ShapeDtypeStruct((workload.rows, *row.shape[1:]), row.dtype, sharding=batch_sharding(mesh)),
        workload.row,
    )
    return _placed(state, state_shardings(state, mesh)), _placed(frozen, tree_shardings(mesh, frozen)), batch


def _placed(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
    )


class DoesNotFit(Exception):
    """The step does not fit into the devices' memory. The message is the compiler's."""


def compile_step(config: Config | ImproveConfig, workload: Workload, devices: Sequence[Any]) -> Compiled:
    """Compiles the step of a run over ``devices``, jitted in the same way as by the run.

    Raises:
      ValueError: a mesh or a number of rows that does not suit the number of devices.
      DoesNotFit: the step is too large for the devices' memory.
    """
    mesh = make_mesh(**dataclasses.asdict(config.mesh), devices=list(devices))
    places = batch_places(mesh) * config.optimizer.accumulate
    if workload.rows % places:
        raise ValueError(
            f"config.{ROWS[workload.section]}={workload.rows}: must be a multiple of {places} "
            f"(mesh data × fsdp × optimizer.accumulate)"
        )
    arguments = abstract_arguments(config, workload, mesh)
    runtime = dataclasses.replace(workload.backbone.runtime(), mesh=mesh if mesh.size > 1 else None)
    step = workload.make_step(runtime, make_optimizer(config.optimizer, SCHEDULED_STEPS))
    try:
        compiled = jit_step(step, arguments[0], mesh).lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(str(error).strip().partition("\n")[0]) from error
    stats, text = compiled.memory_analysis(), compiled.as_text()
    assert stats is not None and text is not None  # as of every compiler but a plug-in's
    memory = Memory(
        arguments=stats.argument_size_in_bytes,
        outputs=stats.output_size_in_bytes,
        aliased=stats.alias_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
    )
    return Compiled(memory, text, needed_exchange(workload, mesh, config.optimizer.accumulate))
