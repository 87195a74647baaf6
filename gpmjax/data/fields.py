"""Fields of a row, checked: each function returns the value or raises one line naming place, field and value."""

import math
import reprlib
from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
"""Beyond it a number is infinite on the device."""


DEEPEST = 100
"""Lists and objects inside each other, beyond which one or another function of Python's would give up."""


class RowError(ValueError):
    """A row that does not fit its layout; one line naming place, field, value and what is allowed."""

    def __init__(self, where: str, field: str, problem: str):
        super().__init__(f"{where}: field {field!r}: {' '.join(problem.splitlines())}")


def number(
    value: Any, name: str, where: str, *, default: float | None = None, low: float = -math.inf, high: float = math.inf
) -> float:
    """A number in [low, high] that is finite in 32 bits; a string, as csv has it, is converted; None is the default."""
    value = default if value is None else value
    try:
        converted = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        converted = math.nan
    if not (abs(converted) <= LARGEST and low <= converted <= high):
        span = "" if low == -math.inf else f" in [{low:g}, {high:g}]" if high < math.inf else f" of at least {low:g}"
        raise RowError(where, name, f"must be a finite number{span}, is {shown(value)}")
    return converted


def index(value: Any, count: int, name: str, where: str) -> int:
    """The index of one of ``count`` responses."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise RowError(where, name, f"must be the index of a response, 0 to {count - 1}, is {shown(value)}")
    return value


def items(value: Any, name: str, where: str) -> list:
    """A list of anything."""
    if not isinstance(value, list):
        raise RowError(where, name, f"must be a list, is {kind(value)}")
    return value


def strings(value: Any, name: str, where: str) -> tuple[str, ...]:
    """A list of strings."""
    for n, item in enumerate(items(value, name, where)):
        if not isinstance(item, str):
            raise RowError(where, f"{name}[{n}]", f"must be a string, is {kind(item)}")
    return tuple(value)


def too_deep(value: Any) -> bool:
    """Whether lists and objects are nested more than DEEPEST deep in a value.

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
    """What a value is, for a message."""
    if isinstance(value, tuple):
        return "a list of messages"
    return "a string" if isinstance(value, str) else f"{type(value).__name__} {shown(value)}"


def shown(value: Any) -> str:
    """A value for a message, cut to 40 characters however long or deep it is.

    >>> shown(10**400), shown([[1]])
    ('an integer of 401 digits', '[[1]]')
    """
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"an integer of {math.floor(math.log10(abs(value))) + 1} digits"
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 40
