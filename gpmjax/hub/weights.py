"""Reads named tensors on disk into a parameter tree, leaf by leaf, each directly onto its devices.

A ``Place`` chooses the devices. The default puts whole arrays on one device. ``gpmjax.sharding.place_leaf`` builds each
array shard by shard and reads only the slices it needs, so no host holds the whole model.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from gpmjax.hub.param_map import Leaf, locate, read_leaf
from gpmjax.hub.tensors import Index, Tensors
from gpmjax.models.config import DecoderConfig

Read = Callable[[Index], np.ndarray]
Place = Callable[[str, tuple[int, ...], Any, Read], jax.Array]
"""(path such as "decoder/embed/embedding", shape, dtype, read) → array; ``read(index)`` gives a slice in float32."""


def place_whole(path: str, shape: tuple[int, ...], dtype: Any, read: Read) -> jax.Array:
    """The default placement: the whole array, on the default device."""
    return jnp.asarray(read((slice(None),) * len(shape)), dtype)


def load_tree(
    tensors: Tensors, table: Mapping[str, Leaf], config: DecoderConfig, place: Place, ignore: Iterable[str] = ()
) -> dict[str, Any]:
    """Reads every leaf of a table into a tree of nested dicts, in float32; tensors named by ``ignore`` are not read.

    Raises:
        ValueError: a tensor is missing, is not in the table, or does not have the shape that the config asks for.
    """
    ignored = set(ignore)
    try:
        stored_as = locate([name for name in tensors.names() if name not in ignored], dict(table), config)
    except ValueError as error:
        raise ValueError(f"{tensors.label}: {error}") from error
    for leaf in table.values():
        for name in leaf.sources:
            shape = tensors.shape(stored_as[name])
            if shape != leaf.source_shape:
                raise ValueError(
                    f"{tensors.label}: tensor {name} has shape {shape}, its config asks for {leaf.source_shape}"
                )

    def read(name: str, index: Index) -> np.ndarray:
        return tensors.read(stored_as[name], index)

    flat = {
        path: place(path, leaf.shape, np.float32, functools.partial(read_leaf, leaf, read))
        for path, leaf in table.items()
    }
    return unflatten_dict(flat, sep="/")
