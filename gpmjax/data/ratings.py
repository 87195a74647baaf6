"""Ratings of single responses by aspect, and their assignment to the responses of groups.

There are two layouts with ratings:

    rated responses   prompt|document|context responses ratings: {aspect: [K numbers]}
    UltraFeedback     instruction|prompt completions: [{response, ratings: {aspect: 4}}, …]      or annotations:
                                                      {aspect: {"Rating": "4"}}

A missing rating (null, "N/A", an aspect that one response lacks) is NaN; it is never read as a low rating.
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
    """A group and the ratings of its responses."""

    group: Group
    ratings: Mapping[str, list[float]]
    """Aspect → [K], NaN for a missing rating."""


def rated_groups(entries: Iterable[Entry]) -> list[RatedGroup]:
    """One group with its ratings for each entry, in order; an entry's comparisons are kept.

    >>> fields = {"prompt": "?", "responses": ["x", "y"], "ratings": {"wit": [5, None]}}
    >>> (rated,) = rated_groups([Entry("f.jsonl:1", fields)])
    >>> rated.group.responses, rated.ratings
    (('x', 'y'), {'wit': [5.0, nan]})

    Raises:
        ValueError: an entry has neither layout, or its ratings do not fit its responses; the message names place and
            field.
    """
    return [_rated_completions(e) if "completions" in e.fields else _rated_responses(e) for e in entries]


def find_ratings(groups: Sequence[Group], rated: Iterable[RatedGroup]) -> list[dict[str, list[float]]]:
    """The ratings of every group's responses, found by prompt and text: aspect → [K], NaN for a missing rating.

    A text rated several times for one prompt gets the mean. Every group has every aspect.

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
    found = []
    for group in groups:
        rated_texts = [known.get((group.prompt, text), {}) for text in group.responses]
        found.append({aspect: [_mean(one.get(aspect, [])) for one in rated_texts] for aspect in aspects})
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def rated_completions(fields: Mapping[str, Any], where: str) -> tuple[list[str], list[Mapping[str, float]]]:
    """The texts of UltraFeedback's ``completions``, and the ratings of each by aspect."""
    texts, ratings = [], []
    for n, item in enumerate(as_list(fields.get("completions"), "completions", where)):
        name = f"completions[{n}]"
        if not isinstance(item, Mapping) or not isinstance(item.get("response"), str):
            raise FieldError(where, f"{name}.response", f"must be a string, is {kind(item)}")
        given = item.get("ratings") or item.get("annotations")
        if not isinstance(given, Mapping):
            raise FieldError(
                where, f"{name}.ratings", f"must be an object (also named 'annotations'), is {kind(given)}"
            )
        texts.append(item["response"])
        ratings.append({aspect: rating(value, f"{name}.ratings.{aspect}", where) for aspect, value in given.items()})
    return texts, ratings


def rating(value: Any, name: str, where: str) -> float:
    """A rating written as a number or as {"Rating": "4"}; anything else, such as null or "N/A", is NaN.

    >>> rating({"Rating": "4"}, "wit", "f.jsonl:1"), rating("N/A", "wit", "f.jsonl:1")
    (4.0, nan)

    Raises:
        FieldError: the number is not finite in float32.
    """
    value = value.get("Rating", "") if isinstance(value, Mapping) else value
    try:
        missing = math.isnan(float(value))
    except OverflowError:
        missing = False
    except (TypeError, ValueError):
        missing = True
    return math.nan if missing else as_number(value, name, where)


def _rated_completions(entry: Entry) -> RatedGroup:
    texts, each = rated_completions(entry.fields, entry.where)
    aspects = list(dict.fromkeys(aspect for ratings in each for aspect in ratings))
    ratings = {aspect: [given.get(aspect, math.nan) for given in each] for aspect in aspects}
    return RatedGroup(
        Group(read_prompt(entry.fields, entry.where, responses=texts), tuple(texts), (), {}, entry.where), ratings
    )


def _rated_responses(entry: Entry) -> RatedGroup:
    where, fields = entry
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
