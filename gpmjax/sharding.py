"""The mesh, and the rules that place every array on it.

The mesh has three axes: ``data`` (replicas), ``fsdp`` (replicas that split parameters and optimiser state among
themselves) and ``tensor`` (splits heads and the MLP's inner width). A *place* is a (data, fsdp) coordinate; each row of
a batch goes to one place. XLA derives the collectives; no other part of the project mentions devices.
"""

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp", "tensor")

BATCH = P(("data", "fsdp"))

# The first pattern found in a parameter's path applies. Layers are stacked, hence the leading None.
# The path of an optimiser moment contains its parameter's path, so these rules place moments too.
RULES: tuple[tuple[str, P], ...] = (
    (r"embed/embedding$", P("tensor", "fsdp")),
    (r"lm_head/kernel$", P("fsdp", "tensor")),
    (r"(q|k|v|gate|up)/kernel$", P(None, "fsdp", "tensor")),
    (r"(o|down)/kernel$", P(None, "tensor", "fsdp")),
    (r"layers/.*(q|k|v|gate|up)/bias$", P(None, "tensor")),
    # LoRA adds A B to W: A is split like W's rows, B like W's columns.
    (r"layers/.*(q|k|v|gate|up)/lora_a$", P(None, "fsdp", None)),
    (r"layers/.*(q|k|v|gate|up)/lora_b$", P(None, None, "tensor")),
    (r"layers/.*(o|down)/lora_a$", P(None, "tensor", None)),
    (r"layers/.*(o|down)/lora_b$", P(None, None, "fsdp")),
    # Norms, heads and scalars are small: every device holds them.
    (r"", P()),
)


def make_mesh(
    data: int = 1, fsdp: int = -1, tensor: int = 1, *, dcn_data: int = 1, dcn_fsdp: int = 1, devices=None
) -> Mesh:
    """A (data, fsdp, tensor) mesh over all devices; one size may be −1.

    Args:
      dcn_data, dcn_fsdp: how many TPU slices (or hosts, where devices have no slice index) the axis spans over the
        slower network. ``data`` and ``fsdp`` are the sizes within one slice; the mesh's sizes are the products.

    Raises ValueError when the sizes do not multiply to the number of devices, or the slices to the number of slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor, "dcn_data": dcn_data, "dcn_fsdp": dcn_fsdp}
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if len(devices) % fixed == 0:
        sizes = {axis: len(devices) // fixed if size == -1 else size for axis, size in sizes.items()}
    if math.prod(sizes.values()) != len(devices):
        raise ValueError(f"config.mesh={sizes}: sizes must multiply to the {len(devices)} devices there are")
    inner, outer = (sizes["data"], sizes["fsdp"], sizes["tensor"]), (sizes["dcn_data"], sizes["dcn_fsdp"], 1)
    # With Auto, XLA propagates shardings; Explicit would put them into the types of arrays.
    auto = (AxisType.Auto,) * len(AXES)
    # An axis of the mesh may be part of an axis of the slice: 4 × 8 chips may serve as 16 × 2.
    split = dict(allow_split_physical_axes=True)
    if math.prod(outer) == 1:
        return Mesh(mesh_utils.create_device_mesh(inner, devices, **split), AXES, axis_types=auto)
    slices = {getattr(device, "slice_index", None) for device in devices}
    by_host = len(slices) == 1
    hosts = {device.process_index for device in devices}
    if math.prod(outer) != len(hosts if by_host else slices):
        raise ValueError(
            f"config.mesh={sizes}: dcn_data × dcn_fsdp must be the number of {'hosts' if by_host else 'slices'}, "
            f"{len(hosts if by_host else slices)}"
        )
    grid = mesh_utils.create_hybrid_device_mesh(inner, outer, devices, process_is_granule=by_host, **split)
    return Mesh(grid, AXES, axis_types=auto)


@functools.cache
def row_share(mesh: Mesh, process: int | None = None) -> tuple[int, int]:
    """(index, count) of the equal shares of a batch's rows: the share that a process holds, and how many there are.

    There are as many shares as processes, unless ``tensor`` spans several processes, which then hold the same rows.

    Raises ValueError for a mesh on which two processes have some rows, but not all, in common.
    """
    process = jax.process_index() if process is None else process
    places = {}
    for place, devices in enumerate(mesh.devices.reshape(-1, mesh.shape["tensor"])):
        for device in devices:
            places.setdefault(device.process_index, set()).add(place)
    shares = sorted({tuple(sorted(held)) for held in places.values()})
    if sum(map(len, shares)) != batch_places(mesh) or len({len(share) for share in shares}) > 1:
        raise ValueError(
            f"config.mesh={dict(mesh.shape)}: data × fsdp places must be shared equally by the {len(places)} processes"
        )
    return shares.index(tuple(sorted(places[process]))), len(shares)


def path_name(path: tuple) -> str:
    """A key path of jax.tree_util as a string such as "decoder/layers/mlp/up/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def spec_for(path: str, shape: tuple[int, ...]) -> P:
    """The PartitionSpec of the first rule whose pattern is found in ``path``."""
    spec = next(spec for pattern, spec in RULES if re.search(pattern, path))
    # Rules are for a parameter's rank. Factored moments and scalars of the optimiser are small and are replicated.
    return spec if len(spec) <= len(shape) else P()


