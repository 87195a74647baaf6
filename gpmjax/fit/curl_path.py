"""Chooses the price of a cycle: a hybrid's heads are fitted at several prices, and measured on held-out comparisons.

All prices and folds are fitted by one vmapped program over the same batches of cached features, so the path costs
little more than one fit: the features are read once a step, and the heads of all fits are one matrix product.

The rule of one standard error chooses the highest price whose held-out loss is within one standard error (of the
difference, over prompts) of the least loss. ρ = ∞, which is Bradley–Terry, is one of the prices. It is given up only
if it is worse by 1.645 standard errors, a one-sided test at 5 %: sets of few prompts would otherwise give it up by
chance, one time in six.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from gpmjax.arrays import Array, FeatureBatch
from gpmjax.config import LossConfig
from gpmjax.fit.folds import Folds, chosen_elsewhere, standard_error
from gpmjax.fit.step import Applied, Penalties, batch_loss, batch_totals, batch_weighs
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.scores import PreferenceOutput, pair_scores
from gpmjax.preference.held_out_gain import held_out_gain
from gpmjax.train.state import TrainState
from gpmjax.train.step import make_step

CURLS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, math.inf)
GATE_PENALTIES = (0.01, 0.3, 10.0)
DOUBT = 1.645
"""Standard errors by which Bradley–Terry must be worse before it is given up."""
DEFAULT_CURL = 0.03
"""ρ where nothing can be held out: it keeps a real cycle, and suppresses a curl that fits noise alone."""
DEFAULT_GATE_PENALTY = 1.0


class Price(NamedTuple):
    """One point of the path."""

    curl: float
    """ρ; ∞ is Bradley–Terry."""
    gate_penalty: float
    """κ."""


class Choice(NamedTuple):
    """The chosen price, and the figures that it was chosen by."""

    price: Price
    held_out: str
    """Held out: "prompts", "responses", or "nothing", where ``price`` is the default."""
    path: list[dict[str, Any]]
    """A row a price: curl, gate_penalty, nll, accuracy, worse (held-out NLL less the least one), standard_error (of
    ``worse``), chosen."""
    log_odds: np.ndarray
    """[prices, N] float32: held-out log-odds of every comparison; NaN where a comparison was in no held-out part."""
    gain: dict[str, Any] | None = None
    """`held_out_gain` of the hybrid over Bradley–Terry, the hybrid's price chosen on the other folds."""

    def summary(self) -> dict[str, Any]:
        """The choice and its path, JSON-ready."""
        return {
            "held_out": self.held_out,
            "curl": named_curl(self.price.curl),
            "gate_penalty": self.price.gate_penalty,
            "path": [row | {"curl": named_curl(row["curl"])} for row in self.path],
            "gain": self.gain,
        }


class Targets(NamedTuple):
    """Labels of N comparisons, by row."""

    target: np.ndarray
    """[N] float32: P(chosen ≻ rejected)."""
    weight: np.ndarray
    """[N] float32 ≥ 0."""


class _Member(NamedTuple):
    """The fields in which the M fits of a path differ; each [M] outside the vmap."""

    curl: Array
    gate: Array
    cyclic: Array
    """1, or 0 at ρ = ∞: the weight of the cyclic part."""
    keep: Array
    """[B, C] bool: comparisons of the batch that the fit may see."""


class _Given(NamedTuple):
    batch: FeatureBatch
    member: _Member


def prices(config: LossConfig, has_gate: bool) -> list[Price]:
    """The path of a config: every ρ with every κ that is not given, ordered from least to most shrinkage.

    >>> [price.curl for price in prices(LossConfig(curl="auto"), has_gate=False)]
    [0.0, 0.01, 0.03, 0.1, 0.3, 1.0, inf]
    """
    given = config.strength("gate_penalty")
    gates = GATE_PENALTIES if given is None and has_gate else (given or 0.0,)
    # Bradley–Terry has no gate to pull.
    return [Price(curl, gate) for curl in CURLS for gate in (gates if curl < math.inf else gates[-1:])]


def default_price(config: LossConfig, has_gate: bool) -> Price:
    """The price that is used where nothing can be held out."""
    given = config.strength("gate_penalty")
    return Price(DEFAULT_CURL, (DEFAULT_GATE_PENALTY if has_gate else 0.0) if given is None else given)


