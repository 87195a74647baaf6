"""Where a run's numbers go: ``metrics.jsonl`` (one JSON object a line) and TensorBoard.

Of several hosts the first one alone writes; on the others all of this does nothing.

A training line is ``{"step", "loss", "accuracy", …}``, an evaluation line ``{"step", "eval": {name: {…}}}``.
"""

import json
import math
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from gpmjax import files
from gpmjax.distributed import is_first_host


def write_json(path: Path, value: Any) -> Any:
    """``files.write_json`` by the first host alone; every host gets the value as a reader will see it."""
    return files.write_json(path, value) if is_first_host() else json.loads(json.dumps(value))


class MetricsWriter:
    """Appends to ``workdir/metrics.jsonl`` and ``workdir/tensorboard``.

    Args:
      resumed_step: lines of later steps are dropped, since those steps are about to be run again.
    """

    def __init__(self, workdir: Path, resumed_step: int = 0):
        self._open = is_first_host()
        if not self._open:
            return
        self._path = Path(workdir) / "metrics.jsonl"
        kept = [line for line in self._complete_lines() if json.loads(line)["step"] <= resumed_step] if resumed_step else []
        self._path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._tensorboard = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=resumed_step + 1)

    def _complete_lines(self) -> list[str]:
        """A run killed in the middle of a line leaves its stump at the end of the file."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def write(self, step: int, values: dict[str, Any]) -> None:
        if not self._open:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in _scalars(values):
            self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        if self._open:
            self._file.close()
            self._tensorboard.close()


def _scalars(values: dict[str, Any], prefix: str = ""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}{name}", value


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``."""
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
