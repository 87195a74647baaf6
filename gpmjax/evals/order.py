"""How much the verdict of a pairwise model depends on which response it reads first."""

from typing import Any

import numpy as np

from gpmjax.evals.metrics import count_outcomes


def order_figures(score, gap, target) -> dict[str, Any]:
    """Figures of N comparisons asked about in both orders.

    Args:
      score: [N] ½(r(chosen, rejected) − r(rejected, chosen)).
      gap: [N] r(chosen, rejected) + r(rejected, chosen); 0 for a model that order does not sway.
      target: [N] P(chosen ≻ rejected).

    Returns:
      JSON-ready: ``consistent`` (share of comparisons with one verdict in both orders), ``first_wins`` (share of the 2N questions
      whose first response was preferred, a draw counting ½), ``mean_gap`` (in units of the score), ``skew_residual``
      ‖S + Sᵀ‖/(2‖S‖) over what was asked (0: skew-symmetric, 1: symmetric), and ``accuracy_one_order`` (of a random order:
      the mean of both), to be held against the accuracy of the symmetrised score.

    >>> figures = order_figures([1.0, 1.0], [0.0, 6.0], [1.0, 1.0])
    >>> figures["consistent"], figures["first_wins"], figures["accuracy_one_order"]
    (0.5, 0.75, 0.75)
    """
    score, gap = np.asarray(score, np.float64), np.asarray(gap, np.float64)
    first, second = score + gap / 2, score - gap / 2  # as the two orders have it, both in favour of the chosen response
    size = np.sqrt(np.sum(first**2) + np.sum(second**2))
    accuracies = [count_outcomes(one, target).accuracy for one in (first, second)]
    return {
        "consistent": float(np.mean(np.sign(first) == np.sign(second))),
        "first_wins": float(np.mean(0.5 + 0.5 * np.concatenate([np.sign(first), -np.sign(second)]))),
        "mean_gap": float(np.mean(gap)),
        "skew_residual": float(np.linalg.norm(gap) / (np.sqrt(2) * size)) if size else 0.0,
        "accuracy_one_order": None if None in accuracies else float(np.mean(accuracies)),
    }
