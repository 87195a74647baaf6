"""95 % intervals of figures that are more than one share: weighted means over parts, means of several shares."""

from collections.abc import Sequence

import numpy as np

from gpmjax.evals.metrics import CONFIDENCE_LEVEL

DRAWS = 1000


def resampled_means(values: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Column means of rows drawn with replacement; values [n] or [n, m], NaN left out → [draws] or [draws, m].

    Parts that are resampled one by one and then combined give a stratified bootstrap. Efron 1979.
    """
    n = len(values)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a column may be missing from a whole draw
        return weights @ np.nan_to_num(values) / (weights @ ~np.isnan(values))


def percentile_interval(draws: Sequence[float] | np.ndarray, level: float = CONFIDENCE_LEVEL) -> list[float]:
    """[low, high] between which the middle ``level`` of the draws lies.

    >>> percentile_interval(np.arange(101) / 100)
    [0.025..., 0.975]
    """
    tail = 50 * (1 - level)
    return [float(bound) for bound in np.nanpercentile(draws, [tail, 100 - tail])]
