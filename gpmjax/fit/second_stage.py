"""Fits a hybrid whose backbone trains in two stages: backbone and reward first, then the cyclic part on their features.

Stage one is Bradley–Terry (γ = 0), fitted on all but a held-out share of the prompts. Stage two freezes backbone and
reward, fits the cyclic part on the features of the training prompts at every price ρ, and chooses ρ, γ and τ by the
held-out loss. γ = 0 is among the choices and is taken unless another is better by more than 1.645 standard errors over
prompts; the model is then stage one's Bradley–Terry model. A joint fit lacks this protection: noise that the cyclic
part explains would move the backbone too.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from scipy import special

from gpmjax.arrays import Array, FeatureBatch
from gpmjax.config import LossConfig, OptimizerConfig
from gpmjax.data.encode import EncodedGroup
from gpmjax.fit.curl_path import CURLS, DOUBT, Price, Targets, default_price, fit_members, named_curl, prices
from gpmjax.fit.folds import Folds, chosen_elsewhere, standard_error
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import cyclic_scores, pair_scores
from gpmjax.preference.held_out_gain import held_out_gain
from gpmjax.train.optimizer import make_optimizer, scale_head_updates

EPOCHS = 20
RATE = 1e-3
"""Learning rate of the cyclic part on frozen features, as in configs/hybrid_smollm2.py."""
GAMMAS = tuple(float(gamma) for gamma in np.arange(11) / 10)
PARTS = 5
"""Parts of the held-out prompts: ρ, γ and τ for the gain on one part are chosen on the other four."""
TAU_FACTORS = tuple(float(2.0**power) for power in np.arange(-8, 13) / 4)
"""Candidates for τ, as multiples of stage one's: 1/4 to 8."""


class SecondStage(NamedTuple):
    """Stage two's choice."""

    heads: Any
    price: Price
    gamma: float
    tau: float
    path: list[dict[str, Any]]
    """One dict for each pair (ρ, γ) at its best τ: curl, gate_penalty, gamma, tau, nll, accuracy, worse,
    standard_error, chosen."""
    groups: int
    """Groups that were held out."""
    gain: dict[str, Any] | None = None
    """`held_out_gain` of the hybrid over Bradley–Terry, each with its ρ, γ and τ chosen on the other prompts."""

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "held_out": "prompts" if self.groups else "nothing",
            "held_out_groups": self.groups,
            "curl": named_curl(self.price.curl),
            "gate_penalty": self.price.gate_penalty,
            "gamma": self.gamma,
            "tau": self.tau,
            "path": [row | {"curl": named_curl(row["curl"])} for row in self.path],
            "gain": self.gain,
        }


def fit_cyclic_part(
    model: PreferenceModel,
    heads: Any,
    config: LossConfig,
    targets: Targets,
    train: Callable[[int], Iterator[FeatureBatch]],
    steps_an_epoch: int,
    held_out: Sequence[FeatureBatch],
    groups: Sequence[EncodedGroup],
) -> SecondStage:
    """Stage two.

    Args:
      model: the hybrid with γ = 1.
      heads: stage one's, whose reward is kept.
      targets: labels by the comparison's number.
      train: number of steps → that many batches of the training prompts' features, shuffled.
      held_out: batches with every held-out comparison once.
      groups: the held-out groups.
    """
    points = [price for price in prices(config, model.spec.gate != "none") if price.curl < math.inf]
    if not groups:
        points = [default_price(config, model.spec.gate != "none")]
    steps = EPOCHS * steps_an_epoch
    rule = make_optimizer(OptimizerConfig(learning_rate=RATE, clip_norm=1.0), steps)
    optimizer = optax.chain(rule, scale_head_updates(reward=0.0, other=0.0))
    comparisons = len(targets.target)
    everything = Folds(
        "prompts", np.ones((1, comparisons), bool), np.zeros((1, comparisons), bool), *[np.zeros(comparisons, int)] * 2
    )
    members = fit_members(model, heads, optimizer, config, [(price, 0) for price in points], everything, train(steps))[
        "heads"
    ]

    def pick(n: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[n], members)

    tau = math.exp(float(heads["log_tau"])) if "log_tau" in heads else model.spec.tau
    if not groups:
        return SecondStage(pick(0), points[0], 1.0, tau, [], 0)
    reward, cyclic, rows = _parts(model, members, held_out)
    unit = _prompt_of(groups, comparisons)[rows]
    target, weight = targets.target[rows], targets.weight[rows]
    path, gain = chosen_weights(reward, cyclic, points, tau, target, weight, unit)
    best = next(row for row in path if row["chosen"])
    n = next((n for n, price in enumerate(points) if price == Price(best["curl"], best["gate_penalty"])), 0)
    price = Price(math.inf, points[-1].gate_penalty) if best["gamma"] == 0 else points[n]
    chosen = pick(n)
    if "log_tau" in chosen:
        chosen = chosen | {"log_tau": np.float32(math.log(best["tau"]))}
    return SecondStage(chosen, price, best["gamma"], best["tau"], path, len(groups), gain)


