"""Reads JSON files of a model directory, which may come from anywhere; an invalid file is refused in one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpmjax.checks import shown
from gpmjax.hub.lines import one_line


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: the file is not UTF-8, not JSON, nested too deeply, or not an object; one line that names the file.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError also for a number of more than 4,300 digits
        raise ValueError(f"{path}: not a JSON object ({one_line(error)})") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path}: not a JSON object ({shown(read)})")
    return read


def member(holder: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """The object under ``name``, empty if there is none; raises a ValueError of one line for any other value."""
    value = holder.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {name}={shown(value)}: must be an object")
    return value
