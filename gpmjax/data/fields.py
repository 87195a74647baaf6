"""Checks fields of an entry. Each function returns the value, or raises one line that names place, field and value."""

import math
import reprlib
from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
"""The largest float32; a larger number would be infinite on the device."""

DEEPEST = 100
"""Accepted levels of nested lists and objects; with many more, functions of Python's own raise RecursionError."""


class FieldError(ValueError):
    """A field that does not fit its entry's layout; one line that names place, field, value and what is allowed."""

    def __init__(self, where: str, field: str, problem: str):
        super().__init__(f"{where}: field {field!r}: {' '.join(problem.splitlines())}")


def as_number(
    value: Any, name: str, where: str, *, default: float | None = None, low: float = -math.inf, high: float = math.inf
) -> float:
    """A number in [low, high] that is finite in float32; a string (from csv) is converted, None gives the default."""
    value = default if value is None else value
    try:
        converted = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        converted = math.nan
    if not (abs(converted) <= LARGEST and low <= converted <= high):
        span = "" if low == -math.inf else f" in [{low:g}, {high:g}]" if high < math.inf else f" of at least {low:g}"
        raise FieldError(where, name, f"must be a finite number{span}, is {short_repr(value)}")
    return converted


def as_index(value: Any, count: int, name: str, where: str) -> int:
    """An index into ``count`` responses."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise FieldError(where, name, f"must be the index of a response, 0 to {count - 1}, is {short_repr(value)}")
    return value


def as_list(value: Any, name: str, where: str) -> list:
    """A list of anything."""
    if not isinstance(value, list):
        raise FieldError(where, name, f"must be a list, is {kind(value)}")
    return value


def as_strings(value: Any, name: str, where: str) -> tuple[str, ...]:
    """A list of strings."""
    for n, item in enumerate(as_list(value, name, where)):
        if not isinstance(item, str):
            raise FieldError(where, f"{name}[{n}]", f"must be a string, is {kind(item)}")
    return tuple(value)


def too_deep(value: Any) -> bool:
    """Whether a value nests lists and objects more than DEEPEST levels deep.

    >>> import functools
    >>> too_deep([{"a": []}]), too_deep(functools.reduce(lambda inside, _: [inside], range(200), []))
    (False, True)
    """
    level = [value]
    for _ in range(DEEPEST):
        nested = [
            value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)
        ]
        level = [item for items in nested for item in items]
    return any(isinstance(value, dict | list) for value in level)


def kind(value: Any) -> str:
    """A value's type, and the value unless it is a string, for an error message."""
    if isinstance(value, tuple):
        return "a list of messages"
    return "a string" if isinstance(value, str) else f"{type(value).__name__} {short_repr(value)}"


def short_repr(value: Any) -> str:
    """``repr`` of a value for an error message, cut to about 40 characters.

    >>> short_repr(10**400), short_repr([[1]])
    ('an integer of 401 digits', '[[1]]')
    """
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"an integer of {math.floor(math.log10(abs(value))) + 1} digits"
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 40
