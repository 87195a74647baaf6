"""Bootstrap intervals over groups.

Pairs that share a prompt share its responses, so they are not independent and an interval that counts pairs is too
narrow. Here whole groups are drawn, with all of their pairs. Of a handful of groups no method makes a good interval:
these are then too narrow as well.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from gpmjax.evals.metrics import CONFIDENCE_LEVEL

RESAMPLES = 2000
# Resamples held at a time: bounds memory at this many times the number of groups.
BATCH = 200


def over_groups(statistic: Callable[..., np.ndarray], *columns) -> list[float] | None:
    """95 % percentile bootstrap interval of a function of sums over groups.

    Args:
      statistic: takes one sum a column, as arrays of any one shape, and returns an array of that shape, all finite.
      columns: each [G], a number a group.
    Returns:
      [low, high]; None for fewer than two groups. Groups that all say the same leave no width: the bootstrap knows
      nothing of what it has not seen.
    Source: Efron 1979, doi:10.1214/aos/1176344552; the draws are seeded, so a figure is the same every time.

    >>> over_groups(lambda a, b: a / b, [1.0, 1.0], [2.0, 2.0])
    [0.5, 0.5]
    """
    columns = tuple(np.asarray(column, np.float64) for column in columns)
    if len(columns[0]) < 2:
        return None
    result = stats.bootstrap(
        columns,
        lambda *drawn, axis: statistic(*(column.sum(axis) for column in drawn)),
        n_resamples=RESAMPLES,
        batch=BATCH,
        vectorized=True,
        paired=True,
        confidence_level=CONFIDENCE_LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return [float(end) for end in result.confidence_interval]


def ratio(numerator, denominator) -> dict:
    """Σ numerator / Σ denominator over groups, both [G]: {"value", "interval"}; None when the denominators add up to 0.

    Groups whose denominator is 0 have no say and are left out of the draws.

    >>> ratio([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])["value"]
    0.5
    """
    numerator, denominator = (np.asarray(column, np.float64) for column in (numerator, denominator))
    said = denominator > 0
    if not said.any():
        return {"value": None, "interval": None}
    numerator, denominator = numerator[said], denominator[said]
    value = float(numerator.sum() / denominator.sum())
    return {"value": value, "interval": over_groups(np.divide, numerator, denominator)}


def mean(values) -> dict:
    """`ratio` of one number a group to 1: its mean over groups."""
    return ratio(values, np.ones(len(values)))
