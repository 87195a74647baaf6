"""What "float32" means when scores are computed."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def full_precision(dtype: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its matrix products in float32 where ``dtype`` is "float32".

    By default a TPU rounds float32 operands to bfloat16, and a GPU may round them to TensorFloat-32. A score must not move with
    the chip. A bfloat16 model's products are left to the device.
    """
    if dtype != "float32":
        return function

    @functools.wraps(function)
    def computed(*arguments: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return computed
