"""Random inputs of attention, and its outputs and gradients, for the tests of its kernels."""

import jax
import jax.numpy as jnp
import numpy as np

from gpmjax.models.attention.grouped_query import attention


def draw_inputs(slots, heads, key_heads, width, rows=2, dtype=jnp.float32):
    """q, k and v, and the gradient of the output."""
    rng = np.random.default_rng(0)

    def draw(count):
        return jnp.asarray(rng.standard_normal((rows, slots, count, width)), dtype)

    return draw(heads), draw(key_heads), draw(key_heads), draw(heads)


def both(layout, q, k, v, given, **settings):
    """The outputs on slots that hold tokens, and the three gradients."""
    real = (layout.group > 0)[:, :, None, None]

    def run(q, k, v):
        mixed = jnp.where(real, attention(q, k, v, layout, **settings), 0)
        return jnp.sum(mixed.astype(jnp.float32) * given.astype(jnp.float32)), mixed

    gradients, mixed = jax.jit(jax.grad(run, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return mixed, *gradients
