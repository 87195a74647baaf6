"""Flash attention over rows of groups: which kernels run on which platform, their gradient, and how a mesh splits them.

TPUs run the kernels of ``splash``, NVIDIA GPUs those of ``triton_flash``, other platforms those of ``blockwise``. The
three have the same arguments and results. All of them are exact: on every slot that holds a token they compute the same
function as ``attention``'s "xla". Padding slots give 0.
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
from gpmjax.models.attention.block_softmax import AttentionSettings
from gpmjax.models.attention.visibility import slot_tags
from gpmjax.models.attention.visits import block_size
from gpmjax.sharding import BATCH, divides

KEPT = "attention"
"""The name of a kernel's results. A rematerialisation policy may keep them instead of running the kernel again."""

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
    """Softmax attention, a block at a time. A mesh splits rows over data and fsdp, and heads over tensor.

    ``everywhere``: one module of kernels for all platforms, ``blockwise``; None for each platform's own.

    Raises ValueError when the tensor axis does not divide the query heads, or neither divides nor is divided by the key
    heads.
    """
    slots = q.shape[1]
    padded = padded_slots(slots) if everywhere is None else slots + -slots % everywhere.BLOCK
    run = functools.partial(_attention, AttentionSettings(scale, softcap), everywhere)
    if mesh is not None and divides(mesh, q.shape[0]):
        k, v = (_split_heads(x, q.shape[2], mesh.shape["tensor"]) for x in (k, v))
        run = jax.shard_map(
            run, mesh=mesh, in_specs=(_HEADS, _HEADS, _HEADS, BATCH, P()), out_specs=_HEADS, check_vma=False
        )
    q, k, v = (_heads_first(x, padded) for x in (q, k, v))
    out = run(q, k, v, slot_tags(layout, padded), jnp.asarray(window, jnp.int32).reshape(1))
    return jnp.swapaxes(out[:, :, :slots], 1, 2)


def _heads_first(x: Array, slots: int) -> Array:
    """[B, T, H, d] → [B, H, slots, d], zeros after the T slots."""
    return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, slots - x.shape[1]), (0, 0)))


def padded_slots(slots: int) -> int:
    """``slots``, rounded up to a multiple of a TPU block's size; the other kernels' blocks divide it too."""
    size = block_size(slots)
    return -(-slots // size) * size


def visited_pairs(slots: int) -> int:
    """Pairs of slots in a row's blocks on and below the diagonal: the most that a TPU's kernels visit.

    >>> visited_pairs(4096) / 4096**2
    0.5625
    """
    size = block_size(padded_slots(slots))
    blocks = padded_slots(slots) // size
    return size**2 * blocks * (blocks + 1) // 2


def _split_heads(x: Array, query_heads: int, places: int) -> Array:
    """Key or value heads, repeated so that every place of the tensor axis holds the heads that its query heads read."""
    heads = x.shape[2]
    if query_heads % places or (heads % places and places % heads):
        raise ValueError(
            f"config.mesh.tensor={places}: attention='flash' needs it to divide the {query_heads} query heads, "
            f"and to divide or be a multiple of the {heads} key heads"
        )
    return x if heads % places == 0 else jnp.repeat(x, places // heads, axis=2)


def _kernels(name: str, settings: AttentionSettings, everywhere: ModuleType | None):
    """The kernels' function "forward" or "backward". The platform is chosen when a program is compiled."""
    if everywhere is not None:
        return functools.partial(getattr(everywhere, name), settings=settings)
    modules = {"tpu": splash, "cuda": triton_flash, "default": blockwise}
    by_platform = {key: functools.partial(getattr(module, name), settings=settings) for key, module in modules.items()}
    return functools.partial(jax.lax.platform_dependent, **by_platform)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attention(
    settings: AttentionSettings, everywhere: ModuleType | None, q: Array, k: Array, v: Array, tags: Array, window: Array
) -> Array:
    return _kernels("forward", settings, everywhere)(q, k, v, tags, window)[0]


def _forward(settings, everywhere, q, k, v, tags, window):
    results = _kernels("forward", settings, everywhere)(q, k, v, tags, window)
    out, logsumexp = (checkpoint_name(x, KEPT) for x in results)
    return out, (q, k, v, tags, window, out, logsumexp)


def _backward(settings, everywhere, kept, d_out):
    q, k, v, tags, window, out, logsumexp = kept
    delta = jnp.sum(out.astype(jnp.float32) * d_out.astype(jnp.float32), axis=-1)
    # JAX's gradient of an integer array has the dtype float0.
    nothing = [np.zeros(x.shape, jax.dtypes.float0) for x in (tags, window)]
    return *_kernels("backward", settings, everywhere)(q, k, v, tags, window, logsumexp, delta, d_out), *nothing


_attention.defvjp(_forward, _backward)
