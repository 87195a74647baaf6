"""Named tensors on disk → a parameter tree, leaf by leaf, each read straight into the place where it will live.

A ``Place`` decides where that is. The default keeps whole arrays on one device; ``gpmjax.sharding.place_leaf`` builds each
array shard by shard, and only a shard's slice is then read, so no host ever holds the model.
"""

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
    """Reads every leaf of a table into a tree of nested dicts, float32; ``ignore`` names tensors that are left alone.

    Raises:
        ValueError: a tensor is missing, has no place in the table, or has another shape than the config asks for.
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
    read = lambda name, index: tensors.read(stored_as[name], index)
    flat = {
        path: place(path, leaf.shape, np.float32, lambda index, leaf=leaf: read_leaf(leaf, read, index))
        for path, leaf in table.items()
    }
    return unflatten_dict(flat, sep="/")
