"""Checkpoints of a run: Orbax behind five methods.

A checkpoint is a composite: ``params`` apart from ``optimizer`` (a reader of weights never touches moments), and
``record``, a JSON object with what gives them meaning (declared heads, seed, data plan). The data's state is the step
itself. Only what trains is saved: frozen parameters come from the model's source again.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint import checkpoint_managers as policies

from gpmjax.config import CheckpointConfig
from gpmjax.sharding import path_name
from gpmjax.train.state import TrainState, state_shardings


class Checkpoints:
    """Checkpoints under ``directory``: the newest ``keep``, and the best one by the eval metric.

    Writes are asynchronous and atomic: a step's directory takes its name when all of it is on disk, so a run killed
    in the middle of a save resumes from the one before. Close it (it is a context manager) to wait for the last write.
    """

    def __init__(self, directory: Path, config: CheckpointConfig):
        self._metric = config.metric
        keep = [policies.LatestN(config.keep)]
        keep.append(policies.BestN(get_metric_fn=self._rank, n=1, keep_checkpoints_without_metrics=False))
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(),
            # Named here so that metadata can be read before anything is saved or restored.
            item_handlers={
                "params": ocp.StandardCheckpointHandler(),
                "optimizer": ocp.StandardCheckpointHandler(),
                "record": ocp.JsonCheckpointHandler(),
            },
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
        self._manager.close()

    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the best eval metric, or None when none was evaluated."""
        return self._manager.best_step()

    def save(self, state: TrainState, record: dict[str, Any], metrics: dict[str, float] | None = None) -> None:
        """Starts writing ``state``; a step that is already saved is left as it is.

        Raises:
          OSError: when the disk refuses (full, read-only), naming the step and the directory.
        """
        step = int(state.step)
        if step == self.latest():
            return
        with self._naming(step):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    optimizer=ocp.args.StandardSave(state.optimizer),
                    record=ocp.args.JsonSave(record),
                ),
                metrics=metrics,
            )

    def wait(self) -> None:
        """Returns when every started write is on disk; raises what went wrong in the background."""
        with self._naming(self.latest()):
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _naming(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # TensorStore reports a full disk as ValueError or XlaRuntimeError, with the errno's text inside.
            reason = str(error).strip().splitlines()[0]
            raise OSError(
                f"{self._manager.directory}: could not save the checkpoint of step {step} ({reason}); "
                f"earlier checkpoints are untouched"
            ) from error

    def record(self, step: int) -> dict[str, Any]:
        """The JSON object saved with ``step``."""
        return self._restore(step, record=ocp.args.JsonRestore())["record"]

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> TrainState:
        """The state at ``step``, laid out for ``mesh`` (which may differ from the mesh it was saved on).

        Args:
          like: a state of the same model and optimiser, or its shapes.

        Raises:
          ValueError: naming the first parameter whose shape differs from the saved one, or that is not there.
        """
        shapes = jax.eval_shape(lambda state: state, like)
        self._check_shapes(step, shapes.params)
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            state_shardings(shapes, mesh),
        )
        saved = self._restore(
            step,
            params=ocp.args.StandardRestore(target.params),
            optimizer=ocp.args.StandardRestore(target.optimizer),
        )
        step_array = jax.device_put(jax.numpy.asarray(step, jax.numpy.int32), target.step.sharding)
        return TrainState(step_array, saved["params"], saved["optimizer"])

    def _restore(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, FileNotFoundError, KeyError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{self._manager.directory / str(step)}: broken checkpoint ({reason}); "
                f"delete this directory to resume from the one before"
            ) from error

    def _check_shapes(self, step: int, expected: Any) -> None:
        """Orbax would pad or truncate in silence."""
        saved = self._saved_shapes(step)
        wanted = {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(expected)}
        for name in sorted(wanted | saved):
            if wanted.get(name) != saved.get(name):
                raise ValueError(
                    f"{self._manager.directory / str(step)}: parameter {name} has shape "
                    f"{saved.get(name, 'none (absent)')} there and {wanted.get(name, 'none (absent)')} in this model; "
                    f"use the config that the run began with, or a new --workdir"
                )

    def _saved_shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        try:
            metadata = self._manager.item_metadata(step)["params"].tree
        except Exception as error:
            raise ValueError(
                f"{self._manager.directory / str(step)}: broken checkpoint (no readable params metadata); "
                f"delete this directory to resume from the one before"
            ) from error
        return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(metadata)}
