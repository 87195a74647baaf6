"""What an evaluation leaves on disk: FILE.rows.jsonl as it goes, FILE.json at the end."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def rows_path(out: str | Path) -> Path:
    """Where the per-comparison records go.

    >>> str(rows_path("runs/dev.json"))
    'runs/dev.rows.jsonl'
    """
    return Path(out).with_suffix(".rows.jsonl")


class RowsFile:
    """Records as JSON lines, each on disk as soon as it is written, so that an interruption keeps what was computed.

    To be used in a ``with`` block; records of an earlier evaluation under the same name are replaced.
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)

    def __enter__(self) -> "RowsFile":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8", buffering=1)
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
