"""One update of anything: batch → loss → gradients → parameters.

Sums over examples are divided by the whole batch's weights before they are differentiated, so micro-batches and
devices add up to the full batch's gradient, as on paper.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gpmjax.arrays import Array
from gpmjax.train.optimizer import merge_params
from gpmjax.train.state import TrainState


def make_step(
    *,
    weighs: Callable[[Any], Array],
    totals: Callable[[Any], dict[str, Array]],
    loss: Callable[[Any, Any, dict[str, Array]], tuple[Array, dict[str, Array]]],
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
) -> Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, Array]]]:
    """``step(state, frozen, batch) → (state, metrics)`` of any loss; pure, to be jitted with ``state`` donated.

    A batch whose weights are all 0 is no step: parameters, the optimiser's state and its place in the schedule stay
    as they are, bit by bit; only ``state.step``, which counts batches, increases. A gradient of 0 would not do: Adam
    and momentum would move the parameters by their moments, all moments would decay, RMSProp's next step would be
    larger, and weight decay would shrink the parameters.

    Args:
      weighs: batch → [] bool, False if every weight in it is 0.
      totals: the whole batch → the divisors of its micro-batches' sums.
      loss: (params, micro-batch, totals) → its share of the loss, and of the metrics, "example_loss" [B, …] among them.
    """

    def step(state: TrainState, frozen: Any, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        whole = totals(batch)

        def share(trainable: Any, micro: Any) -> tuple[Array, dict[str, Array]]:
            return loss(merge_params(trainable, frozen), micro, whole)

        differentiate = jax.grad(share, has_aux=True)
        metrics: dict[str, Array]
        if accumulate == 1:
            gradient, metrics = differentiate(state.params, batch)
        else:

            def add(gradient, micro):
                part, metrics = differentiate(state.params, micro)
                return jax.tree.map(jnp.add, gradient, part), metrics

            zeros = jax.tree.map(jnp.zeros_like, state.params)
            gradient, shares = jax.lax.scan(add, zeros, _micro_batches(batch, accumulate))
            examples = shares.pop("example_loss")
            metrics = {name: jnp.sum(values) for name, values in shares.items()}
            # Undo the stride: [A, B/A, …] → [B, …] in the batch's order.
            metrics["example_loss"] = jnp.swapaxes(examples, 0, 1).reshape(-1, *examples.shape[2:])
        updates, moments = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        moves = weighs(batch)
        params, moments = jax.tree.map(
            lambda after, before: jnp.where(moves, after, before), (params, moments), (state.params, state.optimizer)
        )
        return TrainState(state.step + 1, params, moments), metrics

    return step


def _micro_batches(batch: Any, accumulate: int) -> Any:
    """[B, …] → [accumulate, B / accumulate, …], each taking every accumulate-th row.

    Micro-batches are strided, so that every device keeps its own rows and nothing is exchanged.
    """

    def fold(rows):
        return jnp.swapaxes(rows.reshape(rows.shape[0] // accumulate, accumulate, *rows.shape[1:]), 0, 1)

    return jax.tree.map(fold, batch)
