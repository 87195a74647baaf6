"""The win rate that answers of the reference's length would have, by AlpacaEval 2.0's logistic model.

    logit P(policy ≻ reference) = θ + φ tanh(Δ/d) + ψ γ_x,    Δ = len(reference) − len(policy) in characters

with d the standard deviation of Δ and γ_x the difficulty of instruction x. The length-controlled win rate is the mean
of σ(θ + ψ γ_x), without the length term. Source: Dubois et al. 2024, arXiv 2404.04475; tatsu-lab/alpaca_eval,
metrics/glm_winrate.py, "length_controlled_v1", whose signs these are.

The fit is theirs, by scikit-learn: an L1 penalty (liblinear), no intercept but θ, and the strength C that is the best
of ten by five-fold cross-validation of the log loss. A preference of p is a win with weight p and a loss with weight 1
− p.

Their γ_x are in AlpacaEval's data, df_gamed.csv, and so are *anchors*: comparisons of the reference with versions of
itself that were told to be brief or verbose. Anchors have no θ and a weight of 0.1. Without this file the model has
fewer terms, which ``formula`` shows.

The model was made for 805 instructions. With a few dozen, cross-validation may choose a penalty that removes every
term; every policy then has 50 %. Where no answer is about as long as the reference's, the model extrapolates.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from gpmjax.data.fields import FieldError, as_number
from gpmjax.data.sources import Entry, read_entries
from gpmjax.evals.intervals import RESAMPLES, bootstrap_interval

ANCHOR_WEIGHT = 0.2 / 2
STRENGTHS = np.logspace(-4, 4, 10)
FOLDS = 5
SEED = 123
SLIVER = 1e-9
MOST_STEPS = 100
"""liblinear's default, which AlpacaEval uses. Losses of large C's differ in the ninth digit, so C is AlpacaEval's only
if each fit ends at the same step as theirs."""
LEAST = 10
"""Number of comparisons that a fit needs."""


class Anchors(NamedTuple):
    """Comparisons of the reference with versions of itself that differ in length."""

    length: np.ndarray
    """[M] Δ/d."""
    difficulty: np.ndarray
    """[M] γ_x."""
    preference: np.ndarray
    """[M] in [0, 1]."""


class Difficulty(NamedTuple):
    """AlpacaEval's data of the instructions: difficulties and anchors."""

    source: str
    of_place: dict[int, float]
    """γ by the instruction's place in the benchmark, from 0."""
    anchors: Anchors | None

    def of(self, places: Sequence[int]) -> np.ndarray:
        """[N] γ of these places. Raises ValueError for a place that is not in the file."""
        missing = [place for place in places if place not in self.of_place]
        if missing:
            raise ValueError(
                f"{self.source}: no row of index {missing[0]}; {len(missing)} of {len(places)} instructions have none"
            )
        return np.array([self.of_place[place] for place in places])


def read_difficulty(source: str) -> Difficulty:
    """Reads a file with the columns ``index`` and ``instruction_difficulty``.

    With ``preference`` and ``std_delta_len``, as in AlpacaEval's df_gamed.csv, every row is an anchor.

    Raises FileNotFoundError, or ValueError naming the file, row and field.
    """
    rows = list(read_entries(source))

    def column(name: str, **bounds: float) -> np.ndarray:
        return np.array([_number(row, name, **bounds) for row in rows])

    difficulty, places = column("instruction_difficulty"), column("index", low=0).astype(int)
    anchors = None
    if "std_delta_len" in rows[0].fields:
        anchors = Anchors(column("std_delta_len"), difficulty, column("preference", low=0.0, high=1.0))
    return Difficulty(source, dict(zip(places.tolist(), difficulty.tolist(), strict=True)), anchors)