def choose_price(
    model: PreferenceModel,
    heads: Any,
    optimizer: optax.GradientTransformation,
    config: LossConfig,
    folds: Folds,
    train: Iterator[FeatureBatch],
    measured: Callable[[], Iterator[FeatureBatch]],
    targets: Targets,
    progress: Callable[[int], None] = lambda step: None,
) -> Choice:
    """Fits heads at every price and fold, and chooses the price.

    Args:
      model: a hybrid; its γ is 1.
      heads: the parameters that every fit begins with.
      optimizer: as of the run itself.
      folds: what each fold leaves out, by the comparison's number.
      train: the batches of a whole fit, in order.
      measured: gives batches that hold every comparison once.
      targets: labels by the comparison's number.
      progress: told the number of steps done.
    """
    points = prices(config, model.spec.gate != "none")
    if folds.unit == "nothing":
        empty = np.full((len(points), len(targets.target)), np.nan, np.float32)
        return Choice(default_price(config, model.spec.gate != "none"), "nothing", [], empty)
    members = [(price, fold) for price in points for fold in range(len(folds.fit))]
    params = fit_members(model, heads, optimizer, config, members, folds, train, progress)
    log_odds = _measure(model, params, members, measured, len(targets.target))
    held_out = np.full((len(points), len(targets.target)), np.nan, np.float32)
    for (price, fold), odds in zip(members, log_odds, strict=True):
        part = folds.held_out[fold]
        held_out[points.index(price), part] = odds[part]
    path = measured_path(points, held_out, targets, folds)
    chosen = one_standard_error(path)
    rows = [row | {"chosen": n == chosen} for n, row in enumerate(path)]
    return Choice(points[chosen], folds.unit, rows, held_out, gain_over_bradley_terry(points, held_out, targets, folds))


def targets_of(groups: Sequence[Any], comparisons: int) -> Targets:
    """The labels of encoded groups' comparisons; rows that encoding dropped have weight 0."""
    target, weight = np.full(comparisons, 0.5, np.float32), np.zeros(comparisons, np.float32)
    for group in groups:
        for c in group.comparisons:
            target[c.number], weight[c.number] = c.target, c.weight
    return Targets(target, weight)


def measured_path(
    points: Sequence[Price], log_odds: np.ndarray, targets: Targets, folds: Folds
) -> list[dict[str, Any]]:
    """Held-out figures of every price from log-odds [prices, N]."""
    part = np.isfinite(log_odds).all(axis=0) & (targets.weight > 0)
    z, target, weight = log_odds[:, part].astype(np.float64), targets.target[part], targets.weight[part]
    first, second = folds.first[part], folds.second[part]
    loss = -target * special.log_expit(z) - (1 - target) * special.log_expit(-z)
    right = np.where(target == 0.5, np.nan, 0.5 + 0.5 * np.sign(z) * np.sign(target - 0.5))
    nll = (loss @ weight) / weight.sum()
    least = int(np.argmin(nll))
    rows = []
    for n, price in enumerate(points):
        error = standard_error(loss[n] - loss[least], weight, first, second)
        rows.append(
            {
                "curl": price.curl,
                "gate_penalty": price.gate_penalty,
                "nll": float(nll[n]),
                "accuracy": float(np.nanmean(right[n])) if np.any(target != 0.5) else float("nan"),
                "worse": float(nll[n] - nll[least]),
                "standard_error": error,
                "comparisons": int(part.sum()),
            }
        )
    return rows


def gain_over_bradley_terry(
    points: Sequence[Price], log_odds: np.ndarray, targets: Targets, folds: Folds
) -> dict[str, Any] | None:
    """Gain of the hybrid over Bradley–Terry on held-out prompts, its price chosen on the other folds.

    None where responses are held out: their comparisons share responses, so they are not independent draws.
    """
    if folds.unit != "prompts":
        return None
    part = np.isfinite(log_odds).all(axis=0) & (targets.weight > 0)
    z, target, weight = (
        log_odds[:, part].astype(np.float64),
        targets.target[part].astype(np.float64),
        targets.weight[part],
    )
    cyclic = np.array([price.curl < math.inf for price in points])
    loss = -target * special.log_expit(z) - (1 - target) * special.log_expit(-z)
    picked = chosen_elsewhere(loss[cyclic], weight, folds.held_out[:, part].argmax(axis=0))
    hybrid = z[cyclic][picked, np.arange(z.shape[1])]
    found = held_out_gain(hybrid, z[~cyclic][0], target, folds.first[part].tolist(), weight=weight)
    return {name: value for name, value in found.items() if name != "per_prompt"}


