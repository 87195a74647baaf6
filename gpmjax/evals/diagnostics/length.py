"""Length bias: whether a model prefers longer responses, and whether it does so more than the labels."""

from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from gpmjax.evals.diagnostics.correlation import correlate, rank_pairs
from gpmjax.evals.diagnostics.records import Labelled, Record, labelled, pair_differences, prompts_of, skew_scores
from gpmjax.evals.intervals import CONFIDENCE_LEVEL
from gpmjax.evals.metrics import accuracy_figures

UNITS = ("tokens", "characters")
# Standard deviation of the normal prior on both coefficients. Without a prior, the likelihood of a model that always
# follows labels or lengths has no maximum. Odds of e^5 per standard deviation of length are as good as "always".
PRIOR = 5.0


def length_bias(records: Sequence[Record]) -> dict:
    """Figures for each unit of length, ``tokens`` (as the model reads them, EOS counted) and ``characters``.

    Returns: unit →
      ``correlation``: Spearman's ρ of s(i ≻ j) with len_i − len_j over all judged pairs, see `correlation.correlate`;
      ``longer_right`` and ``shorter_right``: accuracy on the comparisons whose preferred side is the longer, or the
        shorter: {"comparisons", "accuracy" (ties half), "interval" (over prompts)}; ``equal``: number of comparisons of
        equal length; ``regression``: see `regress`; None without labelled comparisons or where all lengths are equal.

    >>> record = {"scores": [[0.0, 2.0], [-2.0, 0.0]], "comparisons": [[1, 0, 1.0]]}
    >>> found = length_bias([record | {"tokens": [9, 4], "characters": [30, 12]}] * 2)["tokens"]
    >>> found["correlation"]["spearman"], found["shorter_right"]["accuracy"], found["longer_right"]["comparisons"]
    (1.0, 0.0, 0)
    """
    scores, known = [skew_scores(record) for record in records], labelled(records)
    prompts = prompts_of(records, known)
    found = {}
    for unit in UNITS:
        lengths = [pair_differences(record[unit]) for record in records]
        chosen, rejected = known.of_responses(records, unit)
        difference, side = chosen - rejected, np.sign(known.target - 0.5)
        found[unit] = {
            "correlation": correlate(rank_pairs(scores, lengths)),
            "longer_right": _accuracy(known, prompts, difference * side > 0),
            "shorter_right": _accuracy(known, prompts, difference * side < 0),
            "equal": int(np.sum((difference == 0) & (side != 0))),
            "regression": regress(known.score, side, difference, known.record),
        }
    return found


def regress(score: np.ndarray, side: np.ndarray, difference: np.ndarray, cluster: np.ndarray) -> dict | None:
    """Logistic regression of verdicts on length and label: P(verdict for i) = σ(β_length Δ/σ_Δ + β_label side).

    There is no constant, since the order of a pair is arbitrary. A tie is half a verdict for each side.

    Args:
      score: [N] s(i ≻ j), of which the sign is used.
      side: [N] the label: 1 for i, −1 for j, 0 for a tie.
      difference: [N] len_i − len_j.
      cluster: [N] the group of each pair.
    Returns:
      {"length", "label": {"coefficient" (log-odds; of length per σ_Δ), "interval" (95 %, robust to pairs that share a
      group; None for one group)}, "scale" (σ_Δ, the root mean square difference), "comparisons", "prior" (standard
      deviation of the normal prior that keeps coefficients finite)}.
    Source of the interval: Liang and Zeger 1986, doi:10.1093/biomet/73.1.13.

    >>> found = regress(np.array([1.0, -1, 1, -1]), np.ones(4), np.array([5.0, -5, 3, -2]), np.arange(4))
    >>> found["length"]["coefficient"] > 1 > abs(found["label"]["coefficient"])
    True
    """
    scale = float(np.sqrt(np.mean(difference**2))) if len(difference) else 0.0
    if not scale:
        return None
    inputs, verdict = np.stack([difference / scale, side], axis=1), 0.5 + np.sign(score) / 2

    def loss(beta):
        logit = inputs @ beta
        return -np.sum(verdict * special.log_expit(logit) + (1 - verdict) * special.log_expit(-logit)) + _penalty(beta)

    def residual(beta):
        return special.expit(inputs @ beta) - verdict

    def slope(beta):
        return inputs.T @ residual(beta) + beta / PRIOR**2

    def curvature(beta):
        p = special.expit(inputs @ beta)
        return (inputs * (p * (1 - p))[:, None]).T @ inputs + np.eye(2) / PRIOR**2

    beta = optimize.minimize(loss, np.zeros(2), jac=slope, hess=curvature, method="trust-exact").x
    _, place = np.unique(cluster, return_inverse=True)
    moments = np.zeros((place.max() + 1, 2))
    np.add.at(moments, place, inputs * residual(beta)[:, None])
    bread = np.linalg.inv(curvature(beta))
    half = special.ndtri(0.5 + CONFIDENCE_LEVEL / 2) * np.sqrt(np.diag(bread @ moments.T @ moments @ bread))
    # A single group's moments add up to 0 at the optimum, so its interval would have width 0.
    ends = [[float(b - h), float(b + h)] if len(moments) > 1 else None for b, h in zip(beta, half, strict=True)]
    length, label = ({"coefficient": float(b), "interval": end} for b, end in zip(beta, ends, strict=True))
    return {
        "length": length,
        "label": label,
        "scale": scale,
        "comparisons": len(score),
        "prior": PRIOR,
    }


def _penalty(beta: np.ndarray) -> float:
    return float(beta @ beta) / (2 * PRIOR**2)


def _accuracy(known: Labelled, prompts: Sequence[str], inside: np.ndarray) -> dict:
    places = np.flatnonzero(inside)
    found = accuracy_figures(known.score[places], known.target[places], [prompts[n] for n in places.tolist()])
    return {
        "comparisons": found["wins"] + found["ties"] + found["losses"],
        "accuracy": found["accuracy"],
        "interval": found["accuracy_interval"],
    }
