"""Rankings of K responses from a K×K matrix of scores, for benchmarks that expect one reward per response.

A rule gives every response a *standing*, and names the best of K. With S_ij = r_i − r_j:

    "mean_score"       standing 1/K Σ_j S_ij = r_i − mean(r);   best: the highest
    "copeland"         standing (wins − losses)/(K−1);          best: the highest
    "maximal_lottery"  standing s(i ≻ p*) = (S p*)_i = r_i − max(r), p* the equilibrium;   best: drawn from p*

Under Bradley–Terry the best response is the same by all three rules. Standings by the first and third differ by the
same amounts as rewards, so a benchmark can use them as rewards.
"""

from typing import Literal, NamedTuple, get_args

import jax
import numpy as np

from gpmjax.preference.game import best_of

Aggregation = Literal["mean_score", "copeland", "maximal_lottery"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)


class Standing(NamedTuple):
    """The standings of K responses. A response's standing is its ``points`` divided by ``unit``."""

    best: np.ndarray
    """[K] probability of being the best; responses that tie for the first place share it equally."""
    points: np.ndarray
    """[K] float64."""
    unit: float
    """Take differences of points before dividing by it, so that equal rewards stay equal to the last bit."""

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
    """The standings of K responses by the skew part of their scores [K, K].

    >>> rewards = np.array([2.0, 2.0, 1.0])
    >>> best, points, unit = standing(rewards[:, None] - rewards[None, :], "mean_score")
    >>> best.tolist(), ((points - points[2]) / unit).tolist()
    ([0.5, 0.5, 0.0], [1.0, 1.0, 0.0])

    Raises:
        ValueError: an unknown rule.
    """
    scores = skew_part(np.asarray(scores, np.float64))
    # float32 would tie rewards that are close.
    with jax.enable_x64(True):
        best = np.asarray(best_of(scores, rule), np.float64)
    if rule == "mean_score":
        return Standing(best, scores.sum(axis=1), float(len(scores)))
    if rule == "copeland":
        return Standing(best, np.sign(scores).sum(axis=1), float(max(len(scores) - 1, 1)))
    return Standing(best, scores @ best, 1.0)
