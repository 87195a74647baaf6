"""The engine that a fit and an iteration of a policy share: devices, loop, checkpoints, metrics and ``summary.json``.

`train` runs one `TrainingTask`: it splits the parameters, makes or restores the state, runs the loop and waits for
the last checkpoint.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from gpmjax.chips import peak_flops
from gpmjax.config import Config, MeshConfig
from gpmjax.config.improve import ImproveConfig
from gpmjax.models.config import DecoderConfig, Runtime
from gpmjax.sharding import batch_places, make_mesh
from gpmjax.train.checkpoint import Checkpoints
from gpmjax.train.flops import Work, hardware_flops
from gpmjax.train.loop import Loop, LoopHooks, LoopPlan, StopRequest
from gpmjax.train.metrics import MetricsWriter, write_json_on_first_host
from gpmjax.train.optimizer import count, make_optimizer, merge_params, schedule, split_params
from gpmjax.train.speed import known_peak
from gpmjax.train.state import TrainState, init_state, jit_step

Figures = dict[str, dict[str, Any]]
"""Name of an evaluation set → its figures."""


def open_mesh(config: MeshConfig, field: str, rows: int, accumulate: int) -> Mesh:
    """The mesh of a run, on which every micro-batch can be shared out equally.

    Args:
      field: the config's field that holds ``rows``, the rows of a batch over all devices.
      accumulate: micro-batches a step.

    Raises:
      ValueError: the mesh does not suit the devices, or ``rows`` cannot be shared out.
    """
    mesh = make_mesh(**dataclasses.asdict(config))
    places = batch_places(mesh)
    if rows // accumulate % places:
        raise ValueError(
            f"config.{field}={rows}: must be a multiple of {places * accumulate} "
            f"(mesh data × fsdp = {places}, accumulate = {accumulate})"
        )
    return mesh


def shown_places(places: Iterable[str], most: int = 5) -> str:
    """The first few of some places in the data, and how many more there are.

    >>> shown_places(["a:1", "a:2", "a:3"], most=2)
    'a:1, a:2 and 1 more'
    """
    places = list(places)
    return ", ".join(places[:most]) + (f" and {len(places) - most} more" if len(places) > most else "")


@dataclasses.dataclass(frozen=True)
class TrainingTask:
    """One training: its batches, its update, and what happens between updates."""

    steps: int
    batch: Callable[[int], Any]
    """Batch number → host batch of this process."""
    put: Callable[[Any], Any]
    """Host batch → device batch."""
    make_step: Callable[[optax.GradientTransformation], Callable]
    """Optimiser → pure ``step(state, frozen, batch) → (state, metrics)``."""
    rows: Callable[[Any], np.ndarray]
    """Host batch → index in the data of each example, −1 on padding; shaped like the metric "example_loss"."""
    places: Sequence[str] | Mapping[int, str]
    """Index in the data → where that example was read."""
    decoder: DecoderConfig
    runtime: Runtime
    work: Work
    """What every step runs; see `dense_work`."""
    record: Callable[[], dict[str, Any]]
    """What is saved with every checkpoint."""
    units: str = "tokens"
    """The metric by which speed is measured: "tokens", or "responses" where features are cached."""
    shown: tuple[str, ...] = ("loss", "accuracy")
    """Metrics of the progress line."""
    evaluate: Callable[[Any], Figures] | None = None
    """All parameters → figures. May raise StopRequested."""
    eval_every: int = 0
    """Steps between evaluations; 0: only after the last step."""
    rank: Callable[[Figures], dict[str, float] | None] = lambda figures: None
    """Figures → the numbers that checkpoints are ranked by."""


class Trained(NamedTuple):
    """What a task has come to."""

    status: Literal["finished", "interrupted"]
    state: TrainState
    frozen: Any
    evaluation: Figures
    """Figures of the last evaluation; empty if there was none."""
    units: int
    """Tokens or responses that this call trained on."""
    speed: dict[str, float]

    @property
    def step(self) -> int:
        return int(self.state.step)

    @property
    def params(self) -> dict:
        """All parameters, trained and frozen."""
        return merge_params(self.state.params, self.frozen)

    def parameters(self) -> dict[str, int]:
        """Numbers of scalars."""
        return {"trained": count(self.state.params), "frozen": count(self.frozen)}


def train(
    task: TrainingTask,
    params: dict,
    freeze: Sequence[str],
    config: Config | ImproveConfig,
    mesh: Mesh,
    checkpoints: Checkpoints,
    directory: Path,
    stop: StopRequest,
) -> Trained:
    """Runs ``task`` from the newest checkpoint, or from ``params`` where there is none.

    Args:
      freeze: patterns of the parameters that do not train.
      config: gives the optimiser, ``log_every`` and how often checkpoints are made.
      directory: where metrics go.

    Raises:
      TrainingDiverged: a loss that is not finite.
      OSError: a checkpoint or a line of metrics could not be written.
    """
    optimizer = make_optimizer(config.optimizer, task.steps)
    trainable, frozen = split_params(params, freeze)
    logging.info("%s: %d parameters train, %d are frozen", directory, count(trainable), count(frozen))
    state = init_state(trainable, optimizer, mesh)
    state = checkpoints.resume(state, mesh) or state
    if first := int(state.step):
        logging.info("%s: resuming at step %d", directory, first)
    step = jit_step(task.make_step(optimizer), state, mesh)
    evaluate = task.evaluate
    hooks = LoopHooks(
        batch=task.batch,
        put=task.put,
        step=lambda state, batch: step(state, frozen, batch),
        units=task.units,
        rows=task.rows,
        name_rows=lambda rows: shown_places(task.places[int(row)] for row in rows),
        evaluate=lambda state: evaluate(merge_params(state.params, frozen)) if evaluate else {},
        save=lambda state, figures: checkpoints.save(state, task.record(), task.rank(figures)),
    )
    plan = LoopPlan(
        task.steps,
        config.log_every,
        task.eval_every,
        config.checkpoint.every,
        schedule(config.optimizer, task.steps),
        shown=task.shown,
        evaluate_first=evaluate is not None and first > 0 and checkpoints.metrics(first) is None,
        hardware_flops=hardware_flops(task.decoder, task.runtime, trainable, frozen, task.work),
        peak_flops=known_peak(),
    )
    writer = MetricsWriter(directory, resumed_step=first)
    try:
        loop = Loop(hooks, plan, writer, stop)
        state, status = loop.run(state)
        checkpoints.wait()
    finally:
        writer.close()
    return Trained(status, state, frozen, loop.evaluation, loop.speed.trained_units, loop.speed.summary())


class Summary:
    """``summary.json``: figures are added as they become known, and are written when the run ends."""

    def __init__(self, workdir: Path, config: Config | ImproveConfig):
        self._workdir, self._config, self._started = workdir, config, time.monotonic()
        self._figures: dict[str, Any] = {}

    def add(self, **figures: Any) -> None:
        """Later figures replace earlier ones of the same name."""
        self._figures |= figures

    def write(self, status: str) -> dict[str, Any]:
        """Writes the file, and returns the figures as a reader of it will see them."""
        seconds = round(time.monotonic() - self._started, 1)
        figures = {"status": status} | self._figures | {"seconds": seconds, "device": device_facts()}
        return write_json_on_first_host(
            self._workdir / "summary.json", figures | {"config": dataclasses.asdict(self._config)}
        )


def device_facts() -> dict[str, Any]:
    """What a run was computed on."""
    device = jax.devices()[0]
    return {
        "kind": device.device_kind,
        "platform": device.platform,
        "count": jax.device_count(),
        "hosts": jax.process_count(),
        "peak_flops": peak_flops(device.device_kind) or "unknown, so no MFU",
    }
