"""Means over seeds, and their 95 % intervals.

With two or more seeds the interval is a bootstrap over seeds: the spread that other seeds would bring. With one seed it
is the file's interval over prompts (`gpmjax.evals.intervals`): the spread that other data would bring. The two answer
different questions, so a table says which one it shows. Older files have no interval over prompts; their comparisons
are resampled.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.evals.intervals import bootstrap_interval
from gpmjax.reports.paper_tables.documents import Figure

RESAMPLES = 9999


class Estimate(NamedTuple):
    """A mean accuracy in [0, 1] and its 95 % interval."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int
    basis: str
    """Origin of the interval: a bootstrap over "seeds" or "comparisons"; the file's interval, over "prompts" or of
    unknown unit ("file"); "" without one."""


def estimate(figures: Sequence[Figure]) -> Estimate:
    """The mean over seeds, one figure per seed, with its interval.

    One seed's interval is the file's, if that is over prompts. Otherwise wins, ties and losses are resampled, which is
    the bootstrap over comparisons, since an accuracy depends on these counts alone. The file's interval is taken where
    all outcomes are equal, since every resample would be the same, and where there are none (a weighted score).

    >>> estimate([Figure(0.5), Figure(0.75)])
    Estimate(mean=0.625, interval=(0.5, 0.75), seeds=2, basis='seeds')
    """
    mean = float(np.mean([figure.accuracy for figure in figures]))
    if len(figures) > 1:
        return Estimate(mean, _bootstrap([figure.accuracy for figure in figures]), len(figures), "seeds")
    (figure,) = figures
    if figure.over == "prompts":
        return Estimate(mean, figure.interval, 1, "prompts")
    if figure.outcomes is not None and np.count_nonzero(figure.outcomes) > 1:
        return Estimate(mean, _bootstrap(np.repeat((1.0, 0.5, 0.0), figure.outcomes)), 1, "comparisons")
    return Estimate(mean, figure.interval, 1, "file" if figure.interval else "")


def _bootstrap(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    interval = bootstrap_interval([np.asarray(values, np.float64)], np.mean, resamples=RESAMPLES)
    assert interval is not None  # several values have one
    return interval[0], interval[1]
