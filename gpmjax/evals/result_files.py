"""Files of an evaluation: FILE.rows.jsonl or FILE.groups.jsonl, written as it goes, and FILE.json, written at the
end."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from gpmjax.data.sources import split_source
from gpmjax.files import append_line, fingerprint, write_json
from gpmjax.owner import owned_output


def rows_path(out: str | Path) -> Path:
    """The file of the per-comparison records.

    >>> str(rows_path("runs/dev.json"))
    'runs/dev.rows.jsonl'
    """
    return Path(out).with_suffix(".rows.jsonl")


def groups_path(out: str | Path) -> Path:
    """The file of the per-group records (`judge.group_record`).

    >>> str(groups_path("runs/dev.json"))
    'runs/dev.groups.jsonl'
    """
    return Path(out).with_suffix(".groups.jsonl")


def source_identity(source: str) -> dict[str, str]:
    """The identity of a data set: its name and, for a local file, a fingerprint of its contents."""
    path = Path(split_source(source)[0])
    return {"data": source} | ({"data_fingerprint": fingerprint([path])} if path.is_file() else {})


class RowsFile:
    """A file of JSON lines, each on disk as soon as it is written, so that an interruption loses no record.

    It is used in a ``with`` block, and one process at a time owns the file. ``identity`` is plain JSON that names
    everything the records depend on; it is written to FILE.plan.json. Records of an earlier evaluation of the same file
    name are ``kept`` when its identity was the same. They are replaced when it was different, or when none is given.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any] | None = None):
        self._path = Path(path)
        self._plan = self._path.with_suffix(".plan.json")
        self._identity = identity
        self.kept: list[dict[str, Any]] = []
        """Records of an earlier evaluation, in its order."""

    def __enter__(self) -> "RowsFile":
        with contextlib.ExitStack() as opened:
            opened.enter_context(owned_output(self._path, flag="records"))
            self._file = opened.enter_context(self._opened())
            self._close = opened.pop_all()
        return self

    def _opened(self) -> IO[bytes]:
        self.kept = self._read_kept()
        if not self.kept:
            self._path.unlink(missing_ok=True)
        if self._identity is None:
            self._plan.unlink(missing_ok=True)
        else:
            write_json(self._plan, self._identity)
        return self._path.open("ab", buffering=0)

    def __exit__(self, *exception: object) -> None:
        self._close.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a record. Raises OSError, naming the file, when the disk is full; earlier records are kept."""
        append_line(
            self._file,
            self._path,
            json.dumps(record, ensure_ascii=False, allow_nan=False),
            "the last record is not written",
        )

    def _read_kept(self) -> list[dict[str, Any]]:
        if self._identity is None or not (self._path.is_file() and self._plan.is_file()):
            return []
        try:
            identity = json.loads(self._plan.read_text(encoding="utf-8"))
        except ValueError:
            return []  # an unreadable identity is a different one
        if identity != json.loads(json.dumps(self._identity)):
            return []
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a killed process may leave half a line
        if whole != text:
            with self._path.open("r+", encoding="utf-8") as file:
                file.truncate(len(whole.encode()))
        return [self._record(number, line) for number, line in enumerate(whole.split("\n"), start=1) if line]

    def _record(self, number: int, line: str) -> dict[str, Any]:
        try:
            return json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{self._path}:{number}: not JSON ({line[:40]!r}); delete the file to begin again"
            ) from error