def one_standard_error(path: Sequence[dict[str, Any]]) -> int:
    """The last price in the order of shrinkage that is worse than the best by one standard error at most (ρ = ∞:
    1.645).

    >>> row = lambda curl, worse, error: {"curl": curl, "worse": worse, "standard_error": error}
    >>> finite = [row(0.0, 0.1, 0.01), row(0.1, 0.0, 0.0), row(1.0, 0.02, 0.03)]
    >>> one_standard_error([*finite, row(math.inf, 0.2, 0.1)]), one_standard_error([*finite, row(math.inf, 0.15, 0.1)])
    (2, 3)
    """
    errors = [(DOUBT if math.isinf(row["curl"]) else 1.0) * row["standard_error"] for row in path]
    return max(n for n, row in enumerate(path) if row["worse"] <= errors[n])


def fit_members(
    model: PreferenceModel,
    heads: Any,
    optimizer: optax.GradientTransformation,
    config: LossConfig,
    members: Sequence[tuple[Price, int]],
    folds: Folds,
    train: Iterator[FeatureBatch],
    progress: Callable[[int], None] = lambda step: None,
) -> Any:
    """{"heads": …} of every member (a price and a fold), fitted together and stacked along a first axis [M]."""
    fold = np.array([fold for _, fold in members])
    off = np.array([price.curl == math.inf for price, _ in members])
    curl = np.array([0.0 if math.isinf(price.curl) else price.curl for price, _ in members], np.float32)
    gate = np.array([price.gate_penalty for price, _ in members], np.float32)

    def seen(given: _Given) -> FeatureBatch:
        return _weigh(given.batch, given.member.keep)

    update = make_step(
        weighs=lambda given: batch_weighs(seen(given), config),
        totals=lambda given: batch_totals(seen(given), config),
        loss=lambda params, given, totals: batch_loss(
            _Weighed(model, given.member.cyclic),
            params,
            seen(given),
            totals,
            config,
            Penalties(given.member.curl, given.member.gate),
        ),
        optimizer=optimizer,
    )

    def step(state: TrainState, given: _Given) -> TrainState:
        after, _ = update(state, {}, given)
        return after

    over = _Given._make((None, _Member._make((0, 0, 0, 0))))
    every = jax.jit(jax.vmap(step, in_axes=(0, over)), donate_argnums=0)
    stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(members), *leaf.shape)), {"heads": heads})
    state = jax.jit(jax.vmap(lambda params: TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))))(
        stacked
    )
    for n, batch in enumerate(train):
        rows = np.asarray(batch.comparisons.number)
        keep = (folds.fit[:, rows] & (rows >= 0))[fold]
        member = _Member(curl, gate, (~off).astype(np.float32), keep)
        state = every(state, _Given(batch, member))
        progress(n + 1)
    return state.params


class _Weighed(NamedTuple):
    """A hybrid model whose cyclic part has another weight; it has what `batch_loss` needs."""

    model: Applied
    cyclic: Array

    @property
    def config(self) -> DecoderConfig:
        return self.model.config

    def apply(self, variables: Any, batch: FeatureBatch) -> PreferenceOutput:
        return weigh_cyclic_part(self.model.apply(variables, batch), self.cyclic)


def weigh_cyclic_part(output: PreferenceOutput, gamma: Array | float) -> PreferenceOutput:
    """A hybrid's output with γ times its cyclic part."""
    scale: Any = output.scale  # a hybrid has one
    return output._replace(scale=jnp.concatenate([scale[..., :1], gamma * scale[..., 1:]], axis=-1))


def _weigh(batch: FeatureBatch, keep: Array) -> FeatureBatch:
    weight = jnp.where(keep, batch.comparisons.weight, 0.0)
    return batch._replace(comparisons=batch.comparisons._replace(weight=weight))


def _measure(
    model: Applied,
    params: Any,
    members: Sequence[tuple[Price, int]],
    measured: Callable[[], Iterator[FeatureBatch]],
    comparisons: int,
) -> np.ndarray:
    """[M, N] float32: log-odds of every comparison under every member."""
    cyclic = np.array([price.curl < math.inf for price, _ in members], np.float32)

    def score(params: Any, gamma: Array, batch: FeatureBatch) -> Array:
        output = weigh_cyclic_part(model.apply({"params": params}, batch), gamma)
        return pair_scores(output, batch.comparisons) / output.tau

    every = jax.jit(jax.vmap(score, in_axes=(0, 0, None)))
    found = np.full((len(members), comparisons), np.nan, np.float32)
    for batch in measured():
        odds, rows = np.asarray(every(params, cyclic, batch)), np.asarray(batch.comparisons.number)
        found[:, rows[rows >= 0]] = odds[:, rows >= 0]
    return found


def named_curl(curl: float) -> float | str:
    """ρ as JSON, which has no infinity."""
    return "inf" if math.isinf(curl) else curl
