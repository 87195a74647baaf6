"""Reads the groups of a benchmark's file. A malformed row is left out and named."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gpmjax.data.conversation import read_prompt
from gpmjax.data.fields import FieldError, as_list, short_repr
from gpmjax.data.groups import Group, Message
from gpmjax.data.messages import read_reply, text_or_messages
from gpmjax.data.sources import read_entries
from gpmjax.evals.benchmarks.protocol import Benchmark


class Malformed(NamedTuple):
    """A row that is left out."""

    where: str
    """The file and line, or row."""
    reason: str
    """The field, its value and the values that are allowed."""


class Examples(NamedTuple):
    """A benchmark's rows."""

    groups: list[Group]
    malformed: list[Malformed]


def read_examples(benchmark: Benchmark, source: str) -> Examples:
    """Reads all rows of a source, a file or hub id as `gpmjax.data.sources` describes it.

    Raises:
        FileNotFoundError: no such file and no such data set.
        ValueError: a damaged file (a line that is not JSON, a truncated archive), or a file without a well-formed row.
    """
    groups, malformed = [], []
    places = {}  # key → place of its first row
    rows = (
        (row, file.fields)
        for file in benchmark.files(source)
        for row in read_entries(file.source, prefer=benchmark.split)
    )
    for row, common in rows:
        fields = {**common, **{name: value for name, value in row.fields.items() if value is not None}}
        try:
            group = benchmark.parse(fields, row.where)
            key = benchmark.key(group)
            if key in places:
                raise FieldError(row.where, "id", f"{key!r} was at {places[key]} already")
        except FieldError as error:
            malformed.append(Malformed(row.where, str(error).removeprefix(f"{row.where}: ")))
            continue
        if key is not None:
            places[key] = row.where
        groups.append(group)
    if not groups:
        (where, reason), count = malformed[0], len(malformed)
        raise ValueError(f"{where}: {reason} (none of the {count} rows is a row of {benchmark.name})")
    return Examples(groups, malformed)


def given(fields: Mapping[str, Any], name: str, where: str) -> Any:
    """The value of a required field."""
    if name not in fields:
        raise FieldError(where, name, f"missing; there is {', '.join(fields) or 'no other'}")
    return fields[name]


def word(fields: Mapping[str, Any], name: str, where: str) -> str:
    """The value of a field that must be a string and not empty."""
    value = text_or_messages(fields, name, where)
    if not isinstance(value, str) or not value:
        raise FieldError(where, name, f"must be a string that is not empty, is {short_repr(fields[name])}")
    return value


def prompt(fields: Mapping[str, Any], name: str, where: str) -> tuple[Message, ...]:
    """The prompt in a field: a user's message, or a conversation that ends with one."""
    given(fields, name, where)
    return read_prompt(fields, where, column=name)


def replies(fields: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """The list of responses in a field."""
    values = as_list(given(fields, name, where), name, where)
    return tuple(read_reply(value, f"{name}[{n}]", where) for n, value in enumerate(values))


def tags(fields: Mapping[str, Any], *names: str) -> dict[str, str | int | float | bool]:
    """The named fields that are present and hold a single value."""
    return {name: fields[name] for name in names if isinstance(fields.get(name), str | int | float | bool)}
