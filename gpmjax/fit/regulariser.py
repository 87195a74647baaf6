"""Chooses the penalties that a config leaves "auto", before the fit or after it.

On a frozen backbone `settle_penalties` chooses them before the fit, by a path over cached features. Where the backbone
trains, the fit is stage one, and `fit_second_stage` chooses them after it.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gpmjax.arrays import FeatureBatch, TokenBatch
from gpmjax.config import Config, LossConfig
from gpmjax.data.assemble import assemble_features
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.pipeline import Pipeline, fit_shape
from gpmjax.fit.curl_path import choose_price, targets_of
from gpmjax.fit.features import features_in_memory
from gpmjax.fit.folds import make_folds
from gpmjax.fit.inputs import Assemble, FitData, training_pipeline, training_shape, two_stages
from gpmjax.fit.second_stage import fit_cyclic_part, with_choice
from gpmjax.hub.json_files import json_object
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.progress import ProgressBar
from gpmjax.train.metrics import write_json_on_first_host
from gpmjax.train.optimizer import make_optimizer

FILE = "regularisation.json"
"""Name of the file in the work directory that holds the choice."""
STAGE_ROWS = 128
"""Groups of a batch in stage two."""


class Settled(NamedTuple):
    """Model and loss of a fit whose penalties are numbers."""

    model: PreferenceModel
    """At ρ = ∞, and in a first stage, it has γ = 0."""
    loss: LossConfig
    figures: dict[str, Any] | None = None
    """Figures of the choice that "auto" made; None where nothing was chosen."""

    @property
    def choice(self) -> dict[str, Any]:
        """The penalties as a checkpoint records them."""
        return {"chosen": {name: getattr(self.loss, name) for name in ("curl", "gate_penalty")}}


def settle_penalties(
    config: Config,
    workdir: Path,
    data: FitData,
    model: PreferenceModel,
    heads: Any,
    steps: int,
    assemble: Assemble,
    *,
    resumed: bool,
    between: Callable[[], None],
) -> Settled:
    """The model to fit and its loss, with numbers in the place of "auto".

    Args:
      heads: the parameters that the fit begins with.
      steps: of the fit.
      resumed: whether a checkpoint exists, made with a choice that must not change.
      between: called between batches; may raise StopRequested.
    """
    loss, figures, file = config.loss, None, workdir / FILE
    if two_stages(config):
        loss = dataclasses.replace(loss, curl="inf", gate_penalty="0")
    elif loss.curl == "auto":
        if resumed and file.is_file():
            figures = json_object(file)
        else:
            figures = write_json_on_first_host(file, _choose(config, data, model, heads, steps, assemble, between))
        loss = dataclasses.replace(loss, curl=str(figures["curl"]), gate_penalty=str(figures["gate_penalty"]))
    if loss.strength("curl") == math.inf:
        model = model.clone(spec=dataclasses.replace(model.spec, gamma=0.0))
    return Settled(model, loss, figures)


def _choose(
    config: Config,
    data: FitData,
    model: PreferenceModel,
    heads: Any,
    steps: int,
    assemble: Assemble,
    between: Callable[[], None],
) -> dict[str, Any]:
    """The path over prices and folds. Every host reads whole batches, which are small, and makes the same choice."""
    comparisons = len(data.train.places)
    bar = ProgressBar("regularisation path", steps)
    try:
        choice = choose_price(
            model,
            jax.device_get(heads),
            make_optimizer(config.optimizer, steps),
            config.loss,
            make_folds(data.train.sources, comparisons, config.loss.folds, config.seed),
            _batches(training_pipeline(config, data.train, mesh=None), steps, assemble, between),
            lambda: _once(data.groups, config.data.rows, assemble, between),
            targets_of(data.groups, comparisons),
            progress=lambda done: bar.update(done, {}),
        )
    finally:
        bar.close()
    return choice.summary()


def fit_second_stage(
    config: Config,
    workdir: Path,
    data: FitData,
    model: PreferenceModel,
    params: Any,
    encode: Callable[[TokenBatch], tuple[np.ndarray, np.ndarray]],
    *,
    between: Callable[[], None],
) -> tuple[PreferenceModel, Any, dict[str, Any]]:
    """Stage two: the model with its γ and τ, the parameters with the cyclic part, and figures of the choice.

    Args:
      params: stage one's.
      encode: batch → features [B, R, D] of responses and prompts under those parameters.
      between: called between batches; may raise StopRequested.
    """
    groups, left_out = data.groups, data.left_out
    shape = training_shape(config, data.train)

    def checked(batch: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
        between()
        return encode(batch)

    features = features_in_memory(groups + left_out, checked, rows=shape.rows, row_length=shape.tokens)

    def assemble(rows, shape):
        return assemble_features(rows, shape, features, hidden_size=model.config.hidden_size)

    pairs = fit_shape(groups, rows=STAGE_ROWS, packing="single")
    pipeline = Pipeline([groups], pairs, seed=config.seed, packing="single")
    found = fit_cyclic_part(
        model.clone(spec=dataclasses.replace(model.spec, gamma=1.0)),
        jax.device_get(params["heads"]),
        config.loss,
        targets_of(groups + left_out, len(data.train.places)),
        lambda steps: _batches(pipeline, steps, assemble, between),
        pipeline.steps(1),
        list(_once(left_out, STAGE_ROWS, assemble, between)) if left_out else [],
        left_out,
    )
    figures = write_json_on_first_host(workdir / FILE, found.summary())
    return with_choice(model, found), params | {"heads": found.heads}, figures


def _once(
    groups: list[EncodedGroup], rows: int, assemble: Assemble, between: Callable[[], None]
) -> Iterator[FeatureBatch]:
    """Batches that hold every group once."""
    pipeline = Pipeline([groups], fit_shape(groups, rows=rows), order="ordered")
    return _batches(pipeline, pipeline.steps(1), assemble, between)


def _batches(pipeline: Pipeline, steps: int, assemble: Assemble, between: Callable[[], None]) -> Iterator[Any]:
    for step in range(steps):
        between()
        yield assemble(pipeline.rows(step), pipeline.shape)


def describe_choice(figures: Mapping[str, Any]) -> str:
    """A sentence on what was chosen, and on what cycles gained where that could be measured.

    >>> describe_choice({"held_out": "nothing", "curl": 0.03, "gate_penalty": 0.0})
    'price of a cycle ρ = 0.03, the default: there was too little to hold out'
    >>> describe_choice({"held_out": "prompts", "curl": "inf", "gate_penalty": 0.0})
    'price of a cycle ρ = ∞, chosen on held-out prompts: Bradley–Terry'
    """
    price = "∞" if figures["curl"] == "inf" else f"{figures['curl']:g}"
    if figures["held_out"] == "nothing":
        return f"price of a cycle ρ = {price}, the default: there was too little to hold out"
    parts = [f"price of a cycle ρ = {price}, chosen on held-out {figures['held_out']}"]
    parts[0] += ": Bradley–Terry" if price == "∞" else ""
    if "gamma" in figures:
        parts.append(f"γ = {figures['gamma']:g}, τ = {figures['tau']:.3g}")
    if figures.get("gain"):
        parts.append(figures["gain"]["text"])
    return "; ".join(parts)
