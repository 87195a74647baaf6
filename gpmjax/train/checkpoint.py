"""Checkpoints of a run, written and read by Orbax.

A checkpoint has three items: ``params``, ``optimizer`` (so a reader of weights never reads moments), and ``record``,
a JSON object with the facts that give them meaning (train.record) and a digest of their bits. The state of the data
is the step number. Only trained parameters are saved: frozen ones are read from the model's source again.

A checkpoint is broken if it cannot be read, or if its bits are not those that were saved; the run then goes on from the
checkpoint before it. A whole checkpoint of another model or optimiser is not broken: it is refused.
"""

import contextlib
import gc
import inspect
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint import checkpoint_managers as policies

from gpmjax.config import CheckpointConfig
from gpmjax.distributed import any_host, is_first_host
from gpmjax.files import write_json
from gpmjax.sharding import path_name
from gpmjax.train.digest import digest
from gpmjax.train.state import TrainState, state_shardings

HANDLERS: dict[str, Callable[[], Any]] = {
    "params": ocp.StandardCheckpointHandler,
    "optimizer": ocp.StandardCheckpointHandler,
    "record": ocp.JsonCheckpointHandler,
}
METRICS = "metrics"
"""Name of the file with the figures that Orbax ranks a checkpoint by: STEP/metrics/metrics."""


class BrokenCheckpoint(ValueError):
    """A checkpoint that cannot be read, or whose bits are not those that were saved; one line."""


