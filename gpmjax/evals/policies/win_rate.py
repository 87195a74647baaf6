"""Win rate of a policy's answers against the reference's, as AlpacaEval counts it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from gpmjax.evals.intervals import fraction_interval, mean_figures

# A preference this close to ½ is a tie, since a float32 judge rounds.
TIE = 1e-5


def preference(scores: np.ndarray, tau: float) -> float:
    """P(policy ≻ reference) in [0, 1], from a judge's scores [2, 2] of (policy, reference), as the mean of both orders.

    It is ½ [σ(s₀₁/τ) + 1 − σ(s₁₀/τ)], which is σ(s₀₁/τ) for a skew-symmetric judge. It is NaN when either order has no
    verdict, since one order alone would have position bias.

    >>> preference(np.array([[0.0, 40.0], [40.0, 0.0]]), 1.0)  # a judge that always prefers the first response
    0.5
    """
    forth, back = special.expit(np.asarray([scores[0, 1], scores[1, 0]], np.float64) / tau)
    return float(0.5 + (forth - back) / 2)


def win_rate(preferences: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Figures of N preferences in [0, 1], JSON-ready.

    The win rate is the mean preference. The discrete win rate counts a preference of more than ½ as a win, and a tie as
    one half.

    Returns:
      ``win_rate``, ``standard_error`` (None for N = 1), ``interval`` (`intervals.fraction_interval`) and
      ``discrete_win_rate``, all in per cent; ``wins``, ``ties``, ``losses`` and ``comparisons``.
    Raises:
      ValueError: there is no preference, or one outside [0, 1].

    >>> figures = win_rate([1.0, 0.75, 0.5, 0.0])
    >>> figures["win_rate"], figures["discrete_win_rate"], figures["wins"], figures["ties"]
    (56.25, 62.5, 2, 1)
    """
    shares = np.asarray(preferences, np.float64)
    if not len(shares) or not np.all((shares >= 0) & (shares <= 1)):
        raise ValueError(f"preferences={shares.tolist()[:8]}: must be numbers in [0, 1], at least one")
    ties = np.abs(shares - 0.5) <= TIE
    wins = (shares > 0.5) & ~ties
    figures = mean_figures(100 * shares)
    return {
        "win_rate": figures["mean"],
        "standard_error": figures["standard_error"],
        "interval": [100 * edge for edge in fraction_interval(shares)],
        "discrete_win_rate": float(100 * (wins + 0.5 * ties).mean()),
        "wins": int(wins.sum()),
        "ties": int(ties.sum()),
        "losses": int(len(shares) - wins.sum() - ties.sum()),
        "comparisons": len(shares),
    }
