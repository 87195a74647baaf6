"""The bytes that chips of a mesh must send in a step, in theory. A compiled step's traffic is compared with them.

    weights     the layers' weights are gathered twice, for the forward and for the backward pass
    gradients   they are scattered once, so that each place keeps its share, and summed over replicas
    rows        embeddings, looked up by columns, are exchanged for rows, and their gradients back again; where heads
                and MLPs are split, each layer sums over the tensor axis

All are in the compute dtype, with the least bytes that any algorithm sends (see ``traffic``).
"""

import math
import re
from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh, Mesh

from gpmjax.aot.workload import Workload
from gpmjax.sharding import path_name, spec_for
from gpmjax.train.optimizer import frozen_patterns, split_params

COMPUTE_BYTES = {"bfloat16": 2, "float32": 4}


class Exchange(NamedTuple):
    """Bytes that a chip sends in one step."""

    weights: float
    gradients: float
    rows: float

    @property
    def total(self) -> float:
        return sum(self)


def needed_exchange(workload: Workload, mesh: Mesh | AbstractMesh, accumulate: int = 1) -> Exchange:
    """The exchange of a step over ``mesh``, whose rows are computed in ``accumulate`` parts, one after another."""
    sizes, item = mesh.shape, COMPUTE_BYTES[workload.backbone.dtype]
    trained = _paths(split_params(workload.params, frozen_patterns(workload.backbone))[0])
    weights = gradients = 0.0
    for path, shape in _paths(workload.params).items():
        spec = spec_for(path, shape)
        if "fsdp" not in spec or not _multiplies(path, workload):
            continue
        whole = item * math.prod(shape) / (sizes["tensor"] if "tensor" in spec else 1)
        weights += 2 * accumulate * _others(sizes["fsdp"]) * whole
        if path in trained:
            share = whole / sizes["fsdp"]
            gradients += accumulate * (_others(sizes["fsdp"]) * whole + 2 * _others(sizes["data"]) * share)
    return Exchange(weights, gradients, item * _row_numbers(workload, sizes, trained))


def _paths(tree) -> dict[str, tuple[int, ...]]:
    """Path → shape of every leaf."""
    return {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _others(places: int) -> float:
    """The share of an array that is at other places."""
    return (places - 1) / places


def _multiplies(path: str, workload: Workload) -> bool:
    """Whether rows are multiplied by a parameter, which must then be gathered, unlike a table that is looked up."""
    if path.startswith("decoder/layers"):
        return True
    table = "lm_head/kernel" if "lm_head" in workload.params["decoder"] else "embed/embedding"
    return path.endswith(table) and bool(workload.needed.predicted > 0)


def _row_numbers(workload: Workload, sizes, trained) -> float:
    """How many numbers of hidden states and of their gradients a chip sends."""
    decoder = workload.decoder
    hidden = workload.rows * workload.slots * decoder.hidden_size / (sizes["data"] * sizes["fsdp"])
    exchanges = 1 + ("decoder/embed/embedding" in trained)
    # Sums of outputs of attention and the MLP (forward), of gradients of their inputs (backward), and of what remat
    # repeats.
    again = {"none": 0, "dots": 0, "full": 1 + decoder.post_norms}[workload.backbone.remat]
    backward = 2 if any(re.match("decoder/(layers|embed)", path) for path in trained) else 0
    sums = 1 + decoder.num_layers * (2 + (again + backward if backward else 0))
    return hidden * (exchanges * _others(sizes["fsdp"]) + sums * 2 * _others(sizes["tensor"]))
