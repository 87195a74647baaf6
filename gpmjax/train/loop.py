"""The training loop, in a fixed order:

    batch n → dispatch step n → read the metrics of step n − 1 → evaluate → save → stop if asked

Reading one step late keeps the device busy while the host writes. The current step's metrics are read before anything
is saved or evaluated, so a checkpoint never holds parameters that came from a NaN.

A step's time runs from the end of the step before to its own end. It includes waiting for data, but no evaluation and
no save.

Resuming: restore step n, drop later lines of metrics.jsonl, repeat an evaluation that a signal interrupted, go on with
batch n. Batch n depends on n alone.
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
from jax.typing import ArrayLike

from gpmjax.distributed import any_host, on_every_host
from gpmjax.progress import ProgressBar
from gpmjax.train.metrics import MetricsWriter
from gpmjax.train.speed import Speed
from gpmjax.train.state import TrainState


class TrainingDiverged(FloatingPointError):
    """A loss or gradient that is not finite; the message names the step and the rows."""


class StopRequested(Exception):
    """Raised by long work other than training steps, to stop at a SIGTERM or SIGINT."""


class StopRequest:
    """Turns SIGTERM and SIGINT into a flag during a ``with`` block. A second SIGINT interrupts at once.

    With several hosts a signal to one of them is a request to all. Hosts call ``agreed`` equally often, and each call
    has the same answer on all hosts.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.asked = False
        self._granted = False
        self._ballot: Any = False

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def agreed(self) -> bool:
        """Whether to stop now. Several hosts use the vote of the call before, so no host waits for a vote."""
        if self._granted:
            return True
        ballot = any_host(self.asked)
        self._granted = bool(self._ballot if isinstance(ballot, jax.Array) else ballot)
        self._ballot = ballot
        return self._granted

    def raise_if_agreed(self) -> None:
        """For long work to call between its batches, equally often on every host."""
        if self.agreed():
            raise StopRequested

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            # None: not a Python handler, such as jax.distributed's for SIGTERM; it cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@dataclass(frozen=True)
class LoopHooks:
    """Functions that the loop calls."""

    batch: Callable[[int], Any]
    """Batch number → host batch of this process; runs in a thread, one batch ahead."""
    put: Callable[[Any], Any]
    """Host batch → device batch."""
    step: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]
    units: str
    """The metric by which speed is measured: "tokens", or "responses" where features are cached."""
    rows: Callable[[Any], np.ndarray]
    """Host batch → index in the data of each example, −1 on padding; shaped like the metric "example_loss"."""
    name_rows: Callable[[np.ndarray], str]
    """Such indices → text that names their places in the data."""
    evaluate: Callable[[TrainState], dict[str, dict[str, Any]]]
    """State → {eval set: figures}; {} when there is nothing to evaluate. May raise StopRequested."""
    save: Callable[[TrainState, dict[str, dict[str, Any]]], None]


@dataclass(frozen=True)
class LoopPlan:
    """How long a loop runs, and how often it logs, evaluates and saves."""

    steps: int
    log_every: int
    eval_every: int
    save_every: int
    learning_rate: Callable[[int], ArrayLike]
    shown: tuple[str, ...] = ("loss", "accuracy")
    """Metrics of the progress line."""
    evaluate_first: bool = False
    """Whether to evaluate the first state, whose evaluation a signal interrupted."""
    hardware_flops: float | None = None
    """FLOPs executed per step. The FLOPs required are in the metric "model_flops"."""
    peak_flops: float | None = None
    """FLOP/s of all devices together; None if unknown, and no utilisation is then given."""


@dataclass
class _Pending:
    """A dispatched step whose metrics are not read yet."""

    step: int
    metrics: dict[str, jax.Array]
    rows: np.ndarray
    ended: float | None
    """Time at which the step was done, if that is known already."""


def _is_ready(array: Any) -> bool:
    """Whether an array is computed; jax.Array has the method, but does not declare it."""
    return array.is_ready()


