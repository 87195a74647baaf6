"""How much of what a model says is cyclic: triads i ≻ j ≻ k ≻ i, and energy that no reward explains.

These figures describe a model's scores. They do not say that anybody's preferences are cyclic: a model that fitted noise has cycles
too. `vote_noise` tests that, on labels.

A triad looks at verdicts, so that a cycle of faint ones counts as much as one of clear ones; energy weighs them by s².

The quantities are those of `gpmjax.preference.game`, here in numpy and float64: groups come in every size, and a JAX
function compiles for each.
"""

from collections.abc import Sequence

import numpy as np

from gpmjax.evals.diagnostics.records import Record, skew_scores
from gpmjax.evals.intervals import mean_over_groups, ratio_over_groups

BINS = 20


def count_triads(records: Sequence[Record]) -> dict:
    """Share of cyclic triads over all triads of all groups, those with a tie counted apart.

    Only triads all of whose pairs were asked count; a verdict is the sign of `skew_scores`, a tie a score of exactly 0.

    Returns:
      ``triads`` = ``cyclic`` + ``transitive`` + ``tied``; ``incomplete`` (some pair was not asked), ``groups`` that have
      a triad and ``groups_with_cycle``; ``share`` {"value", "interval"} = cyclic / triads. Among coin tosses it is ¼.
    Source: Kendall and Babington Smith 1940, *On the method of paired comparisons*.

    >>> rock_paper_scissors = {"scores": [[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]}
    >>> found = count_triads([rock_paper_scissors])
    >>> found["share"]["value"], found["cyclic"], found["transitive"]
    (1.0, 1, 0)
    """
    counts = np.array([_count(skew_scores(record)) for record in records], np.int64).reshape(-1, 4)
    every, asked, decided, cyclic = counts.T
    return {
        "triads": int(asked.sum()),
        "cyclic": int(cyclic.sum()),
        "transitive": int((decided - cyclic).sum()),
        "tied": int((asked - decided).sum()),
        "incomplete": int((every - asked).sum()),
        "groups": int((asked > 0).sum()),
        "groups_with_cycle": int((cyclic > 0).sum()),
        "share": ratio_over_groups(cyclic, asked),
    }


def energy(records: Sequence[Record]) -> dict:
    """Hodge-style split of score matrices: the share of Σ s² that cycles hold, the rest being what rewards explain.

    Only groups of three responses or more, all of whose pairs were asked, count: two responses have no cycle.

    Returns:
      ``groups``; ``incomplete`` (a pair was not asked) and ``zero`` (every score is 0), which have no share;
      ``cyclic`` {"value", "interval"}, pooled (groups with large scores weigh more), ``transitive`` = 1 − cyclic, and
      ``mean_cyclic``, every group the same; ``by_chance``, what ``mean_cyclic`` of noise is: (K−2)/K, the share of
      dimensions; ``histogram`` of the groups' shares, {"edges", "counts"}.
    Source: Jiang et al. 2011, *Statistical ranking and combinatorial Hodge theory*; `gpmjax.preference.game.split`.

    >>> rewards = {"scores": [[0.0, 1.0, 3.0], [-1.0, 0.0, 2.0], [-3.0, -2.0, 0.0]]}
    >>> round(energy([rewards])["transitive"], 6)
    1.0
    """
    matrices = [skew_scores(record) for record in records]
    large = [matrix for matrix in matrices if len(matrix) >= 3]
    complete = [matrix for matrix in large if np.isfinite(matrix).all()]
    told = [matrix for matrix in complete if np.any(matrix)]
    cyclic, total = np.array([_cyclic_share(matrix) for matrix in told]), np.array([np.square(m).sum() for m in told])
    pooled = ratio_over_groups(cyclic * total, total)
    counts, edges = np.histogram(cyclic, bins=BINS, range=(0.0, 1.0))
    sizes = np.array([len(matrix) for matrix in told], np.float64)
    return {
        "groups": len(told),
        "incomplete": len(large) - len(complete),
        "zero": len(complete) - len(told),
        "cyclic": pooled,
        "transitive": None if pooled["value"] is None else 1 - pooled["value"],
        "mean_cyclic": mean_over_groups(cyclic),
        "by_chance": float(np.mean((sizes - 2) / sizes)) if told else None,
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _count(scores: np.ndarray) -> tuple[int, int, int, int]:
    """Triads there are, that were asked, that have no tie, and that are cyclic."""
    size = len(scores)
    asked = np.isfinite(scores) & ~np.eye(size, dtype=bool)
    # NaN compares as false: what was not asked beats nothing, and is no tie either. Closed walks of three steps meet a
    # triad six times, from each corner and both ways round, and a cycle three times.
    walks = (_closed_walks(asked), _closed_walks(np.abs(scores) > 0), _closed_walks(scores > 0))
    return size * (size - 1) * (size - 2) // 6, walks[0] // 6, walks[1] // 6, walks[2] // 3


def _closed_walks(related: np.ndarray) -> int:
    step = related.astype(np.float64)
    return round(float(np.sum(step @ step * step.T)))


def _cyclic_share(scores: np.ndarray) -> float:
    """‖C‖²/‖S‖² of a complete matrix that is not 0; see `gpmjax.preference.game.split`."""
    scores = scores / np.abs(scores).max()  # squares of tiny scores would vanish
    reward = scores.mean(1)
    cyclic = scores - (reward[:, None] - reward[None, :])
    return float(np.square(cyclic).sum() / np.square(scores).sum())
