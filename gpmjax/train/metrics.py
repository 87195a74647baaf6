"""Writes a run's metrics to ``metrics.jsonl`` (one JSON object a line) and TensorBoard.

Only the first host writes; on the others nothing happens.

A training line is ``{"step", "loss", "accuracy", …}``, an evaluation line ``{"step", "eval": {name: {…}}}``.
"""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpmjax import files
from gpmjax.distributed import is_first_host
from gpmjax.train.tensorboard import TensorBoard


def write_json_on_first_host(path: Path, value: Any) -> Any:
    """``files.write_json`` on the first host alone; every host gets the value as a reader of the file sees it."""
    return files.write_json(path, value) if is_first_host() else json.loads(json.dumps(value))


class MetricsWriter:
    """Appends to ``workdir/metrics.jsonl`` and ``workdir/tensorboard``.

    Args:
      resumed_step: lines of later steps are dropped, since those steps are run again.
    """

    def __init__(self, workdir: Path, resumed_step: int = 0):
        self._open = is_first_host()
        if not self._open:
            return
        self._path = Path(workdir) / "metrics.jsonl"
        kept = [line for line, step in self._complete_lines() if step <= resumed_step] if resumed_step else []
        with files.replacing(self._path) as partial:  # a kill or a full disk here loses no line
            partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._file = self._path.open("ab", buffering=0)
        self._tensorboard = TensorBoard(Path(workdir) / "tensorboard", purge_step=resumed_step + 1)

    def _complete_lines(self) -> Iterator[tuple[str, int]]:
        """Complete lines and their steps. A run killed while it wrote leaves part of a line at the end of the file."""
        text = self._path.read_bytes().decode(errors="replace") if self._path.exists() else ""
        for number, line in enumerate(text[: text.rfind("\n") + 1].split("\n")[:-1], start=1):
            try:
                yield line, int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError):
                logging.warning("%s:%d: garbled line, left out: %r", self._path, number, line[:60])

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Appends a line.

        Raises:
          OSError: the disk takes no more lines; names file and step. TensorBoard alone failing is no error.
        """
        if not self._open:
            return
        files.append_line(
            self._file, self._path, json.dumps({"step": step, **values}), f"the line of step {step} is not written"
        )
        self._tensorboard.write(step, _scalars(values))

    def close(self) -> None:
        if self._open:
            self._file.close()
            self._tensorboard.close()


def _scalars(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}{name}", value


def metric_lines(workdir: Path) -> list[dict[str, Any]]:
    """The records of a run's ``metrics.jsonl``."""
    return files.read_json_lines(Path(workdir) / "metrics.jsonl")
