"""Cyclic preferences: sets of three-cycles (table 1 of arXiv 2410.02197), with the ceiling of any scalar reward.

Rows have any of the layouts of `gpmjax.data.formats`: the released ``instruction, chosen, reject, label``, or groups
with ``responses`` and ``comparisons`` or ``prefer``. The rows of one ``config`` (the aspects of the cycle, in order)
make a set; a file without that column is one set. Different sets may contradict each other, so each has its own
ceiling.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpmjax.data.cyclic import bt_ceiling
from gpmjax.data.fields import FieldError
from gpmjax.data.formats import parse_entry
from gpmjax.data.groups import Group
from gpmjax.evals.benchmarks.aggregation import Aggregation
from gpmjax.evals.benchmarks.protocol import Benchmark, Judged
from gpmjax.evals.intervals import bootstrap_means, percentile_interval, prompt_name
from gpmjax.evals.metrics import accuracy_figures, count_outcomes

WHOLE = "everything"


def parse(fields: Mapping[str, Any], where: str) -> Group:
    """A row's group. Raises FieldError when none of its comparisons has a winner."""
    group = parse_entry(fields, where)
    if all(comparison.winner is None for comparison in group.comparisons):
        raise FieldError(where, "comparisons", "none of them has a winner")
    return group


def summarise(judged: Sequence[Judged], _: Aggregation) -> dict[str, Any]:
    """The score is the mean over sets. A set's score is its accuracy, a tie counting one half.

    Intervals are over prompts, since the comparisons of one prompt are not independent. ``ceiling`` is the exact
    highest accuracy of any scalar reward; None where a connected set of cycles is too large to compute it.
    """
    sets = defaultdict(list)
    for one in judged:
        sets[str(one.group.tags.get("config", WHOLE))].append(one)
    subsets = {name: _figures(members) for name, members in sorted(sets.items())}
    rng = np.random.default_rng(0)
    draws = [bootstrap_means(_prompt_scores(members), rng) for _, members in sorted(sets.items())]
    ceilings = [figures["ceiling"] for figures in subsets.values()]
    return {
        "score": float(np.mean([figures["score"] for figures in subsets.values()])),
        "interval": percentile_interval(np.mean([draw[:, 0] / draw[:, 1] for draw in draws], axis=0)),
        "ceiling": None if None in ceilings else float(np.mean(ceilings)),
        "sections": {},
        "subsets": subsets,
    }


def _scored(one: Judged) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets [N] of a group's comparisons."""
    comparisons = one.group.comparisons
    scores = np.array([one.skew[c.chosen, c.rejected] for c in comparisons])
    return scores, np.array([c.target for c in comparisons])


def _prompt_scores(members: Sequence[Judged]) -> np.ndarray:
    """[G, 2]: points and comparisons of each prompt."""
    found: dict[str, np.ndarray] = {}
    for one in members:
        outcomes = count_outcomes(*_scored(one))
        name = prompt_name(one.group)
        counts = np.array([(outcomes.accuracy or 0.0) * outcomes.decided, outcomes.decided])
        found[name] = found.get(name, np.zeros(2)) + counts
    return np.array(list(found.values()))


def _figures(members: Sequence[Judged]) -> dict[str, Any]:
    scores, targets = (np.concatenate(parts) for parts in zip(*map(_scored, members), strict=True))
    outcomes = count_outcomes(scores, targets)
    prompts = [prompt_name(one.group) for one in members for _ in one.group.comparisons]
    found = accuracy_figures(scores, targets, prompts)
    return {
        "rows": len(members),
        "prompts": len(set(prompts)),
        "comparisons": outcomes.decided,
        "score": outcomes.accuracy,
        "interval": found["accuracy_interval"],
        "interval_over": found["interval_over"],
        "ceiling": _ceiling([one.group for one in members]),
        "strict": outcomes.wins / outcomes.decided,
        **outcomes._asdict(),
    }


def _ceiling(groups: Sequence[Group]) -> float | None:
    try:
        return bt_ceiling(groups)
    except ValueError:
        return None


CYCLIC = Benchmark(
    name="cyclic",
    split="train",
    parse=parse,
    summarise=summarise,
    columns=("ceiling", "strict"),
    counting="a tie counts one half; strict: a tie is a loss; ceiling: the highest score of any scalar reward",
)
