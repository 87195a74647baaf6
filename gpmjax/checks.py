"""Checks of values that come from outside the program: a config's fields, the attributes of a config.json.

Each refusal is a ValueError of one line: the value's full name, the value, and what is allowed.
"""

import dataclasses
import math
import types
import typing
from typing import Any

import numpy as np

LARGEST_INT = 2**31 - 1
"""Sizes and counts are int32 in compiled programs."""
LARGEST_FLOAT = float(np.finfo(np.float32).max)
SMALLEST_FLOAT = float(np.finfo(np.float32).tiny)
"""A positive number below this is 0 in compiled programs."""


def shown(value: object, limit: int = 80) -> str:
    """``repr`` of a value, but never longer than ``limit`` characters.

    >>> shown(10**400), shown("x" * 100, limit=8)
    ('a number of 401 digits', "'xxxxxx…")
    """
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to write out the very long ones
        return f"a number of {math.ceil(value.bit_length() * math.log10(2))} digits"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def whole(name: str, value: object, least: int = -LARGEST_INT, most: int = LARGEST_INT) -> None:
    """Refuses what is not a whole number in [least, most]; True and 2.0 are none.

    >>> whole("config.data.rows", 2.0, least=1)
    Traceback (most recent call last):
    ValueError: config.data.rows=2.0: must be a whole number
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={shown(value)}: must be a whole number")
    number(name, value, least=least, most=most)


def number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Refuses what is not a number, or is not finite in float32, or is outside least ≤ value ≤ most, above < value <
    below.

    >>> number("config.optimizer.b1", 1.0, least=0, below=1)
    Traceback (most recent call last):
    ValueError: config.optimizer.b1=1.0: must be in [0, 1)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}={shown(value)}: must be a number")
    if not (
        least <= value <= most and above < value < below and -LARGEST_FLOAT <= value <= LARGEST_FLOAT
    ):  # so NaN fails
        raise ValueError(f"{name}={shown(value)}: must be {_interval(least, above, most, below)}")
    if above == 0 and value < SMALLEST_FLOAT:
        raise ValueError(f"{name}={shown(value)}: must be positive in float32, at least {SMALLEST_FLOAT:.3g}")


def _interval(least: float, above: float, most: float, below: float) -> str:
    low, high = max(least, above), min(most, below)
    if high == math.inf and above == 0:
        return "positive and finite"
    if high == math.inf:
        return (
            "finite in float32" if low == -math.inf else f"{'above' if low == above else 'at least'} {low} and finite"
        )
    if low == -math.inf:
        return f"{'below' if high == below else 'at most'} {high} and finite"
    if (low, high) == (least, most) and isinstance(most, int) and most > 1:
        return f"at least {low} and at most {high}"
    return f"in {'(' if low == above else '['}{low}, {high}{')' if high == below else ']'}"


def check_fields(name: str, holder: Any) -> None:
    """Refuses a dataclass one of whose fields holds another type than it declares, however deep.

    Numbers must be finite in float32 and below 2³² in size; a list passes for a tuple.
    """
    hints = typing.get_type_hints(type(holder))
    for field in dataclasses.fields(holder):
        _check(f"{name}.{field.name}" if name else field.name, getattr(holder, field.name), hints[field.name])


def _check(name: str, value: Any, hint: Any) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, hint):
            raise ValueError(f"{name}={shown(value)}: must be a {hint.__name__}")
        check_fields(name, value)
    elif origin is tuple and arguments[1:] == (...,):
        if not isinstance(value, tuple | list):
            raise ValueError(f"{name}={shown(value)}: must be a tuple")
        for place, item in enumerate(value):
            _check(f"{name}[{place}]", item, arguments[0])
    elif origin in (types.UnionType, typing.Union) and len(arguments) == 2 and arguments[1] is types.NoneType:
        if value is not None:
            _check(name, value, arguments[0])
    elif hint is int:
        whole(name, value, most=2**32 - 1)
    elif hint is float:
        number(name, value)
    elif hint in (str, bool):
        if not isinstance(value, hint):
            raise ValueError(f"{name}={shown(value)}: must be {'a text' if hint is str else 'True or False'}")
    else:
        raise TypeError(f"{name}: no check is written for a field of type {hint}")
