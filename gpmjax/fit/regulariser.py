"""What ``loss.curl="auto"`` does to a run: numbers in the place of "auto", before the fit or after it."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpmjax.arrays import FeatureBatch, TokenBatch
from gpmjax.config import Config
from gpmjax.data.assemble import BatchShape, Rows, assemble_features
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.pipeline import Pipeline, Prepared, fit_shape
from gpmjax.fit.curl_path import choose_price, targets_of
from gpmjax.fit.features import features_in_memory
from gpmjax.fit.folds import make_folds
from gpmjax.fit.inputs import batch_shape
from gpmjax.fit.second_stage import fit_cyclic_part, leave_out, with_choice
from gpmjax.hub.json_files import json_object
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.progress import ProgressBar
from gpmjax.train.metrics import write_json
from gpmjax.train.optimizer import make_optimizer

FILE = "regularisation.json"
"""What was chosen, in the work directory."""
STAGE_ROWS = 128
"""Groups of a batch in stage two."""

Assemble = Callable[[Rows, BatchShape], FeatureBatch]


class Regulariser:
    """Settles a hybrid's penalties: before the fit by a path over cached features, or after it by a second stage."""

    def __init__(self, config: Config, workdir: Path, train: Prepared, between: Callable[[], None]):
        """Args:
        train: the training data; ``self.train`` is what the fit may see of it.
        between: called between batches, to stop there when asked to.
        """
        self.config, self.train, self._between = config, train, between
        self._file = workdir / FILE
        self.loss = config.loss
        """The config's, with the numbers that took the place of "auto"."""
        self.figures: dict[str, Any] | None = None
        """What "auto" chose, on what, and the path."""
        self._left_out: list[EncodedGroup] = []
        if self.two_stages:
            parted = leave_out(train.sources, len(train.places), config.loss.held_out_share, config.seed)
            self.train, self._left_out = train._replace(sources=parted.train), parted.held_out

    @property
    def _frozen_backbone(self) -> bool:
        return self.config.model.backbone == "frozen"

    @property
    def two_stages(self) -> bool:
        """Whether the cyclic part is fitted after the backbone and the reward."""
        return self.config.loss.curl == "auto" and not self._frozen_backbone

    def before_fit(
        self, model: PreferenceModel, heads: Any, steps: int, assemble: Assemble, resumed: bool
    ) -> PreferenceModel:
        """The model to fit; ``self.loss`` then holds numbers. At ρ = ∞, and in a first stage, the model has γ = 0.

        Args:
          heads: the parameters that the fit begins with.
          assemble: rows of groups as a batch of features; used with a frozen backbone alone.
          resumed: whether a checkpoint exists, made with a choice that must not change.
        """
        loss = self.config.loss
        if self.two_stages:
            self.loss = dataclasses.replace(loss, curl="inf", gate_penalty="0")
        elif loss.curl == "auto":
            if resumed and self._file.is_file():
                self.figures = json_object(self._file)
            else:
                self.figures = write_json(self._file, self._choose(model, heads, steps, assemble))
            self.loss = dataclasses.replace(
                loss, **{name: str(self.figures[name]) for name in ("curl", "gate_penalty")}
            )
        if self.loss.strength("curl") == math.inf:
            return model.clone(spec=dataclasses.replace(model.spec, gamma=0.0))
        return model

    def after_fit(
        self, model: PreferenceModel, params: Any, encode: Callable[[TokenBatch], tuple[np.ndarray, np.ndarray]]
    ) -> tuple[PreferenceModel, Any]:
        """Stage two: the model with its γ and τ, and parameters with the cyclic part.

        Args:
          params: stage one's.
          encode: batch → features [B, R, D] of responses and prompts under those parameters.
        """
        groups = self._groups()
        whole = model.clone(spec=dataclasses.replace(model.spec, gamma=1.0))
        shape = batch_shape(self.config, self.train)
        features = features_in_memory(
            groups + self._left_out,
            lambda batch: encode(self._checked(batch)),
            rows=shape.rows,
            row_length=shape.tokens,
        )
        assemble = lambda rows, shape: assemble_features(rows, shape, features, hidden_size=model.config.hidden_size)
        pairs = fit_shape(groups, rows=STAGE_ROWS, packing="single")
        pipeline = Pipeline([groups], pairs, seed=self.config.seed, packing="single")
        found = fit_cyclic_part(
            whole,
            jax.device_get(params["heads"]),
            self.config.loss,
            targets_of(groups + self._left_out, len(self.train.places)),
            lambda steps: self._batches(pipeline, steps, assemble),
            pipeline.steps(1),
            list(self._once(self._left_out, STAGE_ROWS, assemble)) if self._left_out else [],
            self._left_out,
        )
        self.figures = write_json(self._file, found.summary())
        return with_choice(whole, found), params | {"heads": found.heads}

    def _choose(self, model: PreferenceModel, heads: Any, steps: int, assemble: Assemble) -> dict[str, Any]:
        config, count, groups = self.config, len(self.train.places), self._groups()
        # Whole batches on every host: they are small, and every host makes the same choice.
        pipeline = Pipeline(
            self.train.sources,
            batch_shape(config, self.train),
            weights=config.data.weights or None,
            seed=config.seed,
            packing=config.data.packing,
        )
        bar = ProgressBar("regularisation path", steps)
        try:
            choice = choose_price(
                model,
                jax.device_get(heads),
                make_optimizer(config.optimizer, steps),
                config.loss,
                make_folds(self.train.sources, count, config.loss.folds, config.seed),
                self._batches(pipeline, steps, assemble),
                lambda: self._once(groups, config.data.rows, assemble),
                targets_of(groups, count),
                progress=lambda done: bar.update(done, {}),
            )
        finally:
            bar.close()
        return choice.summary()

    def _groups(self) -> list[EncodedGroup]:
        return [group for source in self.train.sources for group in source]

    def _once(self, groups: list[EncodedGroup], rows: int, assemble: Assemble) -> Iterator[FeatureBatch]:
        pipeline = Pipeline([groups], fit_shape(groups, rows=rows), order="ordered")
        return self._batches(pipeline, pipeline.steps(1), assemble)

    def _batches(self, pipeline: Pipeline, steps: int, assemble: Assemble) -> Iterator[FeatureBatch]:
        return (assemble(pipeline.rows(n), pipeline.shape) for n in range(steps) if self._checked(True))

    def _checked(self, value: Any) -> Any:
        self._between()
        return value


def describe(figures: Mapping[str, Any]) -> str:
    """What was chosen, in a sentence, and what cycles gained where they could be measured.

    >>> describe({"held_out": "nothing", "curl": 0.03, "gate_penalty": 0.0})
    'price of a cycle ρ = 0.03, the default: there was too little to hold out'
    >>> describe({"held_out": "prompts", "curl": "inf", "gate_penalty": 0.0})
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
