"""Means over seeds, and bootstrap intervals (scipy.stats.bootstrap, percentile method, 95 %).

Over seeds where there are two or more: the spread that another seed would bring. Over prompts where there is one, as the file has it
(`gpmjax.evals.intervals`): the spread that other data would bring. The two answer different questions; a table says which one it
shows. Files from before intervals were over prompts are resampled over comparisons.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpmjax.evals.intervals import bootstrap_interval
from gpmjax.reports.source_tables.documents import Figure

RESAMPLES = 9999


class Estimate(NamedTuple):
    """A mean accuracy in [0, 1], and how sure it is."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int
    basis: str
    """Where the interval is from: a bootstrap over "seeds" or "comparisons"; the file, over "prompts" or as it was ("file"); ""
    without one."""


def estimate(figures: Sequence[Figure]) -> Estimate:
    """The mean over seeds, one figure each, with its interval.

    One seed's interval is the file's, if that is over prompts. Otherwise it comes from resampling wins, ties and losses; that is
    the bootstrap over comparisons, since an accuracy depends on nothing else of them. Where these are all alike a resample says
    nothing new, and where there are none (a weighted score) there is nothing to resample: then it is the interval that the file has.

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


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    low, high = bootstrap_interval([np.asarray(values, np.float64)], np.mean, resamples=RESAMPLES)
    return low, high
