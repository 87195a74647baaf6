"""RewardBench 2's Ties: questions with several right answers, which a good judge scores above the wrong ones and alike.

Each question makes two prompts: ``ref`` with one right answer, and ``tied`` with several. A prompt's gap and spread are
differences of its answers' standings (rewards, in the authors' terms):

    gap     the worst right one − the best wrong one
    spread  the best right one − the worst right one

    score = 0.3 · share of tied prompts with gap > 0
          + 0.3 · share of ref prompts with gap > 0
          + 0.2 · share of questions with gap_tied > spread
          + 0.2 · share of questions with min(gap_ref, gap_tied) > spread
          + 0.01 · mean of tanh(min(gap_ref, gap_tied) / spread − 1), where 0/0 counts 0

Source: Malik et al. 2025, arXiv 2506.01937, and its program, https://github.com/allenai/reward-bench.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpmjax.evals.benchmarks.aggregation import Standing
from gpmjax.evals.intervals import bootstrap_means, percentile_interval

WEIGHTS = {"tied_accuracy": 0.3, "ref_accuracy": 0.3, "preferred": 0.2, "preferred_hard": 0.2, "margin": 0.01}
KINDS = ("ref", "tied")


class Margins(NamedTuple):
    """Gap and spread of one prompt."""

    kind: str
    """ "ref" or "tied"."""
    question: int
    gap: float
    spread: float


def margins(kind: str, question: int, ranking: Standing, right: int) -> Margins:
    """Gap and spread of a prompt whose first ``right`` answers are right."""
    points, unit = ranking.points, ranking.unit
    worst, best = points[:right].min(), points[:right].max()
    return Margins(kind, question, float((worst - points[right:].max()) / unit), float((best - worst) / unit))


def ties_figures(prompts: Sequence[Margins], rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    """Score and terms of all prompts, and the scores of resampled questions [draws] for intervals.

    A term without a prompt is None, and so is a score that lacks a term.
    """
    terms = _terms(prompts)
    means = {name: None if np.isnan(column).all() else float(np.nanmean(column)) for name, column in terms.items()}
    weighed = [WEIGHTS[name] * mean for name, mean in means.items() if mean is not None]
    whole = len(weighed) == len(means)
    draws = bootstrap_means(np.stack(list(terms.values()), axis=1), rng) @ np.array([WEIGHTS[name] for name in terms])
    figures = {
        "rows": len(prompts),
        "score": sum(weighed) if whole else None,
        "interval": percentile_interval(draws) if whole else None,
        "terms": means,
    }
    return figures, draws


def _terms(prompts: Iterable[Margins]) -> dict[str, np.ndarray]:
    """Term → one value per question, NaN where it has none."""
    by_kind = {kind: {p.question: p for p in prompts if p.kind == kind} for kind in KINDS}
    questions = sorted(by_kind["ref"].keys() | by_kind["tied"].keys())

    def column(kind: str, name: str) -> np.ndarray:
        return np.array([getattr(by_kind[kind][q], name) if q in by_kind[kind] else np.nan for q in questions])

    gap_ref, gap_tied, spread = column("ref", "gap"), column("tied", "gap"), column("tied", "spread")
    paired = ~np.isnan(gap_ref) & ~np.isnan(gap_tied)
    least = np.minimum(gap_ref, gap_tied)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.nan_to_num(np.tanh(least / spread - 1), nan=0.0)
    terms = {
        "tied_accuracy": (~np.isnan(gap_tied), gap_tied > 0),
        "ref_accuracy": (~np.isnan(gap_ref), gap_ref > 0),
        "preferred": (paired, gap_tied > spread),
        "preferred_hard": (paired, least > spread),
        "margin": (paired, margin),
    }
    return {name: np.where(known, value.astype(np.float64), np.nan) for name, (known, value) in terms.items()}
