"""The soft cap c·tanh(z/c) and its derivative. Gemma 2 caps the logits of attention and of its output."""

import jax.numpy as jnp

from gpmjax.arrays import Array


def soft_cap(logits: Array, cap: float | None) -> Array:
    """cap · tanh(logits / cap), of any shape; ``logits`` themselves where ``cap`` is None.

    >>> soft_cap(jnp.array([-1e9, 0.0, 1e9]), 30.0).tolist()
    [-30.0, 0.0, 30.0]
    """
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def soft_cap_slope(capped: Array, cap: float) -> Array:
    """∂ soft_cap(z, cap)/∂z as a function of the capped logits: 1 − (capped / cap)²."""
    return 1 - jnp.square(capped / cap)
