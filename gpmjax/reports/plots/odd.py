"""Files that are not what they should be, answered in one line that names the file."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

WRONG = (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, RecursionError)
"""What the use of a document raises when a field is missing, or is of another type than it should be."""


@contextlib.contextmanager
def using(*paths: Path) -> Iterator[None]:
    """Has whatever goes wrong with what was read from ``paths`` raise a ValueError of one line that names them.

    >>> with using(Path("summary.json")):
    ...     {"iterations": 3}["iterations"][0]
    Traceback (most recent call last):
    ValueError: summary.json: not what a run or an evaluation writes ('int' object is not subscriptable)
    """
    try:
        yield
    except WRONG as error:
        if isinstance(error, ValueError) and str(error).startswith(tuple(map(str, paths))):
            raise
        text = " ".join(str(error).split())[:160]
        said = f"no field {text}" if isinstance(error, KeyError) else text
        raise ValueError(f"{', '.join(map(str, paths))}: not what a run or an evaluation writes ({said})") from error


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file; an empty one where the file holds something else.

    Raises:
      ValueError: it is not JSON; names the file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    return document if isinstance(document, dict) else {}
