"""Reads the judged groups of FILE.groups.jsonl.

A record has the fields of `judge.group_record`. Two more are optional: ``prompt_tokens``, the number of the prompt's
tokens, and ``ratings`` {aspect: [K numbers or null]}, people's ratings of each response.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpmjax.data.fields import FieldError, as_index, as_list, as_number, kind
from gpmjax.data.sources import read_entries
from gpmjax.evals.intervals import GROUP_TAG
from gpmjax.judges.judge import record_scores

Record = Mapping[str, Any]


class Labelled(NamedTuple):
    """The N labelled comparisons of some records."""

    record: np.ndarray
    """[N] int index of the record."""
    chosen: np.ndarray
    """[N] int index of the chosen response."""
    rejected: np.ndarray
    """[N] int index of the rejected response."""
    score: np.ndarray
    """[N] s(chosen ≻ rejected), raw; the skew part where both orders were judged, see `skew_scores`."""
    target: np.ndarray
    """[N] P(chosen ≻ rejected) of the label."""

    def of_responses(self, records: Sequence[Record], field: str) -> tuple[np.ndarray, np.ndarray]:
        """A field with one number per response, such as ``tokens``: [N] of the chosen and [N] of the rejected."""
        chosen, rejected = (
            np.array([records[r][field][i] for r, i in zip(self.record, side, strict=True)], np.float64)
            for side in (self.chosen, self.rejected)
        )
        return chosen, rejected


def read_records(path: str) -> list[dict[str, Any]]:
    """The records of a file.

    Raises:
      FileNotFoundError, ValueError: one line naming the file, and the line and field of an error in a record.
    """
    return [_checked(row.fields, row.where) for row in read_entries(path)]


def skew_scores(record: Record) -> np.ndarray:
    """[K, K] s(i ≻ j) of a record with s(j ≻ i) = −s(i ≻ j), NaN where neither order was judged.

    Where both orders were judged it is half their difference, which removes position bias. Where one order was judged
    it is that order's score.

    >>> skew_scores({"scores": [[0.0, 3.0], [-1.0, 0.0]]}).tolist()
    [[0.0, 2.0], [-2.0, 0.0]]
    """
    scores = record_scores(record)
    np.fill_diagonal(scores, 0.0)
    back = -scores.T
    both = np.where(np.isnan(scores), back, np.where(np.isnan(back), scores, (scores + back) / 2))
    return both + 0.0  # no −0


def labelled(records: Sequence[Record]) -> Labelled:
    """Every comparison of the records except those of a response with itself (pairs of equal texts that were merged).

    >>> record = {"scores": [[0.0, 1.0], [-1.0, 0.0]], "comparisons": [[1, 0, 1.0], [0, 0, 1.0]]}
    >>> labelled([record])
    Labelled(record=array([0]), chosen=array([1]), rejected=array([0]), score=array([-1.]), target=array([1.]))
    """
    rows = [(r, i, j, t) for r, record in enumerate(records) for i, j, t in record["comparisons"] if i != j]
    record, chosen, rejected = (np.array([row[n] for row in rows], np.int64) for n in range(3))
    scores = [skew_scores(record) for record in records]
    score = np.array([scores[r][i, j] for r, i, j, _ in rows], np.float64)
    return Labelled(record, chosen, rejected, score, np.array([row[3] for row in rows], np.float64))


def prompts_of(records: Sequence[Record], known: Labelled) -> list[str]:
    """The independent unit of each labelled comparison: its record's tag ``group``, else its prompt, else its record.

    >>> known = labelled([{"scores": [[0, 1], [-1, 0]], "comparisons": [[0, 1, 1.0]]}] * 2)
    >>> prompts_of([{"tags": {"group": "pro"}}, {"texts": {"prompt": "Why?"}}], known)
    ['pro', 'Why?']
    """
    shared = [
        str(record.get("tags", {}).get(GROUP_TAG) or record.get("texts", {}).get("prompt") or f"record {n}")
        for n, record in enumerate(records)
    ]
    return [shared[record] for record in known.record]


def by_tag(records: Sequence[Record], tags: Sequence[str]) -> dict[str, dict[str, list[Record]]]:
    """Tag → value → the records that have it; tags that no record has are left out.

    >>> by_tag([{"tags": {"subset": "chat"}}, {"tags": {}}], ["subset", "group"])
    {'subset': {'chat': [{'tags': {'subset': 'chat'}}]}}
    """
    parts: dict[str, dict[str, list[Record]]] = {}
    for tag in tags:
        for record in records:
            if (value := record["tags"].get(tag)) is not None:
                parts.setdefault(tag, {}).setdefault(str(value), []).append(record)
    return {tag: dict(sorted(values.items())) for tag, values in parts.items()}


def pair_differences(values: Sequence[float | None]) -> np.ndarray:
    """[K, K] x_i − x_j of one number per response; NaN where one is missing.

    >>> pair_differences([3, 1, None]).tolist()
    [[0.0, 2.0, nan], [-2.0, 0.0, nan], [nan, nan, nan]]
    """
    x = np.array([np.nan if value is None else value for value in values], np.float64)
    return x[:, None] - x[None, :]


def _checked(fields: dict[str, Any], where: str) -> dict[str, Any]:
    needed = ("scores", "tau", "comparisons", "tokens", "characters", "forward_tokens", "tags")
    if missing := [name for name in needed if name not in fields]:
        raise FieldError(where, missing[0], "missing; a record is a line that an evaluation wrote to FILE.groups.jsonl")
    for name in ("scores", "comparisons", "asked", "embedding"):
        as_list(fields.get(name, []), name, where)
    for name in ("tags", "ratings"):
        if not isinstance(fields.get(name, {}), Mapping):
            raise FieldError(where, name, f"must be an object, is {kind(fields[name])}")
    count = len(fields["scores"])
    as_number(fields["tau"], "tau", where, low=math.nextafter(0.0, 1.0))
    as_number(fields["forward_tokens"], "forward_tokens", where)
    for name, size, value in _sizes(fields, count, where):
        if len(as_list(value, name, where)) != size:
            raise FieldError(where, name, f"must have {size} entries, has {len(value)}")
    for name, values in _numbers(fields):
        for n, value in enumerate(values):
            if value is not None:
                as_number(value, f"{name}[{n}]", where)
    scores = skew_scores(fields)
    for n, (chosen, rejected, target) in enumerate(fields["comparisons"]):
        name = f"comparisons[{n}]"
        pair = as_index(chosen, count, name, where), as_index(rejected, count, name, where)
        as_number(target, name, where, low=0.0, high=1.0)
        if not np.isfinite(scores[pair]):
            raise FieldError(where, name, f"compares {chosen} with {rejected}, of which there is no finite score")
    return fields


def _numbers(fields: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """(name, list) of the fields that hold numbers or null; their lengths are already checked."""
    for name in ("scores", "embedding"):
        yield from ((f"{name}[{i}]", row) for i, row in enumerate(fields.get(name, ())))
    yield from ((name, fields[name]) for name in ("tokens", "characters", "scale") if name in fields)
    yield from ((f"ratings.{aspect}", values) for aspect, values in fields.get("ratings", {}).items())


def _sizes(fields: Mapping[str, Any], count: int, where: str) -> Iterator[tuple[str, int, Any]]:
    """(name, length, value) of the fields that must be lists."""
    yield from ((f"scores[{i}]", count, row) for i, row in enumerate(fields["scores"]))
    yield from ((f"asked[{i}]", count, row) for i, row in enumerate(fields.get("asked", ())))
    yield from (
        (name, count, fields[name]) for name in ("tokens", "characters", "embedding", "asked") if name in fields
    )
    yield from ((f"ratings.{aspect}", count, values) for aspect, values in fields.get("ratings", {}).items())
    yield from ((f"comparisons[{n}]", 3, comparison) for n, comparison in enumerate(fields["comparisons"]))
    if fields.get("embedding"):
        width = len(as_list(fields["embedding"][0], "embedding[0]", where))
        yield from ((f"embedding[{i}]", width, row) for i, row in enumerate(fields["embedding"]))
        if "scale" in fields:
            yield "scale", width // 2, fields["scale"]
