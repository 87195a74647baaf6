"""How much better one model predicts held-out comparisons than another, in nats, with an interval and a p-value.

The two models are a hybrid, s = (r_i − r_j) + cycles, and Bradley–Terry, s = r_i − r_j. Comparisons of one prompt share
its responses, so the sampling unit of every interval and p-value is the prompt, not the comparison.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import log_expit

REPLICATES = 199
RESAMPLES = 2000
SIGNS = 9999
ALPHA = 0.05

Refit = Callable[[np.random.Generator], tuple[Any, Any, Any]]
"""A function that makes one replicate of the null. It draws labels from the Bradley–Terry model for *all* pairs, those
trained on and those held out (`votes.redraw`). It fits both models to the former as they were fitted to the real
labels. It returns the held-out log-odds of the hybrid, those of Bradley–Terry, and the held-out targets."""


def held_out_gain(
    hybrid,
    bradley_terry,
    target,
    groups,
    *,
    weight=None,
    refit: Refit | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """The held-out log-likelihood ratio of a hybrid to Bradley–Terry, per prompt, and whether chance explains it.

    Args:
      hybrid: [N] the hybrid's log-odds z = s/τ of each comparison, for the side that the target is about.
      bradley_terry: [N] the same of the Bradley–Terry model.
      target: [N] P(that side is preferred) in [0, 1] according to the label; ½ is a tie.
      groups: [N] the prompt of each comparison, a number or a string.
      weight: [N] ≥ 0; None is 1.
      refit: makes one replicate of the null, see `Refit`; it costs two fits.
      replicates: how many replicates ``refit`` makes. Of signs there are 9,999, or all of them where that is fewer.
      seed: of all random numbers.
    Returns:
      JSON-ready values:

        gain             {"value", "interval"}: Σ w [ℓ(z_hybrid) − ℓ(z_bt)] / Σ w in nats per comparison, and its 95 %
                         bootstrap interval over prompts (None for one prompt)
        per_prompt       prompt → the same mean of its comparisons
        total            Σ w [ℓ(z_hybrid) − ℓ(z_bt)] in nats
        prompts_for, prompts_against    how many prompts have a positive and a negative gain
        null, p          the null hypothesis, and the one-sided p-value; None for one prompt without ``refit``
        comparisons, prompts, replicates, seed, text

      ``null`` is "refit" where ``refit`` was given. Labels are drawn from Bradley–Terry plus vote noise, both models
      are fitted to them, and ``total`` is compared. This is the test of cycles.

      ``null`` is "signs" otherwise. Each prompt's gain is then as likely negative as positive, so a small p says that
      the hybrid predicts new prompts better, but not why. A cyclic part fitted to noise loses on held-out labels, so
      needless cycles make p larger; but a hybrid whose *rewards* are better (more shrinkage, say) wins too.
    Raises:
      ValueError: one line naming the argument, the place and the value.

    >>> found = held_out_gain([2.0, 2.0], [0.0, 0.0], [1, 1], ["a", "b"])
    >>> round(found["gain"]["value"], 3), found["null"], found["prompts_for"]
    (0.566, 'signs', 2)
    """
    everywhere, (hybrid, bradley_terry, target, weight, prompt), names = _checked(
        hybrid, bradley_terry, target, groups, weight
    )
    if replicates < 1:
        raise ValueError(f"replicates={replicates}: must be at least 1")
    gain = weight * (_log_likelihood(hybrid, target) - _log_likelihood(bradley_terry, target))
    sums, totals = np.bincount(prompt, gain, len(names)), np.bincount(prompt, weight, len(names))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(names), size=(RESAMPLES, len(names)))
    interval = (
        np.quantile(sums[drawn].sum(1) / totals[drawn].sum(1), [ALPHA / 2, 1 - ALPHA / 2]).tolist()
        if len(names) > 1
        else None
    )
    if refit is not None:
        simulated = np.array([_total(*refit(rng), everywhere) for _ in range(replicates)])
        null, p = "refit", _p_value(simulated, sums.sum())
    else:
        signs = _signs(len(names), rng)
        null, p, replicates = "signs", _p_value(signs @ sums, sums.sum()) if len(names) > 1 else None, len(signs)
    found = {
        "comparisons": len(target),
        "prompts": len(names),
        "gain": {"value": float(sums.sum() / totals.sum()), "interval": interval},
        "per_prompt": {name: float(s / t) for name, s, t in zip(names, sums, totals, strict=True)},
        "prompts_for": int(np.sum(sums > 0)),
        "prompts_against": int(np.sum(sums < 0)),
        "total": float(sums.sum()),
        "null": null,
        "p": p,
        "replicates": replicates,
        "seed": seed,
    }
    return found | {"text": describe_gain(found)}


def describe_gain(found: dict[str, Any]) -> str:
    """The result of `held_out_gain` as one sentence."""
    gain = found["gain"]
    interval = (
        ""
        if gain["interval"] is None
        else f" (95 % over {found['prompts']} prompts: {gain['interval'][0]:+.4f} to {gain['interval'][1]:+.4f})"
    )
    start = f"hybrid over Bradley–Terry, held out: {gain['value']:+.4f} nats a comparison{interval}"
    if found["p"] is None:
        return f"{start}; one prompt and no refit: chance cannot be told"
    verdict = "found" if found["p"] <= ALPHA else "none found"
    if found["null"] == "refit":
        return f"{start}; cycles beyond vote noise: p = {found['p']:.3f}: {verdict}"
    caveat = "no model was refitted: better rewards count as well as cycles"
    return f"{start}; p = {found['p']:.3f} that it is chance between prompts ({caveat})"


def _total(hybrid, bradley_terry, target, weight: np.ndarray) -> float:
    hybrid, bradley_terry, target = (np.asarray(values, np.float64) for values in (hybrid, bradley_terry, target))
    if not hybrid.shape == bradley_terry.shape == target.shape == weight.shape:
        raise ValueError(
            f"refit: returned {hybrid.shape}, {bradley_terry.shape}, {target.shape}; must be {weight.shape} each"
        )
    return float(np.sum(weight * (_log_likelihood(hybrid, target) - _log_likelihood(bradley_terry, target))))


def _signs(count: int, rng: np.random.Generator) -> np.ndarray:
    """Signs ±1, [S, count]: all choices except the one that changes nothing, or 9,999 random ones."""
    if 2**count <= SIGNS:
        return 1.0 - 2.0 * ((np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1)
    return rng.choice([-1.0, 1.0], size=(SIGNS, count))


def _p_value(simulated: np.ndarray, seen: float) -> float:
    return float((1 + np.sum(simulated >= seen - 1e-9 * max(1.0, abs(seen)))) / (1 + len(simulated)))


def _log_likelihood(log_odds: np.ndarray, target: np.ndarray) -> np.ndarray:
    return target * log_expit(log_odds) + (1 - target) * log_expit(-log_odds)


def _checked(hybrid, bradley_terry, target, groups, weight) -> tuple:
    """All weights; the columns of the comparisons whose weight is above 0; and the prompts' names."""
    target = np.asarray(target, np.float64)
    if target.ndim != 1 or not len(target):
        raise ValueError(f"target: shape {target.shape}, must have one axis and at least one comparison")
    weight = np.ones(len(target)) if weight is None else np.asarray(weight, np.float64)
    hybrid, bradley_terry = np.asarray(hybrid, np.float64), np.asarray(bradley_terry, np.float64)
    names = [str(group) for group in groups]
    for name, values in (("hybrid", hybrid), ("bradley_terry", bradley_terry), ("weight", weight), ("groups", names)):
        if np.shape(values) != target.shape:
            raise ValueError(f"{name}: shape {np.shape(values)}, must be {target.shape} as target")
    for name, values, good, allowed in (
        ("hybrid", hybrid, np.isfinite(hybrid), "finite"),
        ("bradley_terry", bradley_terry, np.isfinite(bradley_terry), "finite"),
        ("target", target, (target >= 0) & (target <= 1), "in [0, 1]"),
        ("weight", weight, np.isfinite(weight) & (weight >= 0), "finite and at least 0"),
    ):
        if not good.all():
            place = int(np.argmin(good))
            raise ValueError(f"{name}[{place}]={values[place]}: must be {allowed}")
    counted = np.flatnonzero(weight > 0)
    if not len(counted):
        raise ValueError("weight: all are 0, must have one above")
    order = {name: n for n, name in enumerate(dict.fromkeys(names[n] for n in counted))}
    prompt = np.array([order[names[n]] for n in counted])
    return weight, (hybrid[counted], bradley_terry[counted], target[counted], weight[counted], prompt), list(order)
