"""The arithmetic of one block of attention logits. The kernels for TPUs and for GPUs share it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpmjax.arrays import Array
from gpmjax.softcap import soft_cap, soft_cap_slope

MASKED = -1e30
"""The logit of a key that a query does not see. A padding slot sees no key, and a finite number gives it no NaN."""

NT = (((1,), (1,)), ((), ()))  # dot_general's dimensions of a bᵀ
NN = (((1,), (0,)), ((), ()))  # those of a b


class AttentionSettings(NamedTuple):
    """The constants that are compiled into a kernel."""

    scale: float
    """Multiplies q·k."""
    softcap: float | None


def product(a: Array, b: Array, dims=NN) -> Array:
    """a b (or a bᵀ with ``NT``) in float32; ``a`` is first rounded to b's dtype."""
    return jax.lax.dot_general(a.astype(b.dtype), b, dims, preferred_element_type=jnp.float32)


def block_logits(a: Array, b: Array, settings: AttentionSettings) -> Array:
    """The scaled and capped logits a bᵀ of one block: a [n, d], b [m, d] → [n, m] float32."""
    return soft_cap(product(a, b, NT) * settings.scale, settings.softcap)


def logits_gradient(
    weights: Array, d_weights: Array, delta: Array, logits: Array, settings: AttentionSettings
) -> Array:
    """The gradient of the loss by q·k, of one block; all arguments broadcast to [n, m] float32.

    Args:
      weights: softmax weights, 0 where a query does not see a key.
      d_weights: gradient by the weights.
      delta: each query's Σ weights · d_weights, over all the keys that the query sees.
      logits: ``block_logits``, after the cap.
    """
    gradient = weights * (d_weights - delta)
    if settings.softcap is not None:
        gradient *= soft_cap_slope(logits, settings.softcap)
    return gradient * settings.scale
