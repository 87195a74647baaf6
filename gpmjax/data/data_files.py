"""Reads the entries of one local file: JSON lines, JSON or csv (each also gzipped), or parquet.

Text is read as UTF-8 whatever the machine's locale; a byte order mark at the start is skipped. For an unreadable entry
``refuse`` is called with one line that names file and entry, and reading goes on. If the rest of a file cannot be read,
a ValueError is raised.
"""

import csv
import functools
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gpmjax.data.fields import DEEPEST, too_deep

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")

Refuse = Callable[[str], None]
"""Called with one line that says which entry cannot be read and why; may raise it as an error."""

_UNDECODED = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NOT_JSON_SPACE = re.compile(r"[^ \t\r\n]")


class Entry(NamedTuple):
    """One entry of a data file or data set: its ``fields``, and ``where`` it is ("f.jsonl:12", "f.parquet: row 3")."""

    where: str
    fields: dict[str, Any]


def read_file(path: Path, label: str, refuse: Refuse) -> Iterator[Entry]:
    """Yields the entries of a file; messages call the file ``label``.

    Raises:
        ValueError: the file is of an unknown kind, truncated, or not valid; the message names the file and the place.
    """
    kind = next((suffix.removesuffix(".gz") for suffix in SUFFIXES if path.name.endswith(suffix)), None)
    if kind is None:
        raise ValueError(f"{label}: unknown kind of file; allowed: {', '.join(SUFFIXES)}")
    if kind == ".parquet":
        yield from _read_parquet(path, label, refuse)
        return
    opener = gzip.open if path.name.endswith(".gz") else open
    lines = 0

    def counted(file) -> Iterator[str]:
        nonlocal lines
        for line in file:
            lines += 1
            yield line

    try:
        # Bytes that are not UTF-8 are decoded as surrogates, so that the error can name their line.
        with opener(
            path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="" if kind == ".csv" else None
        ) as file:
            if kind == ".csv":
                yield from _read_csv(counted(file), label, refuse)
            elif kind == ".jsonl":
                yield from _read_jsonl(counted(file), label, refuse)
            else:
                yield from _read_json(file.read(), label, refuse)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{label}: cannot be read after line {lines} ({error})") from error


def _read_jsonl(lines: Iterator[str], label: str, refuse: Refuse) -> Iterator[Entry]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{label}:{number}"
        try:
            entry = _checked(where, _parse(line, where), _Doubts.of(line))
        except ValueError as error:
            refuse(str(error))
        else:
            yield entry


def _read_json(text: str, label: str, refuse: Refuse) -> Iterator[Entry]:
    if not text.lstrip().startswith("["):  # JSON lines in a file named .json
        yield from _read_jsonl(io.StringIO(text), label, refuse)
        return
    try:
        records = _parse(text, label)
    except ValueError as error:
        raise ValueError((not _UNDECODED.search(text) and _broken_element(text, label)) or str(error)) from error
    doubts = _Doubts.of(text)
    for number, fields in enumerate(records, start=1):
        try:
            entry = _checked(f"{label}: row {number}", fields, doubts)
        except ValueError as error:
            refuse(str(error))
        else:
            yield entry


def _parse(text: str, where: str, decode: Callable[[str], Any] = json.loads) -> Any:
    """The value of a JSON text; raises a ValueError of one line if it is not valid."""
    if undecoded := _UNDECODED.search(text):
        line = f" in line {text.count(chr(10), 0, undecoded.start()) + 1}" if "\n" in text.rstrip("\n") else ""
        raise ValueError(f"{where}: not UTF-8 (byte 0x{ord(undecoded[0]) - 0xDC00:02x}{line})")
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(f"{where}: cannot be read as JSON (lists or objects nested too deeply)") from error
    except ValueError as error:  # Python's limit on the digits of an integer
        limit = sys.get_int_max_str_digits()
        raise ValueError(f"{where}: cannot be read as JSON (a number of more than {limit} digits)") from error


