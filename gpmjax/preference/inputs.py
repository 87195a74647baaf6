"""Checks of the arrays that the functions of the mathematics take: their precision and their shapes.

Shapes are checked here rather than left to broadcasting, whose usual mistake is silent: in NumPy and JAX, [B, 1] − [B]
is a [B, B] matrix, whose mean is a plausible but wrong loss.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def float32_or_wider(array: ArrayLike) -> jax.Array:
    """The array as float32; a float64 array stays float64.

    Scores are divided by τ = 0.1 and then pass a sigmoid, and bfloat16 has only three digits.

    >>> float32_or_wider(jnp.ones(2, jnp.bfloat16)).dtype
    dtype('float32')
    """
    array = jnp.asarray(array)
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)


def require_same_shape(**arrays: jax.Array) -> None:
    """Raises a ValueError that names the arrays unless all of them have one shape.

    >>> require_same_shape(left=jnp.ones((4, 1)), right=jnp.ones(4))
    Traceback (most recent call last):
    ValueError: left [4, 1] and right [4] must have the same shape
    """
    if len({array.shape for array in arrays.values()}) > 1:
        raise ValueError(f"{_shapes(arrays)} must have the same shape")


def require_scalar_or_shape_of(reference: str, array: jax.Array, **options: jax.Array) -> None:
    """Raises a ValueError unless each option is a scalar or has the shape of the reference array.

    >>> require_scalar_or_shape_of("score", jnp.ones((4, 1)), margin=jnp.ones(4))
    Traceback (most recent call last):
    ValueError: margin [4] must be a scalar or have the shape of score [4, 1]
    """
    for name, option in options.items():
        if option.ndim and option.shape != array.shape:
            wanted = _shapes({reference: array})
            raise ValueError(f"{_shapes({name: option})} must be a scalar or have the shape of {wanted}")


def require_broadcastable(**arrays: jax.Array) -> None:
    """Raises a ValueError unless all arrays have as many axes, and each axis has one size, or 1 where it is repeated.

    >>> require_broadcastable(left=jnp.ones((4, 1, 2)), right=jnp.ones((1, 3, 2)))
    >>> require_broadcastable(left=jnp.ones((4, 2)), right=jnp.ones(2))
    Traceback (most recent call last):
    ValueError: left [4, 2] and right [2] must have as many axes, each of equal size or 1
    """
    shapes = [array.shape for array in arrays.values()]
    one_rank = len({len(shape) for shape in shapes}) <= 1
    if not one_rank or any(len(set(sizes) - {1}) > 1 for sizes in zip(*shapes, strict=True)):
        raise ValueError(f"{_shapes(arrays)} must have as many axes, each of equal size or 1")


def require_square(name: str, array: jax.Array) -> None:
    """Raises a ValueError unless the last two axes have one size.

    >>> require_square("P", jnp.ones((3, 2)))
    Traceback (most recent call last):
    ValueError: P [3, 2] must be square in its last two axes
    """
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"{_shapes({name: array})} must be square in its last two axes")


def _shapes(arrays: dict[str, jax.Array]) -> str:
    return " and ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
