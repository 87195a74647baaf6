"""Cyclic preferences built from real ratings: the recipe behind table 1 of the paper (arXiv 2410.02197).

Each response to a prompt has a rating per aspect. A response *leads* on an aspect when its rating is higher than that
of every other response rated on that aspect. Equal highest ratings have no leader. A response without a rating ("N/A")
is ignored. Given aspects a₁ … aₙ that are led by n different responses, the leader on a₁ beats the leader on a₂, and so
on round the cycle; the leader on aₙ beats the leader on a₁.

UltraFeedback rates four aspects. Leaving out one of them at a time gives four sets of three-cycles.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from gpmjax.data.conversation import read_prompt
from gpmjax.data.groups import Comparison, Group
from gpmjax.data.ratings import rated_completions
from gpmjax.data.sources import Entry

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
"""UltraFeedback's aspects, in the order of the cycle."""


def aspect_cycles(entries: Iterable[Entry], aspects: Sequence[str]) -> list[Group]:
    """One group for each entry whose aspects are led by different responses: those leaders, compared in a cycle.

    Entries have UltraFeedback's fields: ``instruction`` (or ``prompt``), and ``completions`` with ``response`` and
    either ``annotations`` {aspect: {"Rating": "4"}} or ``ratings`` {aspect: 4}.

    >>> ratings = [dict(a=5, b=1, c=2), dict(a=1, b=5, c=2), dict(a=1, b=1, c=4)]
    >>> completions = [dict(response=text, ratings=r) for text, r in zip("xyz", ratings)]
    >>> (group,) = aspect_cycles([Entry("f.jsonl:1", dict(prompt="?", completions=completions))], ("a", "b", "c"))
    >>> group.responses, [(c.chosen, c.rejected) for c in group.comparisons], group.tags
    (('x', 'y', 'z'), [(0, 1), (1, 2), (2, 0)], {'config': 'a,b,c'})

    Raises:
        ValueError: fewer than three aspects, or an entry without responses or ratings.
    """
    if len(aspects) < 3 or len(set(aspects)) != len(aspects):
        raise ValueError(f"aspects={tuple(aspects)}: a cycle needs at least 3 different aspects")
    groups = []
    for where, fields in entries:
        texts, ratings = rated_completions(fields, where)
        prompt = read_prompt(fields, where, responses=texts)
        leaders = [leader for aspect in aspects if (leader := _leader(ratings, aspect)) is not None]
        if len(leaders) < len(aspects) or len({texts[leader] for leader in leaders}) < len(aspects):
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


def table1_sets(entries: Iterable[Entry]) -> dict[str, list[Group]]:
    """The four sets of table 1 by name; "no_honesty" has the cycles of the other three aspects."""
    entries = list(entries)
    return {f"no_{left_out}": aspect_cycles(entries, [a for a in ASPECTS if a != left_out]) for left_out in ASPECTS}


def _leader(ratings: Sequence[Mapping[str, float]], aspect: str) -> int | None:
    rated = [(r[aspect], i) for i, r in enumerate(ratings) if not math.isnan(r.get(aspect, math.nan))]
    best = max((rating for rating, _ in rated), default=None)
    leaders = [i for rating, i in rated if rating == best]
    return leaders[0] if len(leaders) == 1 else None
