"""Rank correlation of two quantities of pairs of responses, over the pairs of many groups.

Both quantities are skew, x_ij = −x_ji: a score, or a difference of lengths or of ratings. The order of a pair is
arbitrary, so both orders count. Ranks are then skew as well, their mean is 0, and reordering responses changes nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from gpmjax.evals.intervals import bootstrap_sums


class Ranked(NamedTuple):
    """Two quantities as centred ranks, by group; a pair that lacks one of them has 0 in both."""

    x: list[np.ndarray]
    """G arrays [K, K]."""
    y: list[np.ndarray]
    pairs: int
    """Number of unordered pairs that have both quantities."""

    def sums(self) -> np.ndarray:
        """[3, G]: Σ xy, Σ xx, Σ yy of each group."""
        return np.array([[(x * y).sum(), (x * x).sum(), (y * y).sum()] for x, y in zip(self.x, self.y, strict=True)]).T


def rank_pairs(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> Ranked:
    """Ranks the pairs of all groups together; x and y are G skew matrices [K, K] each, NaN where a value is missing."""
    both = [np.isfinite(a) & np.isfinite(b) & ~np.eye(len(a), dtype=bool) for a, b in zip(x, y, strict=True)]
    left, right = (
        [_placed(ranks, mask) for ranks, mask in zip(_ranks(side, both), both, strict=True)] for side in (x, y)
    )
    return Ranked(left, right, sum(int(mask.sum()) for mask in both) // 2)


def correlate(ranked: Ranked) -> dict:
    """Spearman's ρ: {"spearman", "interval", "pairs", "groups"}; ρ is None when a quantity does not vary.

    The interval resamples groups and keeps the ranks of the whole sample.

    >>> differences = np.subtract.outer(np.arange(3.0), np.arange(3.0))
    >>> correlate(rank_pairs([differences, differences], [differences, -differences]))["spearman"]
    0.0
    """
    sums = ranked.sums() if ranked.x else np.zeros((3, 0))
    told = sums[:, (sums[1] > 0) | (sums[2] > 0)]
    xy, xx, yy = told.sum(1)
    found = {"spearman": None, "interval": None, "pairs": ranked.pairs, "groups": told.shape[1]}
    if xx > 0 and yy > 0:
        found |= {"spearman": float(_cosine(xy, xx, yy)), "interval": bootstrap_sums(_cosine, *told)}
    return found


def _cosine(xy, xx, yy):
    # A resample of few groups may not vary at all; its correlation counts as 0.
    product = np.sqrt(xx * yy)
    return xy / np.where(product > 0, product, 1.0)


def _ranks(values: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    flat = np.concatenate([value[mask] for value, mask in zip(values, masks, strict=True)] or [np.zeros(0)])
    ranks = stats.rankdata(flat) - (len(flat) + 1) / 2
    return np.split(ranks, np.cumsum([mask.sum() for mask in masks])[:-1]) if masks else []


def _placed(ranks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    matrix = np.zeros(mask.shape)
    matrix[mask] = ranks
    return matrix
