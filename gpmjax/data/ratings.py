"""Ratings of single responses, aspect by aspect, and which response of which group they belong to.

Two layouts carry them, and a file may be of either:

    rated responses   prompt|document|context responses ratings: {aspect: [K numbers]}
    UltraFeedback     instruction|prompt completions: [{response, ratings: {aspect: 4}}, …]      or annotations:
                                                      {aspect: {"Rating": "4"}}

A rating that is missing (null, "N/A", an aspect that one response lacks) is NaN; it is never read as a low one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gpmjax.data.conversation import read_prompt
from gpmjax.data.fields import FieldError, as_list, as_number, kind
from gpmjax.data.formats import parse_entry
from gpmjax.data.groups import Group
from gpmjax.data.sources import Entry


class RatedGroup(NamedTuple):
    """A group and what was thought of each of its responses."""

    group: Group
    ratings: Mapping[str, list[float]]
    """Aspect → [K], NaN where there is none."""


def rated_groups(rows: Iterable[Entry]) -> list[RatedGroup]:
    """One for each row, in order; comparisons are kept where the row has them.

    >>> row = {"prompt": "?", "responses": ["x", "y"], "ratings": {"wit": [5, None]}}
    >>> (rated,) = rated_groups([Entry("f.jsonl:1", row)])
    >>> rated.group.responses, rated.ratings
    (('x', 'y'), {'wit': [5.0, nan]})

    Raises:
        ValueError: a row of neither layout, or ratings that do not fit its responses; the message names place and field.
    """
    return [_rated_completions(row) if "completions" in row.fields else _rated_responses(row) for row in rows]


def find_ratings(groups: Sequence[Group], rated: Iterable[RatedGroup]) -> list[dict[str, list[float]]]:
    """The ratings of every group's responses, found by prompt and text: aspect → [K], NaN where there is none.

    A text that was rated several times under one prompt gets the mean. Every group has every aspect.

    >>> from gpmjax.data.groups import user
    >>> tea = Group(user("Tea?"), ("Yes.", "No."))
    >>> find_ratings([tea], [RatedGroup(Group(user("Tea?"), ("No.",)), {"wit": [3.0]})])
    [{'wit': [nan, 3.0]}]
    """
    known: dict[tuple, dict[str, list[float]]] = {}
    aspects: dict[str, None] = {}
    for group, ratings in rated:
        for aspect, values in ratings.items():
            aspects[aspect] = None
            for text, value in zip(group.responses, values, strict=True):
                if not math.isnan(value):
                    known.setdefault((group.prompt, text), {}).setdefault(aspect, []).append(value)
    mean = lambda values: sum(values) / len(values) if values else math.nan
    of = lambda group, text, aspect: mean(known.get((group.prompt, text), {}).get(aspect, []))
    return [{aspect: [of(group, text, aspect) for text in group.responses] for aspect in aspects} for group in groups]


def rated_completions(fields: Mapping[str, Any], where: str) -> tuple[list[str], list[Mapping[str, float]]]:
    """UltraFeedback's ``completions``: the texts, and each one's ratings by aspect."""
    texts, ratings = [], []
    for n, item in enumerate(as_list(fields.get("completions"), "completions", where)):
        name = f"completions[{n}]"
        if not isinstance(item, Mapping) or not isinstance(item.get("response"), str):
            raise FieldError(where, f"{name}.response", f"must be a string, is {kind(item)}")
        given = item.get("ratings") or item.get("annotations")
        if not isinstance(given, Mapping):
            raise FieldError(where, f"{name}.ratings", f"must be an object (or in 'annotations'), is {kind(given)}")
        texts.append(item["response"])
        ratings.append({aspect: rating(value, f"{name}.ratings.{aspect}", where) for aspect, value in given.items()})
    return texts, ratings


def rating(value: Any, name: str, where: str) -> float:
    """A rating as a number, bare or as {"Rating": "4"}; NaN for none, such as null and "N/A".

    >>> rating({"Rating": "4"}, "wit", "f.jsonl:1"), rating("N/A", "wit", "f.jsonl:1")
    (4.0, nan)

    Raises:
        FieldError: a number that is infinite, or larger than 32 bits hold.
    """
    value = value.get("Rating") if isinstance(value, Mapping) else value
    try:
        missing = math.isnan(float(value))
    except OverflowError:
        missing = False
    except (TypeError, ValueError):
        missing = True
    return math.nan if missing else as_number(value, name, where)


def _rated_completions(row: Entry) -> RatedGroup:
    texts, each = rated_completions(row.fields, row.where)
    aspects = list(dict.fromkeys(aspect for ratings in each for aspect in ratings))
    ratings = {aspect: [given.get(aspect, math.nan) for given in each] for aspect in aspects}
    return RatedGroup(
        Group(read_prompt(row.fields, row.where, responses=texts), tuple(texts), (), {}, row.where), ratings
    )


def _rated_responses(row: Entry) -> RatedGroup:
    where, fields = row
    if not isinstance(fields.get("ratings"), Mapping) or not fields["ratings"]:
        raise FieldError(
            where, "ratings", f"must be an object {{aspect: [K numbers]}}, is {kind(fields.get('ratings'))}"
        )
    labelled = fields if "comparisons" in fields else {"prefer": [], **fields}
    group = parse_entry(labelled, where)
    ratings = {}
    for aspect, values in fields["ratings"].items():
        name, count = f"ratings.{aspect}", len(group.responses)
        if len(as_list(values, name, where)) != count:
            raise FieldError(where, name, f"must have one number for each of {count} responses, has {len(values)}")
        ratings[aspect] = [rating(value, f"{name}[{n}]", where) for n, value in enumerate(values)]
    return RatedGroup(group, ratings)
