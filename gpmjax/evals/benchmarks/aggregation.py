"""From a K×K matrix of scores to a ranking of K responses, for benchmarks that were written for one reward a response.

A rule gives every response a *standing*, and a best of K. With S_ij = r_i − r_j:

    "mean_score"       standing 1/K Σ_j S_ij = r_i − mean(r);   best: the highest
    "copeland"         standing (wins − losses)/(K−1);          best: the highest
    "maximal_lottery"  standing s(i ≻ p*) = (S p*)_i = r_i − max(r), p* the equilibrium;   best: drawn from p*

Under Bradley–Terry the best is the same response under each, and standings of the first and last have the rewards' own
differences: whatever a benchmark computes of rewards, it computes of them.
"""

from typing import Literal, NamedTuple, get_args

import jax
import numpy as np

from gpmjax.preference.game import best_of

Aggregation = Literal["mean_score", "copeland", "maximal_lottery"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)


class Standing(NamedTuple):
    """How K responses stand to each other; a response's standing is its points over ``unit``."""

    best: np.ndarray
    """[K] how likely each is the best; those who share the first place share it equally."""
    points: np.ndarray
    """[K] float64."""
    unit: float
    """Differences are taken before the division, so that equal rewards stay equal to the last bit."""

    @property
    def values(self) -> np.ndarray:
        """[K] points / unit."""
        return self.points / self.unit


def skew_part(scores: np.ndarray) -> np.ndarray:
    """½ (S − Sᵀ) of S [K, K].

    >>> skew_part(np.array([[0.0, 3.0], [1.0, 0.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    return (scores - scores.T) / 2


def standing(scores: np.ndarray, rule: Aggregation) -> Standing:
    """The standing of K responses by their scores [K, K], of which the skew part is taken.

    >>> rewards = np.array([2.0, 2.0, 1.0])
    >>> best, points, unit = standing(rewards[:, None] - rewards[None, :], "mean_score")
    >>> best.tolist(), ((points - points[2]) / unit).tolist()
    ([0.5, 0.5, 0.0], [1.0, 1.0, 0.0])

    Raises:
        ValueError: an unknown rule.
    """
    scores = skew_part(np.asarray(scores, np.float64))
    # In float32 close rewards would tie.
    with jax.enable_x64(True):
        best = np.asarray(best_of(scores, rule), np.float64)
    if rule == "mean_score":
        return Standing(best, scores.sum(axis=1), float(len(scores)))
    if rule == "copeland":
        return Standing(best, np.sign(scores).sum(axis=1), float(max(len(scores) - 1, 1)))
    return Standing(best, scores @ best, 1.0)
