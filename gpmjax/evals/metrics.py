"""Figures of merit of scored comparisons. They take numpy arrays and return JSON-ready numbers.

Every function takes N comparisons as arrays: ``score`` [N] (s(chosen ≻ rejected), raw), ``target`` [N]
(P(chosen ≻ rejected): 1 for a plain label, ½ for a tied one, below ½ when the other side won).

Conventions:

* A *tie* is a verdict of the model, |score| ≤ tie_width. It counts as half a win in ``accuracy`` and is also counted
  separately.
* A *tied label* (target ½) has no side to be right about. It is counted separately and left out of ``accuracy`` and
  ``mean_margin``. ``nll``, ``brier`` and ``ece`` are defined for any target and include it.
* The order of a comparison's sides is arbitrary, so calibration is about the side that the model favours: its
  confidence σ(|score|/τ) in [½, 1] against how often that side won.
* Every comparison counts once. Training weights and margins are ignored.
* Intervals are over prompts (`gpmjax.evals.intervals`), since comparisons that share a prompt are not independent.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from gpmjax.evals.intervals import mean_interval, share_interval


class Outcomes(NamedTuple):
    """Counts of agreement between signed predictions and the labels that have a side."""

    wins: int
    ties: int
    losses: int

    @property
    def decided(self) -> int:
        """Number of comparisons whose label has a side."""
        return self.wins + self.ties + self.losses

    @property
    def accuracy(self) -> float | None:
        """(wins + ½ ties) / (wins + ties + losses); None when every label is tied."""
        return (self.wins + 0.5 * self.ties) / self.decided if self.decided else None


def count_outcomes(score, target, *, tie_width: float = 0.0) -> Outcomes:
    """Counts wins, ties and losses of ``score`` [N] against ``target`` [N]; tied labels are left out.

    >>> count_outcomes([2.0, 0.0, -1.0, -3.0, 5.0], [1.0, 1.0, 1.0, 0.2, 0.5])
    Outcomes(wins=2, ties=1, losses=1)
    """
    shares = points(score, target, tie_width=tie_width)
    return Outcomes(*(int(np.sum(shares == share)) for share in (1.0, 0.5, 0.0)))


def points(score, target, *, tie_width: float = 0.0) -> np.ndarray:
    """[N] float64: 1 where ``score`` agrees with ``target``, 0 where not, ½ for a tie; NaN for a tied label.

    >>> points([2.0, 0.0, -1.0, 5.0], [1.0, 1.0, 1.0, 0.5]).tolist()
    [1.0, 0.5, 0.0, nan]
    """
    side = np.sign(np.asarray(target, np.float64) - 0.5)
    score = np.asarray(score, np.float64)
    return np.where(side == 0, np.nan, 0.5 + side * np.sign(score) * (np.abs(score) > tie_width) / 2)


def negative_log_likelihood(score, target, tau: float) -> np.ndarray:
    """−[t log σ(s/τ) + (1−t) log σ(−s/τ)] in nats, [N] float64."""
    logit = np.asarray(score, np.float64) / tau
    target = np.asarray(target, np.float64)
    return -(target * special.log_expit(logit) + (1 - target) * special.log_expit(-logit))


def brier_score(score, target, tau: float) -> np.ndarray:
    """(σ(s/τ) − t)², [N] float64 in [0, 1]; a constant prediction of ½ has ¼. Brier 1950."""
    return (special.expit(np.asarray(score, np.float64) / tau) - np.asarray(target, np.float64)) ** 2


def calibration_table(score, target, tau: float, *, bins: int = 10) -> list[dict]:
    """One line per non-empty bin of confidence σ(|s|/τ), in ``bins`` bins of equal width over [½, 1].

    Each line holds ``low``, ``high``, ``count``, ``confidence`` (mean in the bin) and ``frequency`` (how often the
    favoured side won, which is the mean target of that side, or ½ where the score is exactly 0).

    >>> calibration_table([0.0, 9.0, 9.0], [1.0, 1.0, 0.0], 1.0, bins=5)[0]
    {'low': 0.5, 'high': 0.6, 'count': 1, 'confidence': 0.5, 'frequency': 0.5}
    """
    if bins < 1:
        raise ValueError(f"bins: {bins}, needs at least 1")
    score, target = np.asarray(score, np.float64), np.asarray(target, np.float64)
    confidence = special.expit(np.abs(score) / tau)
    frequency = 0.5 + np.sign(score) * (target - 0.5)
    edges = np.linspace(0.5, 1.0, bins + 1)
    # The last bin includes its upper end, a confidence of exactly 1.
    index = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    table = []
    for b in np.unique(index):
        inside = index == b
        table.append(
            {
                "low": float(edges[b]),
                "high": float(edges[b + 1]),
                "count": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "frequency": float(frequency[inside].mean()),
            }
        )
    return table


def expected_calibration_error(table: Sequence[Mapping]) -> float:
    """ECE = Σ_b (n_b / N) |confidence_b − frequency_b| of a `calibration_table`. Guo et al. 2017, equation 3."""
    total = sum(line["count"] for line in table)
    return float(sum(line["count"] / total * abs(line["confidence"] - line["frequency"]) for line in table))


def accuracy_figures(score, target, prompts, *, tie_width: float = 0.0) -> dict:
    """``accuracy``, ``accuracy_interval``, ``interval_over``, ``wins``, ``ties`` and ``losses`` of N comparisons.

    ``prompts`` [N] are those of `intervals.share_interval`. The first three are None where every label is tied.
    """
    outcomes, share = count_outcomes(score, target, tie_width=tie_width), points(score, target, tie_width=tie_width)
    decided = np.flatnonzero(~np.isnan(share))
    interval = None
    if len(decided):
        interval = share_interval(share[decided], None if prompts is None else [prompts[n] for n in decided])
    return {
        "accuracy": outcomes.accuracy,
        "accuracy_interval": None if interval is None else interval.ends,
        "interval_over": None if interval is None else interval.over,
        **outcomes._asdict(),
    }


def _figures(score, target, tau, lengths, tie_width, table, prompts) -> dict:
    side = np.sign(target - 0.5)
    decided = side != 0
    nll = negative_log_likelihood(score, target, tau)
    spread = mean_interval(nll, prompts)
    return {
        "comparisons": len(score),
        "prompts": None if prompts is None else len(set(prompts)),
        **accuracy_figures(score, target, prompts, tie_width=tie_width),
        "tied_labels": int(np.sum(~decided)),
        "nll": float(nll.mean()),
        "nll_interval": None if spread is None else spread.ends,
        "brier": float(brier_score(score, target, tau).mean()),
        "ece": expected_calibration_error(table),
        "mean_margin": float((side * score)[decided].mean()) if decided.any() else None,
        "longer_wins": {
            measure: accuracy_figures(chosen - rejected, target, prompts)
            for measure, (chosen, rejected) in lengths.items()
        },
    }


def _check(score: np.ndarray, target: np.ndarray, tau: float, others: Mapping[str, np.ndarray | Sequence]) -> None:
    if not tau > 0:
        raise ValueError(f"tau: {tau}, must be above 0")
    if score.ndim != 1 or not len(score):
        raise ValueError(f"score: shape {score.shape}, needs one dimension and at least one comparison")
    for name, values in {"target": target, **others}.items():
        if len(values) != len(score):
            raise ValueError(f"{name}: {len(values)} entries for {len(score)} scores")
    if len(bad := np.flatnonzero(~np.isfinite(score))):
        raise ValueError(f"score: {score[bad[0]]} at comparison {bad[0]} ({len(bad)} not finite), must be finite")
    if len(bad := np.flatnonzero(~((target >= 0) & (target <= 1)))):
        raise ValueError(f"target: {target[bad[0]]} at comparison {bad[0]}, must be in [0, 1]")


def comparison_figures(
    score,
    target,
    tau: float,
    *,
    lengths: Mapping[str, tuple] | None = None,
    tags: Sequence[Mapping] | None = None,
    prompts: Sequence[Hashable] | None = None,
    by: Sequence[str] = ("subset", "group"),
    tie_width: float = 0.0,
    bins: int = 10,
) -> dict:
    """All figures of N scored comparisons, in total and per value of each tag in ``by``.

    Args:
      score: [N] raw scores s(chosen ≻ rejected).
      target: [N] P(chosen ≻ rejected) in [0, 1].
      tau: temperature of the model; probabilities are σ(s/τ).
      lengths: measure → ([N] of the chosen, [N] of the rejected); each gives a "longer wins" baseline under its name.
      tags: one mapping per comparison; a comparison without a tag of ``by`` is in none of that tag's parts.
      prompts: the prompt of each comparison, the unit of intervals; None where prompts are not known.
      by: tags to break down by; tags that no comparison has are left out.
      tie_width: |score| up to which a score counts as a tie.
      bins: equal-width bins of the calibration table and the ECE.

    Returns:
      JSON-ready: ``comparisons, prompts, accuracy, accuracy_interval`` (95 %), ``interval_over`` ("prompts", or
      "comparisons" where there is a single prompt or none is known), ``wins, ties, losses, tied_labels, nll,
      nll_interval, brier, ece, mean_margin, longer_wins, calibration``, the settings ``tau, tie_width, ece_bins``, and
      ``by`` → tag → value → the same figures without the calibration table.

    >>> figures = comparison_figures([1.0, -0.5, 0.0], [1.0, 1.0, 1.0], tau=1.0)
    >>> figures["accuracy"], figures["wins"], figures["ties"], figures["losses"]
    (0.5, 1, 1, 1)
    """
    score, target = np.asarray(score, np.float64), np.asarray(target, np.float64)
    tags = [{}] * len(score) if tags is None else tags
    lengths = {
        measure: tuple(np.asarray(side, np.float64) for side in sides) for measure, sides in (lengths or {}).items()
    }
    sides = {f"lengths[{measure}][{i}]": side for measure, pair in lengths.items() for i, side in enumerate(pair)}
    _check(score, target, tau, {"tags": tags, **sides} | ({} if prompts is None else {"prompts": prompts}))

    def figures(inside: np.ndarray) -> dict:
        table = calibration_table(score[inside], target[inside], tau, bins=bins)
        part = {measure: (a[inside], b[inside]) for measure, (a, b) in lengths.items()}
        within = None if prompts is None else [prompts[n] for n in np.flatnonzero(inside).tolist()]
        return _figures(score[inside], target[inside], tau, part, tie_width, table, within)

    breakdown = {}
    for tag in by:
        values = np.array([None if (value := line.get(tag)) is None else str(value) for line in tags], dtype=object)
        present = sorted({value for value in values if value is not None})
        if present:
            breakdown[tag] = {value: figures(values == value) for value in present}
    return {
        **figures(np.ones(len(score), bool)),
        "calibration": calibration_table(score, target, tau, bins=bins),
        "tau": float(tau),
        "tie_width": float(tie_width),
        "ece_bins": int(bins),
        "by": breakdown,
    }
