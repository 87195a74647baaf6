"""A digest of the bits of a tree of arrays, the same on every mesh and any number of hosts.

Every 32-bit word is multiplied by an odd number that depends on its place, and the products are added modulo 2³².
Sums of integers do not depend on their order, so each device adds the words that it holds, and only sums are
exchanged. A single flipped bit always shows: it changes a product by an odd multiple of a power of two below 2³². Two
such sums make chance agreement after greater damage about as rare as 2⁻⁶⁴ (multilinear hashing; Carter and Wegman
1979).
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gpmjax.arrays import Array
from gpmjax.sharding import path_name


def digest(tree: Any) -> str:
    """32 hexadecimal digits for a tree's paths, shapes, dtypes and bits. All hosts must call it where arrays span
    hosts.

    It reads the arrays once, on the devices that hold them.

    >>> digest({"w": jnp.zeros(3)}) == digest({"w": jnp.array([0.0, 0.0, -0.0])})
    False
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sums = jax.device_get(_sums([leaf for _, leaf in leaves]))
    found = hashlib.sha256()
    for (path, leaf), two in zip(leaves, sums, strict=True):
        found.update(f"{path_name(path)} {leaf.shape} {leaf.dtype} {two[0]:08x}{two[1]:08x}\n".encode())
    return found.hexdigest()[:32]


@jax.jit
def _sums(leaves: list[Array]) -> list[Array]:
    return [_leaf_sums(leaf) for leaf in leaves]


def _leaf_sums(leaf: Array) -> Array:
    """[2] uint32."""
    words = _words(leaf)
    place = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        place = place + lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    first = _mixed(place + jnp.uint32(1))
    second = (first << jnp.uint32(16)) | (first >> jnp.uint32(16))
    return jnp.stack([jnp.sum(words * (factor | jnp.uint32(1)), dtype=jnp.uint32) for factor in (first, second)])


def _words(leaf: Array) -> Array:
    """The bits of an array as uint32, a narrower element in a word of its own."""
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    width = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)


def _mixed(x: Array) -> Array:
    """A permutation of the 32-bit numbers without pattern (C. Wellons, "lowbias32")."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
    return x ^ (x >> jnp.uint32(16))
