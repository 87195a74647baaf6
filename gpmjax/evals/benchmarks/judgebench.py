"""JudgeBench: pairs of answers to hard questions, one of them correct, judged in both orders.

Rows have ``question, response_A, response_B, label`` ("A>B" or "B>A"), ``source, pair_id, original_id,
response_model``. Source: Tan et al. 2024, arXiv 2410.12784.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.data.fields import FieldError
from gpmjax.data.groups import Comparison, Group
from gpmjax.data.messages import read_reply
from gpmjax.evals.benchmarks.aggregation import Aggregation
from gpmjax.evals.benchmarks.protocol import Benchmark, Judged
from gpmjax.evals.benchmarks.reading import given, prompt, tags, word
from gpmjax.evals.intervals import wilson_interval
from gpmjax.evals.metrics import count_outcomes

CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
"""Beginning of a row's source → category."""
LABELS = {"A>B": Comparison(0, 1), "B>A": Comparison(1, 0)}


def parse(fields: Mapping[str, Any], where: str) -> Group:
    """A row's group of two responses, A first."""
    label = word(fields, "label", where)
    if label not in LABELS:
        raise FieldError(where, "label", f"must be {' or '.join(map(repr, LABELS))}, is {label!r:.40}")
    word(fields, "source", where)
    responses = tuple(read_reply(given(fields, name, where), name, where) for name in ("response_A", "response_B"))
    known = tags(fields, "pair_id", "source", "original_id", "response_model")
    return Group(prompt(fields, "question", where), responses, (LABELS[label],), known, where)


def pair_key(group: Group) -> str | None:
    """The pair's id."""
    return group.tags.get("pair_id")


def games(one: Judged) -> tuple[int, int]:
    """The verdicts with A first and with B first: 1 for the labelled side, −1 for the other, 0 for a draw.

    A pairwise model may prefer the first response in both orders, so its verdicts count before any symmetrising.
    """
    return _side(one) * int(np.sign(one.both_orders[0, 1])), -_side(one) * int(np.sign(one.both_orders[1, 0]))


def summarise(judged: Sequence[Judged], _: Aggregation) -> dict[str, Any]:
    """The score is the share of pairs whose two games together favour the label: both games, or one and a draw.

    One game for each side, or two draws, are no win by the authors' rule; ``half`` counts them one half. ``averaged``
    is the share of pairs whose mean score over both orders favours the label, a tie counting one half. ``consistent``
    is the share of pairs whose games agree.
    """
    played = defaultdict(list)
    for one in judged:
        source = one.group.tags["source"]
        played[next((c for start, c in CATEGORIES.items() if source.startswith(start)), "other")].append(one)
    named = (*CATEGORIES.values(), "other")
    return {
        **{name: figure for name, figure in _figures(judged).items() if name != "rows"},
        "sections": {name: _figures(played[name]) for name in named if name in played},
        "subsets": {},
        "absent": [name for name in CATEGORIES.values() if name not in played],
    }


def _side(one: Judged) -> int:
    """1 where the label prefers A, −1 where it prefers B."""
    (comparison,) = one.group.comparisons
    return 1 if comparison.chosen == 0 else -1


def _figures(judged: Sequence[Judged]) -> dict[str, Any]:
    first, second = np.array([games(one) for one in judged]).T
    points = first + second
    averaged = count_outcomes([_side(one) * one.skew[0, 1] for one in judged], np.ones(len(judged)))
    wins, ties, losses = (int(np.sum(np.sign(points) == outcome)) for outcome in (1, 0, -1))
    return {
        "rows": len(points),
        "score": wins / len(points),
        "interval": list(wilson_interval(wins, len(points))),
        "half": (wins + ties / 2) / len(points),
        "averaged": averaged.accuracy,
        "consistent": float(np.mean(first == second)),
        "wins": wins,
        "ties": ties,
        "losses": losses,
    }


JUDGEBENCH = Benchmark(
    name="judgebench",
    split="gpt",
    parse=parse,
    summarise=summarise,
    key=pair_key,
    columns=("half", "averaged", "consistent"),
    counting="two draws, or a game for each side, are no win by the authors' rule; half: they count one half; "
    "averaged: the mean score of both orders decides",
)
