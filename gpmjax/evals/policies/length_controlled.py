"""The win rate that answers of the reference's length would have had: AlpacaEval 2.0's logistic model.

    logit P(policy ≻ reference) = θ + φ tanh(Δ/d) + ψ γ_x,    Δ = len(reference) − len(policy) in characters

with d the standard deviation of Δ and γ_x how difficult instruction x is. The length-controlled win rate is the mean of
σ(θ + ψ γ_x), the length term left out. Source: Dubois et al. 2024, arXiv 2404.04475; tatsu-lab/alpaca_eval,
metrics/glm_winrate.py, "length_controlled_v1", whose signs these are.

Fitted as there, by scikit-learn: L1 penalty (liblinear), no intercept but θ, its strength C the best of ten by
five-fold cross-validation of the log loss; a preference of p is a win with weight p and a loss with weight 1 − p.

Their γ_x, and the *anchors* that they add with a weight of 0.1 (the reference against versions of itself told to be
brief or verbose, which have no θ), come with AlpacaEval's data, df_gamed.csv. Where these are not given the model has
fewer terms, and says so. It was made for 805 instructions: of a few dozen, the penalty that cross-validation chooses
may leave no term at all, which makes 50 % of any policy; and where no answer is about as long as the reference's it
extrapolates.
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
"""liblinear's own, which AlpacaEval leaves as it is. Losses of strong C's differ in the ninth digit, so the choice
among them is AlpacaEval's only if each fit ends where theirs does."""
LEAST = 10
"""Comparisons that a fit needs."""


class Anchors(NamedTuple):
    """Comparisons of the reference with versions of itself that differ in length."""

    length: np.ndarray
    """[M] Δ/d."""
    difficulty: np.ndarray
    """[M]."""
    preference: np.ndarray
    """[M] in [0, 1]."""


class Difficulty(NamedTuple):
    """What AlpacaEval's own data add to the model."""

    source: str
    of_place: dict[int, float]
    """γ by the instruction's place in the benchmark, from 0."""
    anchors: Anchors | None

    def of(self, places: Sequence[int]) -> np.ndarray:
        """[N] γ; ValueError for a place that the file has none for."""
        missing = [place for place in places if place not in self.of_place]
        if missing:
            raise ValueError(
                f"{self.source}: no row of index {missing[0]}; {len(missing)} of {len(places)} instructions have none"
            )
        return np.array([self.of_place[place] for place in places])


def read_difficulty(source: str) -> Difficulty:
    """Columns ``index`` and ``instruction_difficulty``; with ``preference`` and ``std_delta_len``, as AlpacaEval's
    df_gamed.csv has them, every row is an anchor.

    Raises FileNotFoundError, or ValueError naming file, row and field.
    """
    rows = list(read_entries(source))
    column = lambda name, **bounds: np.array([_number(row, name, **bounds) for row in rows])
    difficulty, places = column("instruction_difficulty"), column("index", low=0).astype(int)
    anchors = None
    if "std_delta_len" in rows[0].fields:
        anchors = Anchors(column("std_delta_len"), difficulty, column("preference", low=0.0, high=1.0))
    return Difficulty(source, dict(zip(places.tolist(), difficulty.tolist(), strict=True)), anchors)


def length_controlled(
    preferences: Sequence[float],
    lengths: Sequence[int],
    reference_lengths: Sequence[int],
    difficulty: Sequence[float] | None = None,
    anchors: Anchors | None = None,
) -> dict[str, Any]:
    """The length-controlled win rate of N comparisons.

    Args:
      preferences: [N] P(policy ≻ reference); NaN where there is none: such a row is predicted, but not learned from.
      lengths, reference_lengths: [N] characters of the answers.
      difficulty: [N] γ_x.
      anchors: see `Anchors`; they need ``difficulty``.

    Returns:
      JSON-ready: ``win_rate`` and its ``interval`` in per cent (percentiles over resampled instructions, C as chosen on
      all of them); ``standard_error``, AlpacaEval's ``lc_standard_error``: that of the mean of the predicted
      preferences, which says how much instructions differ in difficulty (0 without that term) and nothing of the fit,
      so the interval is wider; ``coefficients`` by term, ``formula``, ``strength`` (C) and ``anchors`` (how many).

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
        # The length term left out.
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
        raise ValueError("anchors are given without difficulty: their model has that term")


def _design(columns: Sequence[np.ndarray]) -> np.ndarray:
    """[N, 2 or 3]: length, difficulty if there is one, 1."""
    _, lengths, reference_lengths, *difficulty = columns
    delta = reference_lengths - lengths
    spread = delta.std(ddof=1)
    length = np.tanh(delta / spread) if spread else np.zeros_like(delta)
    return np.stack([length, *difficulty, np.ones_like(delta)], axis=1)


def _training(columns: Sequence[np.ndarray], anchors: Anchors | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [M, 2 or 3], preferences [M] and weights [M] of the rows that are learned from, anchors first."""
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
    # liblinear prints a complaint for every fit in which one side has no weight at all. Otherwise nothing is changed:
    # its tolerance depends on how many rows have any weight.
    if np.all(preferences == preferences[0]) and preferences[0] in (0.0, 1.0):
        preferences = np.clip(preferences, SLIVER, 1 - SLIVER)
    shares = np.concatenate([preferences * weights, (1 - preferences) * weights])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.concatenate([features, features]), labels, sample_weight=shares)
    return model.coef_[0]


def _best_strength(features: np.ndarray, preferences: np.ndarray, weights: np.ndarray) -> float:
    """C with the least log loss on rows left out; the smallest of equals."""
    from sklearn.model_selection import GroupKFold

    rows = np.arange(len(features))
    # Twice the rows, in groups of two, as AlpacaEval counts wins and losses: the folds are the same.
    folds = list(GroupKFold(FOLDS).split(np.tile(rows, 2), groups=np.tile(rows, 2)))
    losses = np.zeros(len(STRENGTHS))
    for train, test in folds:
        train, test = np.unique(train % len(rows)), np.unique(test % len(rows))
        seed = np.random.RandomState(SEED)  # scikit-learn's cross-validation draws on from one strength to the next
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