def sharding_for(mesh: Mesh | AbstractMesh, path: str, shape: tuple[int, ...]) -> NamedSharding:
    """The sharding of a parameter or of its optimiser moment.

    Raises ValueError, naming the parameter, its shape and the axis, when a mesh axis does not divide a dimension.
    """
    spec = spec_for(path, shape)
    for dimension, axis in enumerate(spec):
        if axis is not None and shape[dimension] % mesh.shape[axis]:
            raise ValueError(
                f"{path} of shape {shape}: dimension {dimension} is not divisible by mesh axis "
                f"{axis!r} of size {mesh.shape[axis]}"
            )
    return NamedSharding(mesh, spec)


def tree_shardings(mesh: Mesh | AbstractMesh, tree: Any) -> Any:
    """The shardings of a tree of arrays or shapes, by the rules."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: sharding_for(mesh, path_name(path), leaf.shape), tree)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of a batch: rows are split over data and fsdp."""
    return NamedSharding(mesh, BATCH)


def split_rows(activations: Any, mesh: Mesh | None) -> jax.Array:
    """Keeps the rows of activations [B, …] at the places of their batch.

    Without this, XLA may split the hidden dimension instead, as it does the weights, and send every row to every place.
    A batch that the places do not divide, such as the single row that initialises a module, is returned unchanged.
    """
    if mesh is None or not divides(mesh, activations.shape[0]):
        return activations
    return jax.lax.with_sharding_constraint(activations, batch_sharding(mesh))


def look_up(embed: Callable[[jax.Array], jax.Array], tokens: Any, mesh: Mesh | None) -> jax.Array:
    """embed(tokens) [B, T, D], with rows split like those of the tokens. The table's shards stay where they are.

    Every place looks up its columns for all rows of its replica; then an all-to-all exchanges columns for rows.
    """
    if mesh is None or not divides(mesh, tokens.shape[0]):
        return embed(tokens)

    def pin(array: jax.Array, *spec: str | None) -> jax.Array:
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, P(*spec)))

    columns = pin(embed(pin(tokens, "data")), "data", None, "fsdp")
    return split_rows(columns, mesh)


def divides(mesh: Mesh, rows: int) -> bool:
    """Whether ``rows`` rows can be split equally over data and fsdp."""
    return rows % batch_places(mesh) == 0


def batch_places(mesh: Mesh) -> int:
    """Number of (data, fsdp) places, each of which holds equally many rows of a batch."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def shared_rows(mesh: Mesh, rows: int) -> int:
    """The least number of rows, at least ``rows``, that can be split equally over data and fsdp."""
    places = batch_places(mesh)
    return -(-rows // places) * places


def put_batch(mesh: Mesh, batch: Any) -> Any:
    """Global arrays, with rows split over data and fsdp, from this host's share of the rows (``row_share``)."""
    sharding, (_, shares) = batch_sharding(mesh), row_share(mesh)

    def put(rows: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, rows, (shares * rows.shape[0], *rows.shape[1:]))

    return jax.tree.map(put, batch)


def put_whole_batch(mesh: Mesh, batch: Any) -> Any:
    """Global arrays, with rows split over data and fsdp, from a batch that every host holds whole, as in evaluation."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda rows: jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index]), batch
    )


def place_leaf(mesh: Mesh):
    """A ``place`` function for gpmjax.hub, which builds parameters shard by shard, so that no host holds one whole."""

    def place(path: str, shape: tuple[int, ...], dtype, read) -> jax.Array:
        sharding = sharding_for(mesh, path, shape)
        return jax.make_array_from_callback(shape, sharding, lambda index: np.asarray(read(index), dtype))

    return place
