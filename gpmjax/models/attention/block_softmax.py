"""The arithmetic of one block of attention, which kernels for TPUs and for GPUs share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpmjax.arrays import Array

MASKED = -1e30
NT = (((1,), (1,)), ((), ()))  # a bᵀ
NN = (((1,), (0,)), ((), ()))  # a b


class Settings(NamedTuple):
    """What is compiled in."""

    scale: float
    softcap: float | None


def product(a: Array, b: Array, dims=NN) -> Array:
    """a b or a bᵀ, a in b's precision, f32."""
    return jax.lax.dot_general(a.astype(b.dtype), b, dims, preferred_element_type=jnp.float32)


def block_logits(a: Array, b: Array, settings: Settings) -> Array:
    """Scaled and capped logits a bᵀ of one block, f32."""
    logits = product(a, b, NT) * settings.scale
    return logits if settings.softcap is None else settings.softcap * jnp.tanh(logits / settings.softcap)


def logits_gradient(weights: Array, change: Array, mean: Array, logits: Array, settings: Settings) -> Array:
    """Of the loss by q·k, given the weights' own gradient and its mean over what a query sees."""
    gradient = weights * (change - mean)
    if settings.softcap is not None:
        gradient *= 1 - jnp.square(logits / settings.softcap)
    return gradient * settings.scale
