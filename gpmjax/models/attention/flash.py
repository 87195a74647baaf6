"""Flash attention over rows of groups: its gradient, its place on a mesh, and which kernels run it where.

On TPUs ``splash``'s run, on NVIDIA GPUs ``triton_flash``'s, elsewhere ``blockwise``'s; they share their arguments and results.
Everything here is exact: the same function as ``attention``'s "xla" on every slot that holds a token. Padding slots give 0.
"""

import functools
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from gpmjax.arrays import Array, TokenLayout
from gpmjax.models.attention import blockwise, splash, triton_flash
from gpmjax.models.attention.block_softmax import Settings
from gpmjax.models.attention.visibility import slot_tags
from gpmjax.models.attention.visits import block_size
from gpmjax.sharding import BATCH, divides

KEPT = "attention"
"""Name of what a rematerialisation policy may keep instead of running the kernels again."""

_HEADS = P(*BATCH, "tensor")


def flash_attention(
    q: Float[Array, "B T H d"],
    k: Float[Array, "B T N d"],
    v: Float[Array, "B T N d"],
    layout: TokenLayout,
    *,
    scale: float,
    window: Int[Array, ""] | int,
    softcap: float | None,
    mesh: Mesh | None,
    everywhere: ModuleType | None = None,
) -> Float[Array, "B T H d"]:
    """Softmax attention, a block at a time; rows are split over the mesh's data and fsdp, heads over its tensor axis.

    ``everywhere``: kernels that run on all platforms, ``blockwise``; None for those of each.

    Raises ValueError when the tensor axis does not divide the query heads, or neither divides nor is divided by the key heads.
    """
    slots = q.shape[1]
    padded = padded_slots(slots) if everywhere is None else slots + -slots % everywhere.BLOCK
    heads_first = lambda x: jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, padded - slots), (0, 0)))
    run = functools.partial(_attention, Settings(scale, softcap), everywhere)
    if mesh is not None and divides(mesh, q.shape[0]):
        k, v = (_split_heads(x, q.shape[2], mesh.shape["tensor"]) for x in (k, v))
        run = jax.shard_map(
            run, mesh=mesh, in_specs=(_HEADS, _HEADS, _HEADS, BATCH, P()), out_specs=_HEADS, check_vma=False
        )
    mixed = run(*map(heads_first, (q, k, v)), slot_tags(layout, padded), jnp.asarray(window, jnp.int32).reshape(1))
    return jnp.swapaxes(mixed[:, :, :slots], 1, 2)


def padded_slots(slots: int) -> int:
    """The next multiple of a block's size; every kernel's blocks divide it."""
    size = block_size(slots)
    return -(-slots // size) * size


def visited_pairs(slots: int) -> int:
    """Pairs of slots in a row's blocks on and below the diagonal, the most that a TPU's kernels have to visit.

    >>> visited_pairs(4096) / 4096**2
    0.5625
    """
    size = block_size(padded_slots(slots))
    blocks = padded_slots(slots) // size
    return size**2 * blocks * (blocks + 1) // 2


def _split_heads(x: Array, query_heads: int, places: int) -> Array:
    """Key or value heads, as many times as it takes for every place of the tensor axis to have those of its query heads."""
    heads = x.shape[2]
    if query_heads % places or (heads % places and places % heads):
        raise ValueError(
            f"config.mesh.tensor={places}: attention='flash' needs it to divide the {query_heads} query heads, "
            f"and to divide or be a multiple of the {heads} key heads"
        )
    return x if heads % places == 0 else jnp.repeat(x, places // heads, axis=2)


def _kernels(name: str, settings: Settings, everywhere: ModuleType | None):
    """ "forward" or "backward" for the platform that a program is compiled for, which is known when it is."""
    ours = lambda kernels: functools.partial(getattr(kernels, name), settings=settings)
    if everywhere is not None:
        return ours(everywhere)
    return functools.partial(
        jax.lax.platform_dependent, tpu=ours(splash), cuda=ours(triton_flash), default=ours(blockwise)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attention(
    settings: Settings, everywhere: ModuleType | None, q: Array, k: Array, v: Array, tags: Array, window: Array
) -> Array:
    return _kernels("forward", settings, everywhere)(q, k, v, tags, window)[0]


def _forward(settings, everywhere, q, k, v, tags, window):
    mixed, total = (checkpoint_name(x, KEPT) for x in _kernels("forward", settings, everywhere)(q, k, v, tags, window))
    return mixed, (q, k, v, tags, window, mixed, total)


def _backward(settings, everywhere, kept, given):
    q, k, v, tags, window, mixed, total = kept
    mean = jnp.sum(mixed.astype(jnp.float32) * given.astype(jnp.float32), axis=-1)
    nothing = [np.zeros(x.shape, jax.dtypes.float0) for x in (tags, window)]
    return *_kernels("backward", settings, everywhere)(q, k, v, tags, window, total, mean, given), *nothing


_attention.defvjp(_forward, _backward)
