"""What a model says of the same pair in both orders; embeddings and rewards cannot disagree with themselves."""

from collections.abc import Sequence

import numpy as np

from gpmjax.evals.diagnostics.intervals import mean, over_groups, ratio
from gpmjax.evals.diagnostics.records import Record, labelled
from gpmjax.evals.judging import record_scores
from gpmjax.evals.metrics import count_outcomes


def order_asymmetry(records: Sequence[Record]) -> dict:
    """How far score matrices are from skew, over the pairs that were asked in both orders.

    Returns:
      ``pairs``, ``groups``; {"value", "interval" over groups} of ``residual`` = ‖S + Sᵀ‖/(‖S‖ + ‖Sᵀ‖), Frobenius norms
      over all of them together, 0 for skew, 1 for a matrix that only knows the order; ``one_verdict``, the share of pairs
      with one verdict in both orders (0 in both is one, 0 in one of them is not); ``first_place``, the mean of
      s_ij + s_ji in units of the score, above 0 when the first place is preferred; ``first_wins``, the share of
      verdicts for the first place, ties half. And ``accuracy`` of the labelled comparisons with the ``chosen`` first,
      with the ``rejected`` first, and in ``both`` orders at once (a tie in one is not right).

    >>> one_sided = {"scores": [[0.0, 1.0], [1.0, 0.0]], "comparisons": [[0, 1, 1.0]]}
    >>> found = order_asymmetry([one_sided])
    >>> found["residual"]["value"], found["one_verdict"]["value"], found["first_place"]["value"], found["accuracy"]["both"]
    (1.0, 0.0, 2.0, 0.0)
    """
    matrices = [record_scores(record) for record in records]
    pairs = [_both_orders(matrix) for matrix in matrices]
    pairs = [(there, back) for there, back in pairs if len(there)]
    count = np.array([len(there) for there, _ in pairs], np.float64)
    total = lambda function: np.array([function(there, back).sum() for there, back in pairs], np.float64)
    return {
        "pairs": int(count.sum()),
        "groups": len(pairs),
        "residual": _residual(total(lambda s, t: (s + t) ** 2), total(lambda s, t: s**2 + t**2)),
        "one_verdict": ratio(total(lambda s, t: np.sign(s) == -np.sign(t)), count),
        "first_place": ratio(total(lambda s, t: s + t), count),
        "first_wins": ratio(total(lambda s, t: (1 + (np.sign(s) + np.sign(t)) / 2) / 2), count),
        "accuracy": _accuracy(records, matrices),
    }


def _both_orders(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.triu_indices(len(matrix), 1)
    there, back = matrix[i, j], matrix[j, i]
    asked = np.isfinite(there) & np.isfinite(back)
    return there[asked], back[asked]


def _residual(symmetric: np.ndarray, both: np.ndarray) -> dict:
    """From Σ (s_ij + s_ji)² and Σ s_ij² + s_ji² over pairs: ‖S + Sᵀ‖² is twice the first, ‖S‖² = ‖Sᵀ‖² the second."""
    told = both > 0
    if not told.any():
        # Zeros are skew.
        return mean(np.zeros(len(both))) if len(both) else {"value": None, "interval": None}
    statistic = lambda a, b: np.sqrt(2 * a / b) / 2
    symmetric, both = symmetric[told], both[told]
    return {"value": float(statistic(symmetric.sum(), both.sum())), "interval": over_groups(statistic, symmetric, both)}


def _accuracy(records: Sequence[Record], matrices: Sequence[np.ndarray]) -> dict:
    known = labelled(records)
    pick = lambda rows, columns: np.array([matrices[r][i, j] for r, i, j in zip(known.record, rows, columns, strict=True)])
    chosen, rejected = pick(known.chosen, known.rejected), -pick(known.rejected, known.chosen)
    asked = np.isfinite(chosen) & np.isfinite(rejected)
    chosen, rejected, target = chosen[asked], rejected[asked], known.target[asked]
    both = count_outcomes(np.minimum(chosen * (side := np.sign(target - 0.5)), rejected * side), np.where(side, 1.0, 0.5))
    return {
        "chosen_first": count_outcomes(chosen, target).accuracy,
        "rejected_first": count_outcomes(rejected, target).accuracy,
        "both": both.wins / both.decided if both.decided else None,
    }
