"""Reads the entries of a source: a file or a hub data set, with or without a filter.

A *source* is a string:

    pairs.jsonl   pairs.jsonl.gz   pairs.json   pairs.parquet   pairs.csv     a local file
    directory/    owner/name       owner/name:split                          anything that `datasets` loads
    SOURCE?column=value&column=value                                         only the entries that match

To match a list, join its items by commas: ``cycles.jsonl.gz?config=coherence,consistency,fluency``.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpmjax.data.data_files import SUFFIXES, Entry, Refuse, read_file

__all__ = ["SUFFIXES", "Entry", "read_entries", "split_source"]

_HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.\[\]%:+-]+))?")
_SHOWN_VALUES = 8


def split_source(source: str) -> tuple[str, dict[str, str]]:
    """(the source without its filter, the filter as {column: value}).

    >>> split_source("cycles.jsonl.gz?config=coherence,fluency&split=dev")
    ('cycles.jsonl.gz', {'config': 'coherence,fluency', 'split': 'dev'})
    """
    base, mark, query = source.partition("?")
    if not mark or Path(source).exists():
        return source, {}
    pairs = [item.partition("=") for item in query.split("&")]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"{source}: the filter {query!r} must be column=value, several joined by '&'")
    return base, {name: value for name, _, value in pairs}


def read_entries(source: str, *, prefer: str | None = None, refuse: Refuse | None = None) -> Iterator[Entry]:
    """Yields the entries of a source that match its filter, in order.

    Args:
        prefer: the split to read of a directory or hub data set named without one; None: "train". If a directory lacks
            the split and has only one other, that one is read.
        refuse: called with one line for each entry that cannot be read, such as invalid JSON; reading then goes on.
            None: the first such entry raises.

    Raises:
        FileNotFoundError: there is no such file or data set.
        ValueError: the file is empty or broken, or the filter matches no entry; the message names file and entry.
    """
    base, wanted = split_source(source)
    count = matched = 0
    seen = {column: {} for column in wanted}  # column → its values, in order of appearance

    def refused(message: str) -> None:
        nonlocal count
        if refuse is None:
            raise ValueError(message)
        count += 1
        refuse(message)

    for entry in _open(base, prefer, refused):
        count += 1
        values = {column: _filter_value(entry.fields.get(column)) for column in wanted}
        for column, value in values.items():
            if value is not None and len(seen[column]) <= _SHOWN_VALUES:
                seen[column][value] = None
        if values == wanted:
            matched += 1
            yield entry
    if not count:
        raise ValueError(f"{base}: empty, has no entry")
    if not matched and wanted:
        column = next((name for name in wanted if wanted[name] not in seen[name]), next(iter(wanted)))
        there = list(seen[column])
        listed = ", ".join(there[:_SHOWN_VALUES]) + (", …" if len(there) > _SHOWN_VALUES else "")
        raise ValueError(
            f"{source}: no entry matches {wanted}; "
            + (f"column {column!r} holds: {listed}" if there else f"there is no column {column!r}")
        )


def _filter_value(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return None if value is None else str(value)


def _open(base: str, prefer: str | None, refuse: Refuse) -> Iterator[Entry]:
    path = Path(base).expanduser()
    if path.is_file():
        return read_file(path, base, refuse)
    hub = _HUB_ID.fullmatch(base)
    if path.is_dir():
        return _read_dataset(str(path), _only_split(path, prefer) if prefer else "train", base)
    if hub is None or base.endswith(SUFFIXES):
        raise FileNotFoundError(f"{base}: no such file; a hub data set is written owner/name or owner/name:split")
    return _read_dataset(hub["name"], hub["split"] or prefer or "train", base)


def _only_split(directory: Path, wanted: str) -> str:
    import datasets  # see _read_dataset

    try:
        splits = datasets.get_dataset_split_names(str(directory))
    except Exception:  # reading the directory raises the error again, with its reason
        return wanted
    return splits[0] if wanted not in splits and len(splits) == 1 else wanted


def _read_dataset(name: str, split: str, label: str) -> Iterator[Entry]:
    import datasets  # a second to import; local files do without

    try:
        dataset: Any = datasets.load_dataset(name, split=split)
    except Exception as error:  # a missing name, split or network each raise another type
        reason = _first_line(error)
        raise FileNotFoundError(
            f"{label}: no such file, and `datasets` cannot load its split {split!r} ({reason})"
        ) from error
    number = 0
    try:
        for number, fields in enumerate(dataset, start=1):
            yield Entry(f"{label}: row {number}", {name.strip(): value for name, value in fields.items()})
    except Exception as error:  # broken shards, text that is not UTF-8, a lost network
        raise ValueError(f"{label}: row {number + 1}: cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
