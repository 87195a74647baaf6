"""Reads AlpacaEval's files: one row per instruction, with ``instruction, output, generator`` and perhaps ``dataset``.

Published files are one JSON array; JSON lines, csv and parquet are read as well (see `gpmjax.data.sources`). A row that
lacks a field is named and counted, and a policy's answer is matched with the reference's by the text of the
instruction.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gpmjax.data.fields import FieldError, kind
from gpmjax.data.groups import Group, user
from gpmjax.data.sources import Entry, read_entries
from gpmjax.files import replacing, write_json

T = TypeVar("T")

# A summary names this many rows of a kind. It counts all of them.
NAMED = 100


class Output(NamedTuple):
    """A policy's answer to one instruction."""

    instruction: str
    output: str
    generator: str
    dataset: str
    """The part of the benchmark; "" where the file does not name it."""
    where: str
    """The file and row."""


class Outputs(NamedTuple):
    """A file of answers by one policy."""

    source: str
    rows: list[Output]
    malformed: list[str]
    """One line per malformed row, naming its place and field."""

    @property
    def generator(self) -> str:
        return self.rows[0].generator


class Matched(NamedTuple):
    """A policy's answers beside a reference's."""

    groups: list[Group]
    """Groups of two responses, the policy's and the reference's, in the reference's order and without comparisons."""
    places: list[int]
    """Index of each group's instruction among the reference's rows."""
    unanswered: list[str]
    """Places of reference rows that the policy has no answer to."""
    unmatched: list[str]
    """Places of the policy's answers that the reference has no row for."""


def read_each(source: str, parse: Callable[[Entry], T]) -> tuple[list[T], list[str]]:
    """Every row parsed, and a line for each that ``parse`` refused with FieldError.

    Raises FileNotFoundError, or ValueError when no row is well-formed; the message has the first row's error.
    """
    parsed, malformed = [], []
    for row in read_entries(source):
        try:
            parsed.append(parse(row))
        except FieldError as error:
            malformed.append(str(error))
    if not parsed:
        raise ValueError(f"{malformed[0]} (all {len(malformed)} rows of {source} are malformed)")
    return parsed, malformed


def read_outputs(source: str) -> Outputs:
    """Reads a policy's answers.

    Raises FileNotFoundError; ValueError for a file without a well-formed row, or with answers of several generators.
    """
    rows, malformed = read_each(source, _output)
    other = next((row for row in rows if row.generator != rows[0].generator), None)
    if other is not None:
        raise ValueError(
            f"{other.where}: generator {other.generator!r}, must be {rows[0].generator!r} as in {rows[0].where}"
        )
    return Outputs(source, rows, malformed)


def read_instructions(source: str) -> tuple[list[Output], list[str]]:
    """The instructions of a file, and a line for each malformed row; ``output`` and ``generator`` are "".

    The file may or may not have answers.
    """

    def parse(row: Entry) -> Output:
        instruction = text_field(row, "instruction")
        if not instruction.strip():
            raise FieldError(row.where, "instruction", "is empty; an instruction needs text")
        return Output(instruction, "", "", _dataset(row), row.where)

    return read_each(source, parse)


def write_records(path: str | Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes records as one JSON array, or as lines if the path ends in .jsonl; the file appears whole or not at
    all."""
    if Path(path).suffix == ".jsonl":
        with replacing(path) as partial:
            lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            partial.write_text("".join(lines), encoding="utf-8")
    else:
        write_json(path, list(records))


def match(outputs: Outputs, reference: Outputs) -> Matched:
    """Pairs answers to the same instruction; the n-th of equal instructions is paired with the n-th.

    Raises ValueError when the two files have no instruction in common.
    """
    answers = dict(_numbered(outputs.rows))
    groups, places, unanswered = [], [], []
    for place, (key, row) in enumerate(_numbered(reference.rows)):
        answer = answers.pop(key, None)
        if answer is None:
            unanswered.append(row.where)
            continue
        dataset = row.dataset or answer.dataset
        tags = {"dataset": dataset} if dataset else {}
        groups.append(Group(user(row.instruction), (answer.output, row.output), (), tags, answer.where))
        places.append(place)
    if not groups:
        raise ValueError(f"{outputs.source}: answers none of the instructions of {reference.source}")
    return Matched(groups, places, unanswered, [answer.where for answer in answers.values()])


def named(places: Sequence[str]) -> dict[str, Any]:
    """The count of rows of one kind and the places of the first of them, JSON-ready."""
    return {"count": len(places), "at": list(places[:NAMED])}


def text_field(row: Entry, name: str) -> str:
    """The value of a field that must be a string and may be empty."""
    value = row.fields.get(name)
    if not isinstance(value, str):
        raise FieldError(row.where, name, "missing" if value is None else f"must be a string, is {kind(value)}")
    return value


def _output(row: Entry) -> Output:
    instruction, output, generator = (text_field(row, name) for name in ("instruction", "output", "generator"))
    return Output(instruction, output, generator, _dataset(row), row.where)


def _dataset(row: Entry) -> str:
    return "" if row.fields.get("dataset") is None else text_field(row, "dataset")


def _numbered(rows: Iterable[Output]) -> list[tuple[tuple[str, int], Output]]:
    seen: dict[str, int] = {}
    numbered = []
    for row in rows:
        seen[row.instruction] = seen.get(row.instruction, 0) + 1
        numbered.append(((row.instruction, seen[row.instruction]), row))
    return numbered