def _broken_element(text: str, label: str) -> str | None:
    """The error of the first unreadable element of a JSON array; None if the array itself is not valid."""
    decoder = json.JSONDecoder()
    place, number = text.index("[") + 1, 0
    while start := _NOT_JSON_SPACE.search(text, place):
        if start[0] == "]":
            return None
        if number:
            if start[0] != ",":
                return None
            start = _NOT_JSON_SPACE.search(text, start.end())
            if start is None:
                return None
        number += 1
        try:
            decode = functools.partial(decoder.raw_decode, idx=start.start())
            _, place = _parse(text, f"{label}: row {number}", decode)
        except ValueError as error:
            return str(error)
    return None


class _Doubts(NamedTuple):
    """The problems that a JSON text may have; its entries are searched for these only, as most texts can have none."""

    deep: bool
    """It may be nested too deeply."""
    surrogate: bool
    """It may have a lone surrogate."""

    @classmethod
    def of(cls, text: str) -> "_Doubts":
        return cls(text.count("[") + text.count("{") > DEEPEST, bool(_ESCAPED_SURROGATE.search(text)))


def _checked(where: str, fields: Any, doubts: _Doubts) -> Entry:
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: must be an object with fields, is {type(fields).__name__}")
    if doubts.deep and too_deep(fields):
        raise ValueError(f"{where}: lists or objects are nested more than {DEEPEST} deep")
    if doubts.surrogate:
        for name, value in fields.items():
            if surrogate := _lone_surrogate(name) or _lone_surrogate(value):
                raise ValueError(
                    f"{where}: field {name!a}: holds a lone surrogate ({surrogate!a}), which UTF-8 cannot write"
                )
    return Entry(where, fields)


def _lone_surrogate(value: Any) -> str | None:
    """The first lone surrogate in a value's strings, at any depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if not value.isascii() and (surrogate := _UNDECODED.search(value)):
                return surrogate[0]
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
    return None


def _read_csv(lines: Iterator[str], label: str, refuse: Refuse) -> Iterator[Entry]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 131,072, is less than a long document
    reader, finished = csv.reader(lines, strict=True), 0
    try:
        header = [name.strip() for name in next(filter(None, reader), [])]
        if twice := next((name for n, name in enumerate(header) if name in header[:n]), None):
            raise ValueError(f"{label}:1: two columns are named {twice!r}")
        finished = reader.line_num
        for values in reader:
            finished = reader.line_num
            where = f"{label}:{finished}"
            if undecoded := next((found for found in map(_UNDECODED.search, values) if found), None):
                refuse(f"{where}: not UTF-8 (byte 0x{ord(undecoded[0]) - 0xDC00:02x})")
            elif len(values) == len(header):
                # csv writes a missing value as an empty cell.
                yield Entry(where, {name: value or None for name, value in zip(header, values, strict=True)})
            elif values:
                refuse(f"{where}: must have {len(header)} columns like the header, has {len(values)}")
    except csv.Error as error:
        raise ValueError(f"{label}:{finished + 1}: not valid csv ({error})") from error  # the broken entry's first line


def _read_parquet(path: Path, label: str, refuse: Refuse) -> Iterator[Entry]:
    import pyarrow  # heavy, and most sources are JSON lines
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for fields in _fields(batch):
                number += 1
                if isinstance(fields, Exception):
                    refuse(f"{label}: row {number}: cannot be read ({_first_line(fields)})")
                else:
                    yield Entry(f"{label}: row {number}", fields)
    except (pyarrow.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise ValueError(f"{label}: not valid parquet{after} ({_first_line(error)})") from error


def _fields(batch) -> Iterator[dict[str, Any] | Exception]:
    """The entries' fields in a batch of pyarrow; for one that Python cannot represent, the error raised."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # text that is not UTF-8, a date beyond Python's; convert one entry at a time
        for n in range(batch.num_rows):
            try:
                (fields,) = batch.slice(n, 1).to_pylist()
                yield fields
            except (ValueError, OverflowError) as error:
                yield error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