def chosen_weights(
    reward: np.ndarray,
    cyclic: np.ndarray,
    points: Sequence[Price],
    tau: float,
    target: np.ndarray,
    weight: np.ndarray,
    unit: np.ndarray,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Held-out figures of every (ρ, γ) at its best τ, one of them chosen; and the cyclic part's gain over
    Bradley–Terry.

    Args:
      reward: [n] reward differences. cyclic: [points, n] cyclic scores at γ = 1; neither divided by τ.
      tau: stage one's.
      target, weight, unit: [n] labels, their weights, and the prompt of each.
    """
    taus = tau * np.array(TAU_FACTORS)

    def at_best_tau(score: np.ndarray) -> tuple[float, np.ndarray]:
        z = score[None, :] / taus[:, None]
        loss = -target * special.log_expit(z) - (1 - target) * special.log_expit(-z)
        best = int(np.argmin(loss @ weight))
        return float(taus[best]), loss[best]

    candidates = [(Price(CURLS[-1], points[-1].gate_penalty), 0.0, reward)]
    # Towards less shrinkage: a small γ before a large one, then a large ρ before a small one.
    candidates += [
        (price, gamma, reward + gamma * cyclic[n])
        for gamma in GAMMAS[1:]
        for n, price in reversed(list(enumerate(points)))
    ]
    found = [at_best_tau(score) for _, _, score in candidates]
    nll = [float(loss @ weight / weight.sum()) for _, loss in found]
    least = int(np.argmin(nll))
    path = []
    for (price, gamma, score), (best_tau, loss), mean in zip(candidates, found, nll, strict=True):
        right = np.where(target == 0.5, np.nan, 0.5 + 0.5 * np.sign(score) * np.sign(target - 0.5))
        path.append(
            {
                "curl": price.curl,
                "gate_penalty": price.gate_penalty,
                "gamma": gamma,
                "tau": best_tau,
                "nll": mean,
                "accuracy": float(np.nanmean(right)) if np.any(target != 0.5) else float("nan"),
                "worse": mean - nll[least],
                "standard_error": standard_error(loss - found[least][1], weight, unit, unit),
            }
        )
    errors = [(DOUBT if row["gamma"] == 0 else 1.0) * row["standard_error"] for row in path]
    chosen = next(n for n, row in enumerate(path) if row["worse"] <= errors[n])
    rows = [row | {"chosen": n == chosen} for n, row in enumerate(path)]
    return rows, _gain(np.stack([score for _, _, score in candidates]), taus, target, weight, unit)


def _gain(
    score: np.ndarray, taus: np.ndarray, target: np.ndarray, weight: np.ndarray, unit: np.ndarray
) -> dict[str, Any]:
    """`held_out_gain` of candidates [C, n], the first of them Bradley–Terry; choices are made on other prompts, in five
    parts."""
    part = np.random.default_rng(0).permutation(unit.max() + 1)[unit] % PARTS
    z = score[:, None, :] / taus[None, :, None]
    loss = -target * special.log_expit(z) - (1 - target) * special.log_expit(-z)
    best = []
    for first, last in ((0, 1), (1, len(score))):
        losses, odds = (array[first:last].reshape(-1, array.shape[-1]) for array in (loss, z))
        best.append(odds[chosen_elsewhere(losses, weight, part), np.arange(score.shape[1])])
    found = held_out_gain(best[1], best[0], target, unit.tolist(), weight=weight)
    return {name: value for name, value in found.items() if name != "per_prompt"}


def _parts(
    model: PreferenceModel, members: Any, held_out: Sequence[FeatureBatch]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reward differences [n], cyclic scores [members, n], and rows [n] of the held-out comparisons."""

    def read(heads: Any, batch: FeatureBatch) -> tuple[Array, Array]:
        output: Any = model.apply({"params": {"heads": heads}}, batch)
        cyclic = cyclic_scores(output, batch.comparisons)
        return pair_scores(output, batch.comparisons) - cyclic, cyclic

    every = jax.jit(jax.vmap(read, in_axes=(0, None)))
    parts = []
    for batch in held_out:
        reward, cyclic = map(np.asarray, every(members, batch))
        rows = np.asarray(batch.comparisons.number)
        real = rows >= 0
        parts.append((reward[0][real], cyclic[:, real], rows[real]))
    reward, cyclic, rows = zip(*parts, strict=True)
    return np.concatenate(reward), np.concatenate(cyclic, axis=1), np.concatenate(rows)


def _prompt_of(groups: Sequence[EncodedGroup], comparisons: int) -> np.ndarray:
    """[N] int: the prompt of each comparison; 0 where it is in no group."""
    known: dict[bytes, int] = {}
    found = np.zeros(comparisons, int)
    for group in groups:
        here = known.setdefault(group.prompt.tobytes(), len(known))
        for c in group.comparisons:
            found[c.number] = here
    return found


def with_choice(model: PreferenceModel, found: SecondStage) -> PreferenceModel:
    """The model with stage two's γ and τ."""
    return model.clone(spec=dataclasses.replace(model.spec, gamma=found.gamma, tau=found.tau))
