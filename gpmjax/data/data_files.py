"""One local file → plain rows: JSON lines, JSON, csv, parquet, each also compressed by gzip where that is text.

Text is UTF-8 whatever the machine's locale says; a byte order mark at the start is skipped. A row that cannot be read
is one line that names file and row, handed to ``refuse``; a file that cannot be read on is a ValueError.
"""

import csv
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
"""Takes the one line that says which row cannot be read and why; may raise it."""

_UNDECODED = re.compile("[\ud800-\udfff]")
_HALF_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_NOT_JSON_SPACE = re.compile(r"[^ \t\r\n]")


class Entry(NamedTuple):
    """One record: ``fields``, and ``where`` it stands ("file.jsonl:12")."""

    where: str
    fields: dict[str, Any]


def read_file(path: Path, label: str, refuse: Refuse) -> Iterator[Entry]:
    """The rows of a file, which messages call ``label``.

    Raises:
        ValueError: an unknown kind of file, half an archive, no parquet; the message names the file and the place.
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
        # Bytes that are no UTF-8 come out as surrogates, so that the line they stand in can be named.
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
            row = _checked(where, _parse(line, where), _Doubts.of(line))
        except ValueError as error:
            refuse(str(error))
        else:
            yield row


def _read_json(text: str, label: str, refuse: Refuse) -> Iterator[Entry]:
    if not text.lstrip().startswith("["):  # one object a line, whatever the name says
        yield from _read_jsonl(io.StringIO(text), label, refuse)
        return
    try:
        records = _parse(text, label)
    except ValueError as error:
        raise ValueError((not _UNDECODED.search(text) and _broken_element(text, label)) or str(error)) from error
    doubts = _Doubts.of(text)
    for number, fields in enumerate(records, start=1):
        try:
            row = _checked(f"{label}: row {number}", fields, doubts)
        except ValueError as error:
            refuse(str(error))
        else:
            yield row


def _parse(text: str, where: str, decode: Callable[[str], Any] = json.loads) -> Any:
    """What a JSON text says; ValueError with one line otherwise."""
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
    """What is wrong with the first element of a JSON array that cannot be read; None when it is the array itself."""
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
            _, place = _parse(text, f"{label}: row {number}", lambda text: decoder.raw_decode(text, start.start()))
        except ValueError as error:
            return str(error)
    return None


class _Doubts(NamedTuple):
    """What a JSON text may hold, to be looked for in its rows; most texts leave no doubt, and their rows are not searched."""

    deep: bool
    half: bool

    @classmethod
    def of(cls, text: str) -> "_Doubts":
        return cls(text.count("[") + text.count("{") > DEEPEST, bool(_HALF_ESCAPED.search(text)))


def _checked(where: str, fields: Any, doubts: _Doubts) -> Entry:
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: must be an object with fields, is {type(fields).__name__}")
    if doubts.deep and too_deep(fields):
        raise ValueError(f"{where}: lists or objects are nested more than {DEEPEST} deep")
    if doubts.half:
        for name, value in fields.items():
            if half := _half_character(name) or _half_character(value):
                raise ValueError(
                    f"{where}: field {name!a}: holds half a character ({half!a}), which UTF-8 cannot write"
                )
    return Entry(where, fields)


def _half_character(value: Any) -> str | None:
    """The first lone surrogate in a value's strings, at whatever depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if not value.isascii() and (half := _UNDECODED.search(value)):
                return half[0]
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
                # An empty cell is how csv writes a missing value.
                yield Entry(where, {name: value or None for name, value in zip(header, values, strict=True)})
            elif values:
                refuse(f"{where}: must have {len(header)} columns like the header, has {len(values)}")
    except csv.Error as error:
        raise ValueError(f"{label}:{finished + 1}: not valid csv ({error})") from error  # where the broken row begins


def _read_parquet(path: Path, label: str, refuse: Refuse) -> Iterator[Entry]:
    import pyarrow  # heavy, and most sources are JSON lines
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for fields in _records(batch):
                number += 1
                if isinstance(fields, Exception):
                    refuse(f"{label}: row {number}: cannot be read ({_first_line(fields)})")
                else:
                    yield Entry(f"{label}: row {number}", fields)
    except (pyarrow.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise ValueError(f"{label}: not valid parquet{after} ({_first_line(error)})") from error


def _records(batch) -> Iterator[dict[str, Any] | Exception]:
    """A batch's records; in the place of one that Python cannot hold, what was raised."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # strings that are no UTF-8, dates beyond Python's; which row is it?
        for n in range(batch.num_rows):
            try:
                (fields,) = batch.slice(n, 1).to_pylist()
                yield fields
            except (ValueError, OverflowError) as error:
                yield error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
