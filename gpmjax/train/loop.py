"""The training loop, in a fixed order:

    batch n → dispatch step n → read the metrics of step n − 1 → evaluate → save → stop if asked

Reading one step late keeps the device busy while the host writes. Before anything is saved or evaluated the current
step's metrics are read too, so a checkpoint never holds parameters that came from a NaN.

Resuming: restore step n, drop later lines of metrics.jsonl, go on with batch n. Batch n depends on n alone.
"""

import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from gpmjax.train.metrics import MetricsWriter, ProgressBar
from gpmjax.train.state import TrainState


class TrainingDiverged(FloatingPointError):
    """A loss or gradient that is not finite; the message names the step and the rows."""


class StopRequested(Exception):
    """Long work other than training steps gave way to a SIGTERM or SIGINT."""


class StopRequest:
    """Turns SIGTERM and SIGINT into a flag for the time of a ``with`` block. A second SIGINT interrupts at once."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def raise_if_asked(self) -> None:
        """For long work to call between its batches."""
        if self.asked:
            raise StopRequested

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class LoopHooks:
    """What the loop calls; everything it knows of the outside."""

    batch: Callable[[int], Any]
    """Batch number → host batch of this process (runs in a thread, one batch ahead)."""
    put: Callable[[Any], Any]
    """Host batch → device batch."""
    step: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]
    count: Callable[[Any], int]
    """Useful ``units`` of a host batch."""
    units: str
    """What is counted for speed: "tokens", or "responses" where their features are cached."""
    rows: Callable[[Any], np.ndarray]
    """Host batch → index in the data of each of its examples, −1 on padding; shaped like the metric "example_loss"."""
    name_rows: Callable[[np.ndarray], str]
    """Those indices → words that name their places in the data."""
    evaluate: Callable[[TrainState], dict[str, dict[str, Any]]]
    """State → {eval set: figures}; {} when there is nothing to evaluate. May raise StopRequested."""
    save: Callable[[TrainState, dict[str, dict[str, Any]]], None]


@dataclass(frozen=True)
class LoopPlan:
    steps: int
    log_every: int
    eval_every: int
    save_every: int
    learning_rate: Callable[[int], float]
    shown: tuple[str, ...] = ("loss", "accuracy")
    """Metrics of the progress line."""


@dataclass
class _Pending:
    """A dispatched step whose metrics are not read yet."""

    step: int
    metrics: dict[str, jax.Array]
    rows: np.ndarray
    units: int


class Loop:
    """Runs ``plan`` from a state; see the module's docstring for the order of things."""

    def __init__(self, hooks: LoopHooks, plan: LoopPlan, writer: MetricsWriter, stop: StopRequest):
        self._hooks, self._plan, self._writer, self._stop = hooks, plan, writer, stop
        self._pending: _Pending | None = None
        self._last_read = time.monotonic()
        self.trained_units = 0
        self.evaluation: dict[str, dict[str, Any]] = {}

    def run(self, state: TrainState) -> tuple[TrainState, Literal["finished", "interrupted"]]:
        """Returns the last state and why it stopped; both ways, it is saved.

        Raises:
          TrainingDiverged: at a NaN or infinite loss or gradient; checkpoints from before it are kept.
        """
        plan, first = self._plan, int(state.step)
        self._bar = ProgressBar("train", plan.steps, first)
        self._last_read = time.monotonic()
        try:
            with ThreadPoolExecutor(1) as reader:
                ahead = reader.submit(self._hooks.batch, first) if first < plan.steps else None
                for n in range(first, plan.steps):
                    batch = ahead.result()
                    if n + 1 < plan.steps:
                        ahead = reader.submit(self._hooks.batch, n + 1)
                    state = self._dispatch(state, batch, n)
                    done = n + 1
                    due = lambda every: done == plan.steps or (every and done % every == 0)
                    evaluated = self._evaluate(state, done) if due(plan.eval_every) else {}
                    if self._stop.asked or evaluated or due(plan.save_every):
                        self._read_pending()
                        self._hooks.save(state, evaluated)
                    if self._stop.asked:
                        return state, "interrupted"
            return state, "finished"
        finally:
            self._bar.close()

    def _dispatch(self, state: TrainState, batch: Any, n: int) -> TrainState:
        state, metrics = self._hooks.step(state, self._hooks.put(batch))
        previous, self._pending = self._pending, _Pending(
            n + 1, metrics, self._hooks.rows(batch), self._hooks.count(batch)
        )
        self._read(previous)
        return state

    def _evaluate(self, state: TrainState, done: int) -> dict[str, dict[str, Any]]:
        self._read_pending()
        try:
            self.evaluation = self._hooks.evaluate(state)
        except StopRequested:
            return {}
        if self.evaluation:
            self._writer.write(done, {"eval": self.evaluation})
        self._last_read = time.monotonic()  # its time is not the training's
        return self.evaluation

    def _read_pending(self) -> None:
        pending, self._pending = self._pending, None
        self._read(pending)

    def _read(self, pending: _Pending | None) -> None:
        """Fetches one step's metrics, refuses what is not finite, logs the rest."""
        if pending is None:
            return
        values = {name: float(value) for name, value in pending.metrics.items() if value.ndim == 0}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise TrainingDiverged(self._explain(pending, values))
        now = time.monotonic()
        seconds, self._last_read = now - self._last_read, now
        self.trained_units += pending.units
        speed = f"{self._hooks.units}_per_second"
        values["learning_rate"] = float(self._plan.learning_rate(pending.step - 1))
        values[speed] = pending.units / max(seconds, 1e-9)
        if pending.step % self._plan.log_every == 0 or pending.step == self._plan.steps:
            self._writer.write(pending.step, values)
            shown = (*self._plan.shown, speed)
            self._bar.update(pending.step, {name.replace("_per_second", "/s"): values[name] for name in shown})

    def _explain(self, pending: _Pending, values: dict[str, float]) -> str:
        losses = np.asarray(pending.metrics["example_loss"])
        culprits = pending.rows[~np.isfinite(losses) & (pending.rows >= 0)]
        where = self._hooks.name_rows(culprits if culprits.size else pending.rows[pending.rows >= 0])
        which = "rows with a bad loss" if culprits.size else "every loss is finite; rows of the batch"
        return (
            f"step {pending.step}: loss {values['loss']}, gradient norm {values['gradient_norm']}; {which}: {where}; "
            f"the last checkpoint is from before this step"
        )
