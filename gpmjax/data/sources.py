"""Files and hub data sets as plain rows, each with the place it came from.

A *source* is a string:

    pairs.jsonl   pairs.jsonl.gz   pairs.json   pairs.parquet   pairs.csv     a local file
    directory/    owner/name       owner/name:split                          anything that `datasets` loads
    SOURCE?column=value&column=value                                         only the rows that match

A list is matched joined by commas: ``cycles.jsonl.gz?config=coherence,consistency,fluency``.
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


def read_entries(source: str, *, prefer: str | None = None, refuse: Refuse | None = None) -> Iterator[Entry]:
    """Every row of a source, in order, that its filter lets through.

    Args:
        prefer: the split that is meant where a directory or hub data set is named without one, "train" if None; a
            directory that lacks it and has one split only is read from that.
        refuse: takes one line for each row that cannot be read, such as one that is no JSON, and reading goes on; None
            raises the first of them.

    Raises:
        FileNotFoundError: no such file, and no such data set.
        ValueError: an empty or broken file, or a filter that nothing matches; the message names file and row.
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

    for row in _open(base, prefer, refused):
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
    if not matched and wanted:
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


def _open(base: str, prefer: str | None, refuse: Refuse) -> Iterator[Entry]:
    path = Path(base).expanduser()
    if path.is_file():
        return read_file(path, base, refuse)
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


def _read_dataset(name: str, split: str, label: str) -> Iterator[Entry]:
    import datasets  # a second to import; local files do without

    try:
        dataset = datasets.load_dataset(name, split=split)
    except Exception as error:  # a missing name, split or network each raise something else
        reason = _first_line(error)
        raise FileNotFoundError(
            f"{label}: no such file, and `datasets` cannot load its split {split!r} ({reason})"
        ) from error
    number = 0
    try:
        for number, fields in enumerate(dataset, start=1):
            yield Entry(f"{label}: row {number}", {name.strip(): value for name, value in fields.items()})
    except Exception as error:  # broken shards, strings that are no UTF-8, a lost network
        raise ValueError(f"{label}: row {number + 1}: cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
