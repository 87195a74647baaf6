"""How sure a mean, a win rate or anything else of N independent instructions is; 95 % intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

from gpmjax.evals.metrics import CONFIDENCE_LEVEL, wilson_interval

RESAMPLES = 1000


def mean_figures(values: Sequence[float]) -> dict[str, Any]:
    """``mean``, its ``standard_error`` s/√N and normal ``interval``; both None for a single value.

    >>> mean_figures([1.0, 3.0])["standard_error"]
    1.0
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean, "standard_error": None, "interval": None}
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    half = float(special.ndtri(0.5 + CONFIDENCE_LEVEL / 2)) * error
    return {"mean": mean, "standard_error": error, "interval": [mean - half, mean + half]}


def share_interval(shares: Sequence[float]) -> tuple[float, float]:
    """Wilson's interval for the mean of N values in [0, 1], of which fractions are not coin tosses.

    A proportion p of N yes-or-no answers varies by p(1−p); fractions of the same mean vary by s² ≤ p(1−p), so they are
    worth N p(1−p)/s² answers (the effective sample size of Kish 1965, "Survey Sampling", §8.2). On zeros and ones it is
    Wilson's interval, which does not collapse when all are won.

    >>> [round(edge, 3) for edge in share_interval([1.0] * 8 + [0.0] * 2)]  # 8 of 10
    [0.49, 0.943]
    >>> share_interval([0.5] * 10)
    (0.5, 0.5)
    """
    shares = np.asarray(shares, np.float64)
    mean, variance = float(shares.mean()), float(shares.var())
    if variance == 0 and 0 < mean < 1:
        return mean, mean
    worth = len(shares) * (mean * (1 - mean) / variance if variance else 1.0)
    return wilson_interval(mean * worth, worth)


def bootstrap_interval(
    columns: Sequence[np.ndarray], statistic: Callable[..., float], seed: int = 0
) -> tuple[float, float] | None:
    """Percentile interval of ``statistic(*columns)`` over 1,000 draws of N rows with replacement; None for a single row."""
    from scipy import stats  # a second to import

    if len(columns[0]) < 2:
        return None
    found = stats.bootstrap(
        tuple(columns), statistic, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile",
        confidence_level=CONFIDENCE_LEVEL, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