class Checkpoints:
    """Checkpoints under ``directory``: the newest ``keep``, and the best one by the evaluation's metric.

    Writes are asynchronous and atomic: a step's directory takes its name when all of it is on disk, so a run killed
    during a save resumes from the checkpoint before. Leaving the context manager waits for the last write.
    """

    def __init__(self, directory: Path, config: CheckpointConfig):
        self._metric = config.metric
        self._directory = Path(directory).absolute()
        self._saving: int | None = None
        logging.getLogger("absl").addFilter(_heard)
        _forget_garbled_metrics(self._directory)
        keep: list[Any] = [policies.LatestN(config.keep)]
        keep.append(policies.BestN(get_metric_fn=self._rank, n=1, keep_checkpoints_without_metrics=False))
        self._manager = ocp.CheckpointManager(
            self._directory,
            # Named here so that metadata can be read before anything is saved or restored.
            item_handlers={name: handler() for name, handler in HANDLERS.items()},
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(keep),
                best_fn=self._rank,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
            ),
        )

    def _rank(self, metrics: dict[str, float]) -> float:
        """Higher is better, whatever the metric."""
        sign = -1.0 if self._metric == "nll" else 1.0
        return sign * metrics[self._metric]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        quiet = contextlib.nullcontext() if exception[0] is None else contextlib.suppress(Exception)
        with quiet, self._naming(self._saving):
            self._manager.close()

    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the best eval metric, or None when none was evaluated."""
        return self._manager.best_step()

    def save(self, state: TrainState, record: dict[str, Any], metrics: dict[str, float] | None = None) -> None:
        """Starts writing ``state`` and the ``metrics`` that rank it; of a step that is saved already, only the metrics.

        Raises:
          OSError: the disk does not take it (full, read-only); names the step and the directory.
        """
        step = int(state.step)
        if step == self.latest():
            return self._rank_later(step, metrics)
        self._finish_saving()
        self._saving = step
        bits = {"params": digest(state.params), "optimizer": digest(state.optimizer)}
        with self._naming(step):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    optimizer=ocp.args.StandardSave(state.optimizer),
                    record=ocp.args.JsonSave(record | {"digest": bits}),
                ),
                metrics=metrics,
            )

    def _rank_later(self, step: int, metrics: dict[str, float] | None) -> None:
        """Ranks a step that was saved without figures, because its evaluation was interrupted."""
        if metrics is None or self.metrics(step) is not None:
            return
        self.wait()
        if is_first_host():
            write_json(self._directory / str(step) / METRICS / METRICS, metrics)
        np.asarray(any_host(False))  # every host waits for the file
        self._manager.reload()

    def metrics(self, step: int) -> dict[str, float] | None:
        """The figures that rank ``step``; None if it was not evaluated."""
        return self._manager.metrics(step)

    def wait(self) -> None:
        """Waits until every started write is on disk; raises an error that happened in the background."""
        self._finish_saving()

    def _finish_saving(self) -> None:
        with self._naming(self._saving):
            self._manager.wait_until_finished()
        self._saving = None

    @contextlib.contextmanager
    def _naming(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # TensorStore reports a full disk as ValueError or XlaRuntimeError, with the errno's text inside.
            raise OSError(
                f"{self._directory}: could not save the checkpoint of step {step} ({_reason(error)}); "
                f"earlier checkpoints are untouched"
            ) from error

    def record(self, step: int) -> dict[str, Any]:
        """The JSON object saved with ``step``, the digest included.

        Raises:
          BrokenCheckpoint: it cannot be read.
        """
        record = self._read(step, "record", ocp.args.JsonRestore())
        if not isinstance(record, dict):
            raise BrokenCheckpoint(f"{self._directory / str(step)}: broken checkpoint (its record is no object)")
        return record

    def check_latest(self, check: Callable[[dict[str, Any]], None]) -> None:
        """Calls ``check`` with the newest record that can be read; it raises an error if the run may not go on from
        it."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            with contextlib.suppress(BrokenCheckpoint):
                return check(self.record(step))

    def resume(self, like: TrainState, mesh: Mesh) -> TrainState | None:
        """The state of the newest whole checkpoint; None when there is no checkpoint.

        Broken checkpoints are moved to a directory beside this one, with a warning.

        Raises:
          BrokenCheckpoint: none is whole.
          ValueError: it is of another model or optimiser; nothing is changed.
        """
        broken: list[tuple[int, BrokenCheckpoint]] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self.restore(step, like, mesh)
            except BrokenCheckpoint as error:
                broken.append((step, error))
                continue
            for number, error in broken:
                logging.warning(
                    "%s; going on from the one of step %d, the broken one is now %s",
                    error,
                    step,
                    self._set_aside(number),
                )
            if broken:
                np.asarray(any_host(False))  # every host waits for the moves
                self._manager.reload()
            return state
        if broken:
            step, error = broken[0]
            raise BrokenCheckpoint(f"{error}, and there is none before it; delete this directory to begin again")
        return None

    def _set_aside(self, step: int) -> Path:
        target = self._directory.with_name(f"{self._directory.name}.broken") / str(step)
        if is_first_host():
            target.parent.mkdir(exist_ok=True)
            while target.exists():
                target = target.with_name(target.name + "+")
            os.replace(self._directory / str(step), target)
        return target

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> TrainState:
        """The state at ``step``, laid out for ``mesh``, which may differ from the mesh that it was saved on.

        Args:
          like: a state of the same model and optimiser, or its shapes.

        Raises:
          ValueError: an array has another shape than the saved one, or is not there; names the first such array.
          BrokenCheckpoint: files are missing or damaged, on whichever host; the bits are not those that were saved.
        """
        shapes = jax.eval_shape(lambda state: state, like)
        self._check_shapes(step, "params", shapes.params)
        self._check_shapes(step, "optimizer", shapes.optimizer)
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            state_shardings(shapes, mesh),
        )
        saved, broken = {}, None
        try:
            saved = {
                name: self._read(step, name, ocp.args.StandardRestore(tree))
                for name, tree in (("params", target.params), ("optimizer", target.optimizer))
            }
        except BrokenCheckpoint as error:
            broken = error
        # One host may be alone in reading the damaged part.
        if np.any(np.asarray(any_host(broken is not None))):
            raise broken or BrokenCheckpoint(
                f"{self._directory / str(step)}: broken checkpoint (another host cannot read it)"
            )
        self._check_digest(step, saved)
        step_array = jax.device_put(jax.numpy.asarray(step, jax.numpy.int32), target.step.sharding)
        return TrainState(step_array, saved["params"], saved["optimizer"])

    def _check_digest(self, step: int, saved: dict[str, Any]) -> None:
        expected = self.record(step).get("digest")
        if expected is None:
            logging.warning(
                "%s: made before checkpoints had digests; its bits are not checked", self._directory / str(step)
            )
            return
        for name, tree in saved.items():
            if digest(tree) != expected.get(name):
                raise BrokenCheckpoint(
                    f"{self._directory / str(step)}: broken checkpoint "
                    f"(the bits of its {name} are not those that were saved)"
                )

    def _read(self, step: int, item: str, how: ocp.args.CheckpointArgs) -> Any:
        """Reads one item of a checkpoint. The manager is not used: its hosts wait for each other even if one fails."""
        with _unheard_late_reads():
            try:
                return HANDLERS[item]().restore(self._directory / str(step) / item, args=how)
            except Exception as error:  # TensorStore, Orbax, msgpack and JSON each have their own
                reason = _reason(error)
            gc.collect()  # the other reads, unfinished, complain now, while nobody hears them
            raise BrokenCheckpoint(f"{self._directory / str(step)}: broken checkpoint ({item}: {reason})")

    def _check_shapes(self, step: int, item: str, expected: Any) -> None:
        """Refuses another shape, which Orbax would pad or truncate without a word."""
        saved = self._saved_shapes(step, item)
        wanted = {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(expected)}
        kind = {"params": "parameter", "optimizer": "optimizer state"}[item]
        for name in sorted(wanted | saved):
            if wanted.get(name) != saved.get(name):
                raise ValueError(
                    f"{self._directory / str(step)}: {kind} {name} has shape "
                    f"{saved.get(name, 'none (absent)')} there and {wanted.get(name, 'none (absent)')} in this run; "
                    f"use the config that the run began with, or a new --workdir"
                )

    def _saved_shapes(self, step: int, item: str) -> dict[str, tuple[int, ...]]:
        try:
            metadata = HANDLERS[item]().metadata(self._directory / str(step) / item).tree
            return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(metadata)}
        except Exception as error:
            raise BrokenCheckpoint(
                f"{self._directory / str(step)}: broken checkpoint (no readable {item} metadata)"
            ) from error


