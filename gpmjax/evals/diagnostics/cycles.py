"""How much of what a model says is cyclic: triads i ≻ j ≻ k ≻ i, and energy that no reward explains.

A triad looks at verdicts, so that a cycle of faint ones counts as much as one of clear ones; energy weighs them by s².
"""

import itertools
from collections.abc import Sequence

import numpy as np

from gpmjax.evals.diagnostics.intervals import mean, ratio
from gpmjax.evals.diagnostics.records import Record, skew_scores
from gpmjax.preference.game import cyclic_share, decompose

BINS = 20


def triads(records: Sequence[Record]) -> dict:
    """Share of cyclic triads over all triads of all groups, those with a tie counted apart.

    Only triads all of whose pairs were asked count; a verdict is the sign of `skew_scores`, a tie a score of exactly 0.

    Returns:
      ``triads`` = ``cyclic`` + ``transitive`` + ``tied``; ``incomplete`` (some pair was not asked), ``groups`` that have
      a triad and ``groups_with_cycle``; ``share`` {"value", "interval"} = cyclic / triads. Among coin tosses it is ¼.
    Source: Kendall and Babington Smith 1940, *On the method of paired comparisons*.

    >>> rock_paper_scissors = {"scores": [[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]}
    >>> found = triads([rock_paper_scissors])
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
        "share": ratio(cyclic, asked),
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
    cyclic, total = _cyclic_shares(told), np.array([np.square(matrix).sum() for matrix in told])
    pooled = ratio(cyclic * total, total)
    counts, edges = np.histogram(cyclic, bins=BINS, range=(0.0, 1.0))
    sizes = np.array([len(matrix) for matrix in told], np.float64)
    return {
        "groups": len(told),
        "incomplete": len(large) - len(complete),
        "zero": len(complete) - len(told),
        "cyclic": pooled,
        "transitive": None if pooled["value"] is None else 1 - pooled["value"],
        "mean_cyclic": mean(cyclic),
        "by_chance": float(np.mean((sizes - 2) / sizes)) if told else None,
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _count(scores: np.ndarray) -> tuple[int, int, int, int]:
    """Triads there are, that were asked, that have no tie, and that are cyclic."""
    size = len(scores)
    every = size * (size - 1) * (size - 2) // 6
    asked = np.isfinite(scores) & ~np.eye(size, dtype=bool)
    # NaN compares as false: what was not asked beats nothing, and is no tie either.
    return every, _triangles(asked), _triangles(np.abs(scores) > 0), round(float(cyclic_share(np.sign(scores))) * every)


def _triangles(related: np.ndarray) -> int:
    """Triads of which every pair is related: a closed walk of three steps meets each six times."""
    adjacent = related.astype(np.float64)
    return round(float(np.sum(adjacent @ adjacent * adjacent))) // 6


def _cyclic_shares(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """[G] ‖C‖²/‖S‖², matrices of one size at a time."""
    shares = np.zeros(len(matrices))
    order = sorted(range(len(matrices)), key=lambda g: len(matrices[g]))
    for _, same in itertools.groupby(order, key=lambda g: len(matrices[g])):
        same = list(same)
        # Squares of small scores would vanish in float32.
        scaled = np.stack([matrices[g] / np.abs(matrices[g]).max() for g in same])
        transitive, cyclic = (np.asarray(part, np.float64) for part in decompose(scaled))
        shares[same] = cyclic / (transitive + cyclic)
    return shares
