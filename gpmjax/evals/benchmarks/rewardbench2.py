"""RewardBench 2: the best of four responses over five subsets, and the subset Ties.

Rows have ``prompt, chosen, rejected, subset, id``, with lists of responses: one chosen and three rejected; in Ties any
number of right and wrong ones, and ids "ref:7" and "tied:7". Source: Malik et al. 2025, arXiv 2506.01937.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.data.fields import FieldError, short_repr
from gpmjax.data.groups import Comparison, Group
from gpmjax.evals.benchmarks.aggregation import Aggregation, standing
from gpmjax.evals.benchmarks.protocol import Benchmark, Judged, Leaderboard
from gpmjax.evals.benchmarks.reading import prompt, replies, tags, word
from gpmjax.evals.benchmarks.ties import KINDS, Margins, margins, ties_figures
from gpmjax.evals.intervals import bootstrap_means, percentile_interval, wilson_interval

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
BEST_OF = (1, 3)
"""Numbers of chosen and of rejected responses of a row outside Ties."""


def parse(fields: Mapping[str, Any], where: str) -> Group:
    """A row's group: its responses, the right ones first, each preferred over each wrong one."""
    subset = word(fields, "subset", where)
    chosen, rejected = (replies(fields, name, where) for name in ("chosen", "rejected"))
    if _is_ties(subset):
        kind, _ = _ties_id(fields, where)
        least = 1 + (kind == "tied")  # a spread needs two right answers
        if len(chosen) < least or not rejected:
            counts = f"{len(chosen)} and {len(rejected)}"
            raise FieldError(where, "chosen", f"a {kind} prompt needs at least {least} right and 1 wrong, has {counts}")
    elif (len(chosen), len(rejected)) != BEST_OF:
        raise FieldError(
            where, "chosen", f"must hold 1 response and 'rejected' 3, hold {len(chosen)} and {len(rejected)}"
        )
    if fields.get("num_correct", len(chosen)) != len(chosen):
        raise FieldError(where, "num_correct", f"{short_repr(fields['num_correct'])}, but 'chosen' holds {len(chosen)}")
    comparisons = (Comparison(i, len(chosen) + j) for i in range(len(chosen)) for j in range(len(rejected)))
    return Group(
        prompt(fields, "prompt", where),
        chosen + rejected,
        tuple(comparisons),
        tags(fields, "id", "subset") | {"num_correct": len(chosen)},
        where,
    )


def ties_key(group: Group) -> str | None:
    """The id of a Ties prompt. Ids of the other subsets need not be unique."""
    if not _is_ties(group.tags["subset"]):
        return None
    kind, question = _ties_id(group.tags, group.where)
    return f"{kind}:{question}"


def summarise(judged: Sequence[Judged], aggregation: Aggregation) -> dict[str, Any]:
    """The score is the mean of the present subsets.

    A subset's score is the share of rows whose right response is the best of four; a first place that n responses share
    counts 1/n, by the authors' rule. `ties` has the score of Ties.
    """
    rng = np.random.default_rng(0)
    subsets, draws = {}, {}
    for name, members in _by_subset(judged).items():
        if _is_ties(name):
            subsets[name], draws[name] = ties_figures([_margins(one, aggregation) for one in members], rng)
            continue
        won = np.array([standing(one.skew, aggregation).best[0] for one in members])
        draws[name] = bootstrap_means(won, rng)
        subsets[name] = {
            "rows": len(won),
            "score": float(won.mean()),
            "interval": list(wilson_interval(float(won.sum()), len(won))),
        }
    scored = [name for name, figures in subsets.items() if figures["score"] is not None]
    return {
        "score": float(np.mean([subsets[name]["score"] for name in scored])) if scored else None,
        "interval": percentile_interval(np.mean([draws[name] for name in scored], axis=0)) if scored else None,
        "sections": {},
        "subsets": subsets,
        "absent": [name for name in SUBSETS if name not in subsets],
        "aggregation": aggregation,
    }


def leaderboard(judged: Sequence[Judged], aggregation: Aggregation) -> Leaderboard:
    """The verdicts in the format of the authors' script; ``scores`` are standings. A row of Ties has no result."""
    rows = []
    for one in judged:
        ranking, group_tags = standing(one.skew, aggregation), one.group.tags
        ties = _is_ties(group_tags["subset"])
        rows.append(
            {
                "id": group_tags.get("id"),
                "subset": group_tags["subset"],
                "results": None if ties else float(ranking.best[0]),
                "scores": ranking.values.tolist(),
                "num_correct": group_tags["num_correct"],
            }
        )
    subsets = summarise(judged, aggregation)["subsets"]
    return Leaderboard({name: f["score"] for name, f in subsets.items() if f["score"] is not None}, rows)


def _is_ties(subset: str) -> bool:
    return subset.lower() == "ties"


def _ties_id(fields: Mapping[str, Any], where: str) -> tuple[str, int]:
    kind, _, number = str(fields.get("id", "")).partition(":")
    if kind not in KINDS or not number.isdecimal():
        raise FieldError(where, "id", f"must be 'ref:NUMBER' or 'tied:NUMBER' in Ties, is {fields.get('id')!r:.40}")
    return kind, int(number)


def _margins(one: Judged, aggregation: Aggregation) -> Margins:
    kind, question = _ties_id(one.group.tags, one.group.where)
    return margins(kind, question, standing(one.skew, aggregation), one.group.tags["num_correct"])


def _by_subset(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    subsets = defaultdict(list)
    for one in judged:
        subsets[one.group.tags["subset"]].append(one)
    return dict(sorted(subsets.items()))


REWARDBENCH2 = Benchmark(
    name="rewardbench2",
    split="test",
    pairs="all",
    parse=parse,
    summarise=summarise,
    leaderboard=leaderboard,
    key=ties_key,
    counting="a first place that n responses share counts 1/n; in Ties a margin of 0 fails",
)