def _reason(error: Exception) -> str:
    """The message of an exception of Orbax or TensorStore, without details that fill a screen."""
    if system := re.search(r"([^:]+) \[os_error_code", str(error)):
        return system[1].strip()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].partition(" See full TensorStore details")[0].rstrip(".")[:200] if lines else type(error).__name__


@contextlib.contextmanager
def _unheard_late_reads() -> Iterator[None]:
    """Silences the reads that Orbax leaves unfinished when it gives up at the first array that cannot be read.

    Each of them would print a traceback through Python's hook for exceptions that nobody can catch. The hook is put
    back when all goes well; else it leaves out these exceptions alone.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
        left = inspect.iscoroutine(unraisable.object) and "orbax" in unraisable.object.cr_code.co_filename
        if not (late or left):
            before(unraisable)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = before


def _heard(record: logging.LogRecord) -> bool:
    """Whether a line of absl's log is not Orbax's own: it logs six tracebacks for a failed save, which also raises."""
    return "/orbax/checkpoint/" not in record.pathname.replace(os.sep, "/")


def _forget_garbled_metrics(directory: Path) -> None:
    """Removes garbled metrics files: Orbax reads all of them when it starts, and fails at a damaged one."""
    for path in sorted(directory.glob(f"*/{METRICS}/{METRICS}")):
        try:
            ranked = all(isinstance(value, float) for value in json.loads(path.read_text(encoding="utf-8")).values())
        except (ValueError, AttributeError):
            ranked = False
        if not ranked and is_first_host():
            logging.warning("%s: garbled; the checkpoint is no longer ranked", path)
            path.unlink(missing_ok=True)
