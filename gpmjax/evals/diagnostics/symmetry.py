"""Position bias: a model's verdicts on the same pair in both orders. Embeddings and rewards have none."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpmjax.evals.diagnostics.records import Record, labelled
from gpmjax.evals.intervals import bootstrap_sums
from gpmjax.evals.order import order_figures
from gpmjax.judges.judge import record_scores


def order_asymmetry(records: Sequence[Record]) -> dict[str, Any]:
    """`order.order_figures` over all pairs that were judged in both orders, and over the labelled ones.

    A pairwise model's verdicts are taken before symmetrising (``asked``).

    Returns:
      ``pairs``, ``groups``; {"value", "interval" over groups} of ``skew_residual`` ‖S + Sᵀ‖/(‖S‖ + ‖Sᵀ‖),
      ``consistent``, ``first_wins`` and ``mean_gap``, None without pairs; and ``labelled``, None or ``comparisons``,
      the same four as numbers, ``accuracy_one_order`` and ``accuracy_both_orders``, for which both orders must be
      right.

    >>> one_sided = {"scores": [[0.0, 1.0], [1.0, 0.0]], "comparisons": [[0, 1, 1.0]]}
    >>> found = order_asymmetry([one_sided])
    >>> found["consistent"]["value"], found["mean_gap"]["value"], found["labelled"]["accuracy_one_order"]
    (0.0, 2.0, 0.5)
    """
    matrices = [record_scores({"scores": record.get("asked", record["scores"])}) for record in records]
    pairs = [both for matrix in matrices if len((both := _both_orders(matrix))[0])]
    return {
        "pairs": sum(len(there) for there, _ in pairs),
        "groups": len(pairs),
        **_over_pairs(pairs),
        "labelled": _over_labelled(records, matrices),
    }


def _both_orders(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s_ij and s_ji, each [n], of the pairs i < j that have both."""
    i, j = np.triu_indices(len(matrix), 1)
    there, back = matrix[i, j], matrix[j, i]
    asked = np.isfinite(there) & np.isfinite(back)
    return there[asked], back[asked]


def _over_pairs(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict | None]:
    def sums(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        return np.array([function(there, back).sum() for there, back in pairs])

    count = sums(lambda s, t: np.ones_like(s))
    # Each figure is a function of sums over groups, which the bootstrap draws. Its value is that of `order_figures`.
    columns = {
        "skew_residual": (sums(lambda s, t: (s + t) ** 2), sums(lambda s, t: s**2 + t**2)),
        "consistent": (sums(lambda s, t: np.sign(s) == -np.sign(t)), count),
        "first_wins": (sums(lambda s, t: 0.5 + 0.25 * (np.sign(s) + np.sign(t))), count),
        "mean_gap": (sums(lambda s, t: s + t), count),
    }
    if not pairs:
        return dict.fromkeys(columns)
    there, back = (np.concatenate(side) for side in zip(*pairs, strict=True))
    values = order_figures((there - back) / 2, there + back, np.ones(len(there)))
    figures = dict.fromkeys(columns, np.divide) | {"skew_residual": _residual}
    return {
        name: {"value": values[name], "interval": bootstrap_sums(figures[name], *columns[name])} for name in columns
    }


def _residual(gap: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.sqrt(gap / np.where(size > 0, 2 * size, 1.0))


def _over_labelled(records: Sequence[Record], matrices: Sequence[np.ndarray]) -> dict[str, Any] | None:
    known = labelled(records)
    sides = list(zip(known.record, known.chosen, known.rejected, strict=True))
    there = np.array([matrices[record][chosen, rejected] for record, chosen, rejected in sides])
    back = np.array([matrices[record][rejected, chosen] for record, chosen, rejected in sides])
    asked = np.isfinite(there) & np.isfinite(back)
    if not asked.any():
        return None
    there, back, target = there[asked], back[asked], known.target[asked]
    side = np.sign(target - 0.5)
    right = (there * side > 0) & (back * side < 0)
    return {
        "comparisons": len(target),
        **order_figures((there - back) / 2, there + back, target),
        "accuracy_both_orders": float(right[side != 0].mean()) if side.any() else None,
    }
