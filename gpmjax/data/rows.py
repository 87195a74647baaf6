"""Files and hub data sets as plain rows, each with the place it came from.

A *source* is a string:

    pairs.jsonl   pairs.jsonl.gz   pairs.json   pairs.parquet   pairs.csv     a local file
    directory/    owner/name       owner/name:split                          anything that `datasets` loads
    SOURCE?column=value&column=value                                         only the rows that match

A list is matched joined by commas: ``cycles.jsonl.gz?config=coherence,consistency,fluency``.
"""

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")

_HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.\[\]%:+-]+))?")
_SHOWN_VALUES = 8


class Row(NamedTuple):
    """One record: ``fields``, and ``where`` it stands ("file.jsonl:12")."""

    where: str
    fields: dict[str, Any]


def split_source(source: str) -> tuple[str, dict[str, str]]:
    """A source without its filter, and the filter.

    >>> split_source("cycles.jsonl.gz?config=coherence,fluency&split=dev")
    ('cycles.jsonl.gz', {'config': 'coherence,fluency', 'split': 'dev'})
    """
    base, mark, query = source.partition("?")
    if not mark or Path(source).exists():
        return source, {}
    pairs = [item.partition("=") for item in query.split("&")]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"{source}: the filter {query!r} must read column=value, several joined by '&'")
    return base, {name: value for name, _, value in pairs}


def read_rows(source: str, *, prefer: str | None = None) -> Iterator[Row]:
    """Every row of a source, in order, that its filter lets through.

    Args:
        prefer: the split that is meant where a directory or hub data set is named without one, "train" if None; a
            directory that lacks it and has one split only is read from that.

    Raises:
        FileNotFoundError: no such file, and no such data set.
        ValueError: an empty or broken file, or a filter that nothing matches.
    """
    base, wanted = split_source(source)
    count = matched = 0
    seen = {column: {} for column in wanted}  # column → its values, in order of appearance
    for row in _open(base, prefer):
        count += 1
        values = {column: _filter_value(row.fields.get(column)) for column in wanted}
        for column, value in values.items():
            if value is not None and len(seen[column]) <= _SHOWN_VALUES:
                seen[column][value] = None
        if values == wanted:
            matched += 1
            yield row
    if not count:
        raise ValueError(f"{base}: empty, there is no row in it")
    if not matched:
        column = next((name for name in wanted if wanted[name] not in seen[name]), next(iter(wanted)))
        there = list(seen[column])
        listed = ", ".join(there[:_SHOWN_VALUES]) + (", …" if len(there) > _SHOWN_VALUES else "")
        raise ValueError(
            f"{source}: no row matches {wanted}; "
            + (f"column {column!r} holds: {listed}" if there else f"there is no column {column!r}")
        )


def _filter_value(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return None if value is None else str(value)


def _open(base: str, prefer: str | None) -> Iterator[Row]:
    path = Path(base).expanduser()
    if path.is_file():
        return _read_file(path, base)
    hub = _HUB_ID.fullmatch(base)
    if not path.is_dir() and (base.endswith(SUFFIXES) or not hub):
        raise FileNotFoundError(f"{base}: no such file; a hub data set is written owner/name or owner/name:split")
    if path.is_dir():
        return _read_dataset(str(path), _only_split(path, prefer) if prefer else "train", base)
    return _read_dataset(hub["name"], hub["split"] or prefer or "train", base)


def _only_split(directory: Path, wanted: str) -> str:
    import datasets  # see _read_dataset

    try:
        splits = datasets.get_dataset_split_names(str(directory))
    except Exception:  # whatever is wrong with the directory is said when it is read
        return wanted
    return splits[0] if wanted not in splits and len(splits) == 1 else wanted


def _read_file(path: Path, label: str) -> Iterator[Row]:
    kind = next((suffix.removesuffix(".gz") for suffix in SUFFIXES if path.name.endswith(suffix)), None)
    if kind is None:
        raise ValueError(f"{label}: unknown kind of file; allowed: {', '.join(SUFFIXES)}")
    if kind == ".parquet":
        yield from _read_parquet(path, label)
        return
    try:
        opener = gzip.open if path.name.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8", newline="" if kind == ".csv" else None) as file:
            if kind == ".csv":
                yield from _read_csv(file, label)
            elif kind == ".jsonl":
                yield from _read_jsonl(file, label)
            else:
                yield from _read_json(file.read(), label)
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{label}: cannot be read ({error})") from error


def _read_jsonl(file, label: str) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield _checked(f"{label}:{number}", _parse_json(line, f"{label}:{number}"))


def _read_json(text: str, label: str) -> Iterator[Row]:
    if not text.lstrip().startswith("["):  # one object a line, whatever the name says
        yield from _read_jsonl(io.StringIO(text), label)
        return
    for number, fields in enumerate(_parse_json(text, label), start=1):
        yield _checked(f"{label}: row {number}", fields)


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error})") from error


def _checked(where: str, fields: Any) -> Row:
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: must be an object with fields, is {type(fields).__name__}")
    return Row(where, fields)


def _read_csv(file, label: str) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 131,072, is less than a long document
    reader = csv.DictReader(file, strict=True)
    try:
        for fields in reader:
            if None in fields or None in fields.values():
                raise ValueError(f"{label}:{reader.line_num}: must have {len(reader.fieldnames)} columns like the header")
            # An empty cell is how csv writes a missing value.
            yield Row(f"{label}:{reader.line_num}", {name: value or None for name, value in fields.items()})
    except csv.Error as error:
        raise ValueError(f"{label}:{reader.line_num}: not valid csv ({error})") from error


def _read_parquet(path: Path, label: str) -> Iterator[Row]:
    import pyarrow  # heavy, and most sources are JSON lines
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for fields in batch.to_pylist():
                number += 1
                yield Row(f"{label}: row {number}", fields)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{label}: not valid parquet ({str(error).splitlines()[0]})") from error


def _read_dataset(name: str, split: str, label: str) -> Iterator[Row]:
    import datasets  # a second to import; local files do without

    try:
        dataset = datasets.load_dataset(name, split=split)
    except Exception as error:  # a missing name, split or network each raise something else
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(f"{label}: no such file, and `datasets` cannot load its split {split!r} ({reason})") from error
    for number, fields in enumerate(dataset, start=1):
        yield Row(f"{label}: row {number}", fields)
