"""Position bias: how much a pairwise model's verdict depends on which response it reads first."""

from typing import Any

import numpy as np

from gpmjax.evals.metrics import count_outcomes


def order_figures(score, gap, target) -> dict[str, Any]:
    """Figures of N comparisons that a model judged in both orders.

    Args:
      score: [N] ½(r(chosen, rejected) − r(rejected, chosen)).
      gap: [N] r(chosen, rejected) + r(rejected, chosen); 0 for a model that is not affected by the order.
      target: [N] P(chosen ≻ rejected).

    Returns:
      JSON-ready: ``consistent`` (share of comparisons with the same verdict in both orders), ``first_wins`` (share of
      the 2N verdicts that prefer the first response, a draw counting ½), ``mean_gap`` (in units of the score),
      ``skew_residual`` ‖S + Sᵀ‖/(2‖S‖) over the judged pairs (0: skew-symmetric, 1: symmetric), and
      ``accuracy_one_order``, the mean accuracy of the two orders, to compare with that of the symmetrised score.

    >>> figures = order_figures([1.0, 1.0], [0.0, 6.0], [1.0, 1.0])
    >>> figures["consistent"], figures["first_wins"], figures["accuracy_one_order"]
    (0.5, 0.75, 0.75)
    """
    score, gap = np.asarray(score, np.float64), np.asarray(gap, np.float64)
    first, second = score + gap / 2, score - gap / 2  # the score of each order, in favour of the chosen response
    size = np.sqrt(np.sum(first**2) + np.sum(second**2))
    outcomes = [count_outcomes(one, target) for one in (first, second)]
    accuracies = [one.accuracy for one in outcomes if one.accuracy is not None]
    return {
        "consistent": float(np.mean(np.sign(first) == np.sign(second))),
        "first_wins": float(np.mean(0.5 + 0.5 * np.concatenate([np.sign(first), -np.sign(second)]))),
        "mean_gap": float(np.mean(gap)),
        "skew_residual": float(np.linalg.norm(gap) / (np.sqrt(2) * size)) if size else 0.0,
        "accuracy_one_order": float(np.mean(accuracies)) if len(accuracies) == 2 else None,
    }
