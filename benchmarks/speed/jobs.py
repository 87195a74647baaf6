"""The reference job of both contenders: one training step of a GPM with SmolLM2-135M's shape and random weights."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.speed.rows import one_response_rows, paired_loss
from benchmarks.torch_peer import PairRows, TorchPeer, Trainer
from gpmjax import hub
from gpmjax.arrays import TokenBatch
from gpmjax.config import LossConfig, OptimizerConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.encode import EncodedGroup
from gpmjax.data.packing import plan
from gpmjax.fit.step import make_train_step
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh
from gpmjax.train.optimizer import make_optimizer
from gpmjax.train.state import init_state, jit_step
from gpmjax.train.step import make_step

SPEC = PreferenceSpec(dim=6, gate="softmax", normalise="l2", tau=0.1)
OPTIMIZER = OptimizerConfig(learning_rate=1e-5, schedule="constant", warmup_fraction=0.0)


def shape(layers: int) -> DecoderConfig:
    """SmolLM2-135M's shape with this many layers. SmolLM2-135M has 30."""
    return dataclasses.replace(PRESETS["smollm2-135m"], num_layers=layers, layer_types=())


class Ours:
    """A model with random weights, and its training steps. Every call of a step continues the same training."""

    def __init__(self, config: DecoderConfig, runtime: Runtime, spec: PreferenceSpec = SPEC):
        self.model = PreferenceModel(config, spec, runtime)
        tiny = assemble([[EncodedGroup(np.array([3]), 0, (np.array([4]), np.array([5])), ())]], BatchShape(1, 8, 2, 1))
        params = jax.jit(self.model.init)(jax.random.key(0), tiny)["params"]
        self._optimizer, mesh = make_optimizer(OPTIMIZER, 1000), make_mesh(1, 1, 1)
        self._state = init_state(params, self._optimizer, mesh)
        grouped = make_train_step(self.model, self._optimizer, LossConfig())
        separate = make_step(totals=lambda batch: {}, loss=paired_loss(self.model), optimizer=self._optimizer)
        self._grouped, self._separate = (jit_step(step, self._state, mesh) for step in (grouped, separate))

    @property
    def params(self) -> Any:
        return self._state.params

    def grouped(self, batch: TokenBatch) -> Callable[[], float]:
        """A step on rows of groups, the step of launch/train.py."""
        return self._stepper(self._grouped, batch)

    def separate(self, rows: PairRows) -> Callable[[], float]:
        """A step on the peer's rows, with one response per row and the same padding."""
        return self._stepper(self._separate, one_response_rows(rows))

    def dispatched(self, batch: TokenBatch) -> Callable[[], Any]:
        """A step that is dispatched without waiting for its end; returns its metrics."""

        def run() -> Any:
            self._state, metrics = self._grouped(self._state, {}, batch)
            return metrics

        return run

    def _stepper(self, step: Callable, batch: TokenBatch) -> Callable[[], float]:
        def run() -> float:
            self._state, metrics = step(self._state, {}, batch)
            return float(metrics["loss"])

        return run


def export(ours: Ours, path: Path) -> Path:
    """Writes the current weights of ``ours`` as a model directory."""
    tokenizer = hub.open_source("smollm2").tokenizer()
    hub.save_preference_model(path, ours.params, ours.model.config, ours.model.spec, tokenizer)
    return path


def trainer(path: str | Path) -> Trainer:
    """The torch trainer of a model directory."""
    return training(TorchPeer(path))


def training(model: torch.nn.Module) -> Trainer:
    """A trainer of a torch module, with the same optimiser as ours."""
    c = OPTIMIZER
    return Trainer(model, learning_rate=c.learning_rate, b1=c.b1, b2=c.b2, eps=c.eps, clip_norm=c.clip_norm)


def peer(ours: Ours) -> Trainer:
    """The torch trainer with the current weights of ``ours``."""
    with tempfile.TemporaryDirectory() as directory:
        return trainer(export(ours, Path(directory) / "model"))


def packed(groups: Sequence[EncodedGroup], slots: int) -> TokenBatch:
    """All groups packed into one batch, in as few rows of ``slots`` as possible."""
    sizes = np.array([group.size for group in groups])
    limits = int(sizes[:, 1].sum()), int(sizes[:, 2].sum())
    (rows,) = plan(sizes, capacity=(slots, *limits), rows_per_batch=len(groups), order="ordered")
    full = [[groups[i] for i in row] for row in rows if row]
    counts = np.max([np.sum([group.size[1:] for group in row], axis=0) for row in full], axis=0)
    used = max(sum(group.size[0] for group in row) for row in full)
    return assemble(full, BatchShape(len(full), -(-used // 64) * 64, *map(int, counts)))
