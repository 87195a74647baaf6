"""A saved model on a labelled set: load, score, write, summarise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from gpmjax.data.chat import ChatFormat
from gpmjax.evals.held_out import HeldOut, held_out
from gpmjax.evals.preference import BREAKDOWN
from gpmjax.evals.protocol import make_scorer
from gpmjax.evals.report import RowsFile, rows_path
from gpmjax.files import write_json
from gpmjax.hub import load_preference_model
from gpmjax.models.config import Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.sharding import make_mesh, place_leaf

# A summary names this many dropped comparisons and counts the rest.
NAMED = 100


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure and how; everything that could move a figure is recorded in the summary."""

    model: str
    """Anything `gpmjax.hub.open_source` opens."""
    data: str
    """Anything `gpmjax.data.read_groups` reads."""
    declare: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the preference head that the checkpoint does not say itself: gate, normalise, tau, …"""
    max_length: int = 2048
    rows_per_batch: int = 8
    dtype: str = "float32"
    template: str = "chat"
    by: tuple[str, ...] = BREAKDOWN


def evaluate(plan: EvaluationPlan, out: str | Path | None = None) -> dict[str, Any]:
    """Measure ``plan.model`` on ``plan.data``; returns the summary.

    With ``out``, records go to `report.rows_path(out)` as they come and the summary to ``out`` at the end.

    Raises:
      FileNotFoundError, ValueError: one line naming the file, field or row, and what is allowed.
    """
    if out is not None and Path(out).suffix != ".json":
        raise ValueError(f"out={str(out)!r}: must end in .json; per-row scores go beside it in .rows.jsonl")
    runtime = Runtime(dtype=plan.dtype).validate()
    mesh = make_mesh()
    loaded = load_preference_model(plan.model, dict(plan.declare), place_leaf(mesh))
    rows = -(-plan.rows_per_batch // mesh.size) * mesh.size
    chat = ChatFormat(loaded.tokenizer, template=plan.template)
    data = held_out(plan.data, chat, max_length=plan.max_length, rows_per_batch=rows)
    scorer = make_scorer(PreferenceModel(loaded.config, loaded.spec, runtime), loaded.params, mesh)
    batches = track(data.batches(), "scoring", total=data.steps, console=Console(stderr=True))
    if out is None:
        figures = data.measure(scorer, batches, by=plan.by)
    else:
        with RowsFile(rows_path(out)) as records:
            figures = data.measure(scorer, batches, by=plan.by, sink=records.write)
    summary = {**_described(plan, data), "spec": loaded.spec.to_dict(), **figures}
    if out is not None:
        write_json(out, summary)
    return summary


def _described(plan: EvaluationPlan, data: HeldOut) -> dict[str, Any]:
    truncated = sum(known.truncated for known in data.facts.values())
    return {
        "model": plan.model,
        "data": plan.data,
        "max_length": plan.max_length,
        "template": plan.template,
        "dtype": plan.dtype,
        "rows": {
            "read": len(data.facts) + len(data.dropped),
            "scored": len(data.facts),
            "truncated": truncated,
            "dropped": len(data.dropped),
            "dropped_at": list(data.dropped[:NAMED]),
        },
        "encoding": data.report._asdict(),
    }
