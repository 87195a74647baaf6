"""Cyclic preferences out of real ratings: the recipe behind table 1 of the paper (arXiv 2410.02197).

Each response to a prompt carries a rating per aspect. A response *leads* on an aspect when its rating is the one
highest among all responses to the prompt that are rated there; equal highest ratings have no leader, and a response
without a rating ("N/A") does not compete. Given aspects a₁ … aₙ that are led by n different responses, the leader on
a₁ beats the leader on a₂, and so on round the cycle, the leader on aₙ beating the leader on a₁.

UltraFeedback rates four aspects; leaving one out gives the four sets of three-cycles.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from gpmjax.data.conversation import read_prompt
from gpmjax.data.groups import Comparison, Group
from gpmjax.data.ratings import rated_completions
from gpmjax.data.sources import Entry

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
"""In the order of the cycle."""


def aspect_cycles(rows: Iterable[Entry], aspects: Sequence[str]) -> list[Group]:
    """One group for each row whose aspects are led by different responses: the leaders, in a cycle.

    A row is UltraFeedback's: ``instruction`` (or ``prompt``), and ``completions`` with ``response`` and
    ``annotations`` {aspect: {"Rating": "4"}}, or plainly ``ratings`` {aspect: 4}.

    >>> ratings = [dict(a=5, b=1, c=2), dict(a=1, b=5, c=2), dict(a=1, b=1, c=4)]
    >>> completions = [dict(response=text, ratings=r) for text, r in zip("xyz", ratings)]
    >>> (group,) = aspect_cycles([Entry("f.jsonl:1", dict(prompt="?", completions=completions))], ("a", "b", "c"))
    >>> group.responses, [(c.chosen, c.rejected) for c in group.comparisons], group.tags
    (('x', 'y', 'z'), [(0, 1), (1, 2), (2, 0)], {'config': 'a,b,c'})

    Raises:
        ValueError: fewer than three aspects, or a row without responses or ratings.
    """
    if len(aspects) < 3 or len(set(aspects)) != len(aspects):
        raise ValueError(f"aspects={tuple(aspects)}: a cycle needs at least 3 different ones")
    groups = []
    for where, fields in rows:
        texts, ratings = rated_completions(fields, where)
        prompt = read_prompt(fields, where, responses=texts)
        leaders = [_leader(ratings, aspect) for aspect in aspects]
        if None in leaders or len({texts[leader] for leader in leaders}) < len(aspects):
            continue
        following = [(i, (i + 1) % len(leaders)) for i in range(len(leaders))]
        groups.append(
            Group(
                prompt,
                tuple(texts[leader] for leader in leaders),
                tuple(Comparison(i, j) for i, j in following),
                {"config": ",".join(aspects)},
                where,
            )
        )
    return groups


def table1_sets(rows: Iterable[Entry]) -> dict[str, list[Group]]:
    """The four sets of table 1, by name: "no_honesty" is the cycle of the other three aspects."""
    rows = list(rows)
    return {f"no_{left_out}": aspect_cycles(rows, [a for a in ASPECTS if a != left_out]) for left_out in ASPECTS}


def _leader(ratings: Sequence[Mapping[str, float]], aspect: str) -> int | None:
    rated = [(r[aspect], i) for i, r in enumerate(ratings) if not math.isnan(r.get(aspect, math.nan))]
    best = max((rating for rating, _ in rated), default=None)
    leaders = [i for rating, i in rated if rating == best]
    return leaders[0] if len(leaders) == 1 else None
