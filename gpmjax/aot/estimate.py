"""Memory of a training step from shapes alone, for accelerators that XLA cannot compile for here.

Parameters, optimiser state and batch are exact, by their shardings; temporaries are a formula. Compared with the TPU
compiler's figure for the same step with flash attention, the formula gave 9 % more temporaries for Gemma-2B on v5e:4x4,
6 and 10 % less for Llama-3.1-8B on v5p:2x4x4 and v5e:8x8, 11 % more for its LoRA fit on one chip, and 1 % less for a
policy's step (Llama-3-8B on v5p:2x4x4). With blockwise attention it gave 2 to 13 % more.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh, AxisType

from gpmjax.aot.exchange import COMPUTE_BYTES
from gpmjax.aot.program import ROWS, abstract_arguments
from gpmjax.aot.workload import Workload
from gpmjax.config import Config
from gpmjax.config.improve import ImproveConfig
from gpmjax.models.attention.grouped_query import CHUNK
from gpmjax.sharding import AXES

# Buffers that are alive in one layer's backward pass:
_WIDE_MLP = 8  # of the MLP's width: gate, up, their product, and the gradients
_WIDE_HIDDEN = 12  # of the hidden size: the residual, norms' inputs and outputs, some of them in float32
_ATTENTION_BLOCKS = 3  # float32 logits, weights, and the gradient of one


class Prediction(NamedTuple):
    """Bytes per device."""

    state: int
    """Parameters, optimiser state and batch: exact."""
    gradients: int
    weights: int
    """Copies in the compute dtype: of the device's shards, and of two whole layers."""
    activations: int
    """Every layer's input, kept for the backward pass, and the buffers of one layer."""

    @property
    def peak(self) -> int:
        return sum(self)


def predict(config: Config | ImproveConfig, workload: Workload, devices: int) -> Prediction:
    """The predicted memory of one of ``devices`` devices.

    Raises:
      ValueError: a mesh that the devices do not fill, or a remat other than "full", for which there is no formula.
    """
    backbone, decoder = workload.backbone, workload.decoder
    if backbone.remat != "full":
        raise ValueError(
            f"config.{workload.section}.remat={backbone.remat!r}: must be 'full' for a prediction from shapes"
        )
    mesh = _abstract_mesh(config, devices)
    arguments = state, frozen, _ = abstract_arguments(config, workload, mesh)
    item, tensor = COMPUTE_BYTES[backbone.dtype], mesh.shape["tensor"]
    rows = workload.rows // config.optimizer.accumulate // (devices // tensor)
    if rows == 0:
        raise ValueError(
            f"config.{ROWS[workload.section]}={workload.rows}: fewer than the mesh's {devices // tensor} places"
        )
    own = _shard_elements(state.params) + _shard_elements(frozen)
    gathered = (
        2 * sum(leaf.size for leaf in jax.tree.leaves(workload.params["decoder"]["layers"])) // decoder.num_layers
    )
    # How many logits of each query are held at a time; flash attention holds them on the chip.
    block = {"xla": workload.slots, "chunked": min(CHUNK, workload.slots), "flash": 0, "blockwise": 0}[
        backbone.attention
    ]
    widths = _WIDE_HIDDEN * decoder.hidden_size
    widths += (_WIDE_MLP * decoder.mlp_size + 4 * (decoder.q_size + 2 * decoder.kv_size)) // tensor
    kept = decoder.num_layers * decoder.hidden_size
    logits = _ATTENTION_BLOCKS * 4 * rows * decoder.num_heads // tensor * block * workload.slots
    return Prediction(
        state=_shard_bytes(arguments),
        gradients=4 * _shard_elements(state.params),
        weights=item * (gathered // tensor + (own if item < 4 else 0)),
        activations=item * rows * workload.slots * (kept + widths) + logits,
    )


def _abstract_mesh(config: Config | ImproveConfig, devices: int) -> AbstractMesh:
    given = config.mesh
    sizes = [given.data * given.dcn_data, given.fsdp * given.dcn_fsdp, given.tensor]
    fixed = math.prod(size for size in sizes if size > 0)
    sizes = [size if size > 0 else devices // fixed for size in sizes]
    if math.prod(sizes) != devices:
        raise ValueError(f"config.mesh={dataclasses.asdict(given)}: sizes must multiply to {devices} devices")
    return AbstractMesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _shard_elements(tree: Any) -> int:
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _shard_bytes(tree: Any) -> int:
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
