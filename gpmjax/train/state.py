"""The state that a run carries from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from gpmjax.arrays import Array
from gpmjax.sharding import replicated, tree_shardings

TPU_OPTIONS = {"xla_tpu_enable_windowed_einsum_for_all_gather": False}
"""XLA's compiler options on TPUs: weights are gathered whole, then multiplied. By default XLA multiplies part by part
as they arrive, and reads and writes the sum so far in HBM each time: more than twice the traffic of a whole Gemma-2B
step (gpmjax/aot)."""


class TrainState(NamedTuple):
    """Everything that a step changes. Frozen parameters are passed to the step beside the state."""

    step: Array
    """[] int32: batches done; also the whole state of the data, since batch n is a function of n."""
    params: Any
    """Trained parameters, a nested dict of f32."""
    optimizer: Any


def init_state(params: Any, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """A state at step 0, whose optimiser moments are made on their shards."""

    def build(params):
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(build, out_shardings=state_shardings(jax.eval_shape(build, params), mesh))(params)


def state_shardings(state: TrainState, mesh: Mesh | AbstractMesh) -> TrainState:
    """Shardings for a state, or for its shapes."""
    step: Any = replicated(mesh)
    return TrainState(step, tree_shardings(mesh, state.params), tree_shardings(mesh, state.optimizer))


def jit_step(step: Callable, state: TrainState, mesh: Mesh) -> jax.stages.Wrapped:
    """Compiles a pure ``step(state, frozen, batch) → (state, metrics)``.

    ``state`` is donated and comes back on the same shards, so that the second step needs no second compilation.
    Metrics are whole on every host.

    Args:
      state: the state, or its shapes.
    """
    options = TPU_OPTIONS if mesh.devices.flat[0].platform == "tpu" else None
    places = state_shardings(state, mesh), replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=places, compiler_options=options)
