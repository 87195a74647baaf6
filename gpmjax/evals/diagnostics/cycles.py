"""How cyclic a model's scores are: cyclic triads i ≻ j ≻ k ≻ i, and energy that no reward explains.

These figures describe a model's scores. They do not show that people's preferences are cyclic, since a model that
fitted noise has cycles too. `vote_noise` tests the labels.

A triad counts verdicts, so small scores count as much as large ones. Energy weights verdicts by s².

The quantities are those of `gpmjax.preference.game`, computed here in numpy and float64, because groups differ in size
and a JAX function would compile for each size.
"""

from collections.abc import Sequence

import numpy as np

from gpmjax.evals.diagnostics.records import Record, skew_scores
from gpmjax.evals.intervals import mean_over_groups, ratio_over_groups

BINS = 20


def count_triads(records: Sequence[Record]) -> dict:
    """Counts cyclic, transitive and tied triads of all groups, and their cyclic share.

    Only triads whose three pairs were judged count. A verdict is the sign of `skew_scores`; a tie is a score of exactly
    0.

    Returns:
      ``triads`` = ``cyclic`` + ``transitive`` + ``tied``; ``incomplete`` (triads with a pair that was not judged),
      ``groups`` that have a triad, ``groups_with_cycle``, and ``share`` {"value", "interval"} = cyclic / triads, which
      is ¼ for coin tosses.
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
    """Hodge decomposition of score matrices: the share of Σ s² that is cyclic; rewards explain the rest.

    Only groups of three or more responses whose pairs were all judged count, since two responses have no cycle.

    Returns:
      ``groups``; ``incomplete`` groups (a pair was not judged) and ``zero`` groups (every score is 0), which have no
      share; ``cyclic`` {"value", "interval"}, pooled (groups with large scores weigh more), ``transitive`` = 1 −
      cyclic, and ``mean_cyclic``, in which all groups weigh the same; ``by_chance``, the ``mean_cyclic`` of noise,
      which is (K−2)/K, the cyclic share of dimensions; ``histogram`` of the groups' shares, {"edges", "counts"}.
    Source: Jiang et al. 2011, *Statistical ranking and combinatorial Hodge theory*; `game.hodge_decomposition`.

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
    """Numbers of all triads, of those that were judged, of those without a tie, and of cyclic ones."""
    size = len(scores)
    asked = np.isfinite(scores) & ~np.eye(size, dtype=bool)
    # NaN compares as false, so a pair that was not judged is neither a win nor a tie. Closed walks of three steps visit
    # a triad six times (from each corner, in both directions), and a cycle three times.
    walks = (_closed_walks(asked), _closed_walks(np.abs(scores) > 0), _closed_walks(scores > 0))
    return size * (size - 1) * (size - 2) // 6, walks[0] // 6, walks[1] // 6, walks[2] // 3


def _closed_walks(related: np.ndarray) -> int:
    step = related.astype(np.float64)
    return round(float(np.sum(step @ step * step.T)))


def _cyclic_share(scores: np.ndarray) -> float:
    """‖C‖²/‖S‖² of a complete matrix that is not 0; see `game.hodge_decomposition`."""
    scores = scores / np.abs(scores).max()  # squares of tiny scores would underflow
    reward = scores.mean(1)
    cyclic = scores - (reward[:, None] - reward[None, :])
    return float(np.square(cyclic).sum() / np.square(scores).sum())
