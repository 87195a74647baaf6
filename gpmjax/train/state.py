"""What a run carries from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from gpmjax.arrays import Array
from gpmjax.sharding import replicated, tree_shardings

TPU_OPTIONS = {"xla_tpu_enable_windowed_einsum_for_all_gather": False}
"""Weights are gathered whole, then multiplied. By default XLA multiplies part by part as they come in, and reads and writes
the sums of all parts before in HBM each time: more than twice the traffic of a whole Gemma-2B step (gpmjax/aot)."""


class TrainState(NamedTuple):
    """Everything that changes. Frozen parameters do not, and are passed to the step beside it."""

    step: Array
    """[] int32: updates done; also the whole state of the data, since batch n is a function of n."""
    params: Any
    """What trains, as a nested dict; f32."""
    optimizer: Any


def init_state(params: Any, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """A state at step 0 whose optimiser moments are born on their shards."""

    def build(params):
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(build, out_shardings=state_shardings(jax.eval_shape(build, params), mesh))(params)


def state_shardings(state: TrainState, mesh: Mesh | AbstractMesh) -> TrainState:
    """Shardings for a state, or for its shapes."""
    return TrainState(replicated(mesh), tree_shardings(mesh, state.params), tree_shardings(mesh, state.optimizer))


def jit_step(step: Callable, state: TrainState, mesh: Mesh) -> jax.stages.Wrapped:
    """A pure ``step(state, frozen, batch) → (state, metrics)`` as it runs: ``state`` is donated, and comes back on the
    very shards that it came on, so that the second step needs no second compilation; metrics are whole on every host.

    Args:
      state: the state, or its shapes.
    """
    options = TPU_OPTIONS if mesh.devices.flat[0].platform == "tpu" else None
    places = state_shardings(state, mesh), replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=places, compiler_options=options)