def length_controlled(
    preferences: Sequence[float] | np.ndarray,
    lengths: Sequence[int],
    reference_lengths: Sequence[int],
    difficulty: Sequence[float] | np.ndarray | None = None,
    anchors: Anchors | None = None,
) -> dict[str, Any]:
    """The length-controlled win rate of N comparisons.

    Args:
      preferences: [N] P(policy ≻ reference); a row with NaN is predicted but not used in the fit.
      lengths, reference_lengths: [N] characters of the answers.
      difficulty: [N] γ_x.
      anchors: see `Anchors`; they need ``difficulty``.

    Returns:
      JSON-ready: ``win_rate`` and its ``interval`` in per cent (percentiles over resampled instructions, with the C
      chosen on all of them); ``standard_error``, AlpacaEval's ``lc_standard_error``, which is that of the mean of the
      predicted preferences: it measures differences in difficulty (0 without that term), not the uncertainty of the
      fit, so the interval is wider; ``coefficients`` by term, ``formula``, ``strength`` (C) and ``anchors`` (their
      number).

    Raises:
      ValueError: fewer than ten preferences, columns of unequal length, a preference outside [0, 1], anchors without
        difficulty.
    """
    columns = [np.asarray(c, np.float64) for c in (preferences, lengths, reference_lengths)]
    columns += [] if difficulty is None else [np.asarray(difficulty, np.float64)]
    _check(columns, anchors)
    terms = ("length", "model") if difficulty is None else ("length", "difficulty", "model")
    strength = _best_strength(*_training(columns, anchors))

    def estimate(*drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coefficients = _fit(*_training(drawn, anchors), strength)
        # Without the length term.
        return 100 * special.expit(_design(drawn)[:, 1:] @ coefficients[1:]), coefficients

    predicted, coefficients = estimate(*columns)
    return {
        "win_rate": float(predicted.mean()),
        "standard_error": float(predicted.std(ddof=1) / np.sqrt(len(predicted))),
        "interval": bootstrap_interval(columns, lambda *drawn: float(estimate(*drawn)[0].mean()), vectorized=False),
        "coefficients": dict(zip(terms, coefficients.tolist(), strict=True)),
        "formula": "tanh(length difference)"
        + (" + instruction difficulty" if difficulty is not None else "")
        + " + model",
        "strength": strength,
        "anchors": 0 if anchors is None else len(anchors.length),
        "resamples": RESAMPLES,
    }


def _check(columns: Sequence[np.ndarray], anchors: Anchors | None) -> None:
    preferences = columns[0][~np.isnan(columns[0])]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"columns of {[len(column) for column in columns]} rows: must be equally long")
    if len(preferences) < LEAST:
        raise ValueError(f"{len(preferences)} preferences: the length-controlled model needs at least {LEAST}")
    if not np.all((preferences >= 0) & (preferences <= 1)):
        raise ValueError("preferences: must be in [0, 1], or NaN")
    if anchors is not None and len(columns) < 4:
        raise ValueError("anchors need difficulty, which is a term of their model")


def _design(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Features [N, 2 or 3]: length, difficulty if it is given, 1."""
    _, lengths, reference_lengths, *difficulty = columns
    delta = reference_lengths - lengths
    spread = delta.std(ddof=1)
    length = np.tanh(delta / spread) if spread else np.zeros_like(delta)
    return np.stack([length, *difficulty, np.ones_like(delta)], axis=1)


def _training(columns: Sequence[np.ndarray], anchors: Anchors | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [M, 2 or 3], preferences [M] and weights [M] of the rows of the fit, anchors first."""
    known = ~np.isnan(columns[0])
    features, preferences, weights = _design(columns)[known], columns[0][known], np.ones(known.sum())
    if anchors is None:
        return features, preferences, weights
    added = np.stack([np.tanh(anchors.length), anchors.difficulty, np.zeros_like(anchors.length)], axis=1)
    return (
        np.concatenate([added, features]),
        np.concatenate([anchors.preference, preferences]),
        np.concatenate([np.full(len(added), ANCHOR_WEIGHT), weights]),
    )


def _fit(
    features: np.ndarray,
    preferences: np.ndarray,
    weights: np.ndarray,
    strength: float,
    seed: int | np.random.RandomState = SEED,
) -> np.ndarray:
    """Coefficients [2 or 3]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # a second to import

    model = LogisticRegression(
        C=strength, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=seed, max_iter=MOST_STEPS
    )
    labels = np.repeat([1, 0], len(features))
    # liblinear prints a warning for every fit in which one side has no weight at all, so that side gets a sliver. Other
    # fits are not changed, because liblinear's tolerance depends on how many rows have a weight.
    if np.all(preferences == preferences[0]) and preferences[0] in (0.0, 1.0):
        preferences = np.clip(preferences, SLIVER, 1 - SLIVER)
    shares = np.concatenate([preferences * weights, (1 - preferences) * weights])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.concatenate([features, features]), labels, sample_weight=shares)
    return model.coef_[0]


def _best_strength(features: np.ndarray, preferences: np.ndarray, weights: np.ndarray) -> float:
    """The C with the least log loss on held-out rows; the smallest of equals."""
    from sklearn.model_selection import GroupKFold

    rows = np.arange(len(features))
    # Each row twice, in groups of two, like AlpacaEval's wins and losses, which makes the folds the same as theirs.
    folds = list(GroupKFold(FOLDS).split(np.tile(rows, 2), groups=np.tile(rows, 2)))
    losses = np.zeros(len(STRENGTHS))
    for train, test in folds:
        train, test = np.unique(train % len(rows)), np.unique(test % len(rows))
        seed = np.random.RandomState(SEED)  # one stream for all strengths, as in scikit-learn's cross-validation
        for n, strength in enumerate(STRENGTHS):
            logits = features[test] @ _fit(features[train], preferences[train], weights[train], strength, seed)
            loss = -(
                preferences[test] * special.log_expit(logits) + (1 - preferences[test]) * special.log_expit(-logits)
            )
            losses[n] += np.mean(weights[test] * loss)
    return float(STRENGTHS[np.argmin(losses)])


def _number(row: Entry, name: str, **bounds: float) -> float:
    if row.fields.get(name) is None:
        raise FieldError(row.where, name, f"missing; there is {', '.join(row.fields)}")
    return as_number(row.fields[name], name, row.where, **bounds)
