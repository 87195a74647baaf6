"""JSON files of a model directory, which anybody may have written: read as objects, or refused in one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpmjax.checks import shown
from gpmjax.hub.lines import one_line


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ValueError: it is not UTF-8, not JSON, nested too deeply, or not an object; one line naming the file.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, too, is a ValueError
        raise ValueError(f"{path}: not a JSON object ({one_line(error)})") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path}: not a JSON object ({shown(read)})")
    return read


def member(holder: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """The object under ``name``; an empty one where there is none. Raises ValueError, one line, for anything else."""
    value = holder.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {name} is {shown(value)}; it must be an object")
    return value
