"""Full float32 precision for the computation of scores."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def full_precision(dtype: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with matrix products in full float32 precision where ``dtype`` is "float32".

    By default a TPU rounds float32 operands to bfloat16, and a GPU may round them to TensorFloat-32. A score must not
    depend on the chip. The products of a bfloat16 model keep the device's default.
    """
    if dtype != "float32":
        return function

    @functools.wraps(function)
    def computed(*arguments: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return computed