class Loop:
    """Runs a plan from a state, in the order of the module's docstring."""

    def __init__(self, hooks: LoopHooks, plan: LoopPlan, writer: MetricsWriter, stop: StopRequest):
        self._hooks, self._plan, self._writer, self._stop = hooks, plan, writer, stop
        self._pending: _Pending | None = None
        self.speed = Speed(hooks.units, plan.hardware_flops, plan.peak_flops)
        self.evaluation: dict[str, dict[str, Any]] = {}

    def run(self, state: TrainState) -> tuple[TrainState, Literal["finished", "interrupted"]]:
        """Returns the last state, which is saved, and why the loop stopped.

        Raises:
          TrainingDiverged: at a NaN or infinite loss or gradient; checkpoints from before it are kept.
        """
        plan, first = self._plan, int(state.step)
        self._bar = ProgressBar("train", plan.steps, first)

        def due(every: int, done: int) -> bool:
            return done == plan.steps or bool(every and done % every == 0)

        self.speed.start()
        try:
            if plan.evaluate_first and due(plan.eval_every, first):
                if evaluated := self._evaluate(state, first):
                    self._hooks.save(state, evaluated)
                if self._stop.agreed():
                    return state, "interrupted"
            with ThreadPoolExecutor(1) as reader:
                ahead = reader.submit(self._hooks.batch, first) if first < plan.steps else None
                for n in range(first, plan.steps):
                    assert ahead is not None  # submitted before this step, or in the step before
                    batch = ahead.result()
                    if n + 1 < plan.steps:
                        ahead = reader.submit(self._hooks.batch, n + 1)
                    state = self._dispatch(state, batch, n)
                    done = n + 1
                    evaluated = self._evaluate(state, done) if due(plan.eval_every, done) else {}
                    stopping = self._stop.agreed()
                    if stopping or evaluated or due(plan.save_every, done):
                        self._read_pending()
                        self._hooks.save(state, evaluated)
                        self.speed.start()
                    if stopping:
                        return state, "interrupted"
            return state, "finished"
        finally:
            self._bar.close()

    def _dispatch(self, state: TrainState, batch: Any, n: int) -> TrainState:
        before = self._pending
        if before is not None and before.ended is None and _is_ready(before.metrics["loss"]):
            before.ended = time.monotonic()  # its metrics are read only after the next step is dispatched
        state, metrics = self._hooks.step(state, self._hooks.put(batch))
        # A backend that computes before it returns is done now, not when its metrics are read.
        ended = time.monotonic() if _is_ready(metrics["loss"]) else None
        previous, self._pending = self._pending, _Pending(n + 1, metrics, self._hooks.rows(batch), ended)
        self._read(previous)
        return state

    def _evaluate(self, state: TrainState, done: int) -> dict[str, dict[str, Any]]:
        self._read_pending()
        try:
            self.evaluation = self._hooks.evaluate(state)
        except StopRequested:
            return {}
        finally:
            self.speed.start()
        if self.evaluation:
            self._writer.write(done, {"eval": self.evaluation})
        return self.evaluation

    def _read_pending(self) -> None:
        pending, self._pending = self._pending, None
        self._read(pending)

    def _read(self, pending: _Pending | None) -> None:
        """Fetches one step's metrics, refuses a loss that is not finite, and logs them."""
        if pending is None:
            return
        values = {name: float(value) for name, value in pending.metrics.items() if value.ndim == 0}
        ended = pending.ended or time.monotonic()
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise TrainingDiverged(self._explain(pending, values))
        values |= self.speed.step(values, ended)
        values["learning_rate"] = float(np.asarray(self._plan.learning_rate(pending.step - 1)))
        if pending.step % self._plan.log_every == 0 or pending.step == self._plan.steps:
            self._writer.write(pending.step, values)
            shown = (*self._plan.shown, f"{self._hooks.units}_per_second", "mfu")
            self._bar.update(
                pending.step, {name.replace("_per_second", "/s"): values[name] for name in shown if name in values}
            )

    def _explain(self, pending: _Pending, values: dict[str, float]) -> str:
        losses = np.asarray(pending.metrics["example_loss"])
        # The rows of all hosts in the batch's order, as the losses are.
        rows = on_every_host(self._hooks.put(pending.rows))
        culprits = rows[~np.isfinite(losses) & (rows >= 0)]
        where = self._hooks.name_rows(culprits if culprits.size else rows[rows >= 0])
        which = "rows with a bad loss" if culprits.size else "every loss is finite; rows of the batch"
        return (
            f"step {pending.step}: loss {values['loss']}, gradient norm {values['gradient_norm']}; {which}: {where}; "
            f"the last checkpoint is from before this step"
        )
