"""A saved model on a labelled set: load, score, write, summarise."""

import dataclasses
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import Comparison, Group
from gpmjax.evals.comparisons import BREAKDOWN, Kept, judged_comparisons, measure_scored
from gpmjax.evals.held_out import HeldOut, held_out
from gpmjax.evals.result_files import RowsFile, rows_path, source_identity
from gpmjax.files import write_json
from gpmjax.judges.judge import Judge
from gpmjax.judges.open import as_judge, open_model
from gpmjax.progress import track

# A summary names this many dropped comparisons and counts the rest.
NAMED = 100


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure and how; everything that could move a figure is recorded in the summary."""

    judge: JudgeConfig
    data: str
    """Anything `gpmjax.data.group_files.read_groups` reads."""
    by: tuple[str, ...] = BREAKDOWN


def evaluate(plan: EvaluationPlan, out: str | Path | None = None) -> dict[str, Any]:
    """Measure a model on ``plan.data``; returns the summary.

    With ``out``, records go to `report.rows_path(out)` as they come and the summary to ``out`` at the end. Called again
    after an interruption, it goes on from the records that are there.

    Raises:
      FileNotFoundError, ValueError: one line naming the file, field or row, and what is allowed.
    """
    if out is not None and Path(out).suffix != ".json":
        raise ValueError(f"out={str(out)!r}: must end in .json; per-row scores go beside it in .rows.jsonl")
    if not plan.judge.validate().model:
        raise ValueError(f"model='': must name a model; {plan.judge.label} judges benchmarks' rows alone")
    model = open_model(plan.judge)
    judge = as_judge(model, plan.judge)
    data = held_out(plan.data, model.format, max_length=model.max_length, rows_per_batch=model.rows_per_batch)
    if out is None:
        figures = _measure(plan, judge, data, Kept((), model.spec.tau), None)
    else:
        with RowsFile(rows_path(out), dict(judge.identity) | source_identity(plan.data)) as records:
            figures = _measure(plan, judge, data, Kept(records.kept, model.spec.tau), records.write)
    summary = {**_described(plan, model.max_length, data), "spec": model.spec.to_dict(), **figures}
    if out is not None:
        write_json(out, summary)
    return summary


def _measure(
    plan: EvaluationPlan, judge: Judge, data: HeldOut, kept: Kept, sink: Callable[[dict[str, Any]], None] | None
) -> dict[str, Any]:
    """Figures of all comparisons, of which only those that are not ``kept`` are put to the judge."""
    done = {record["row"] for record in kept.records}
    left = [dataclasses.replace(g, comparisons=c) for g in data.groups if (c := _undone(g, data.facts.keys() - done))]
    scored = track(judged_comparisons(judge, left), "judging", len(left))
    return measure_scored(scored, data.facts, by=plan.by, sink=sink, kept=kept)


def _undone(group: Group, rows: Set[int]) -> tuple[Comparison, ...]:
    return tuple(comparison for comparison in group.comparisons if comparison.number in rows)


def _described(plan: EvaluationPlan, max_length: int, data: HeldOut) -> dict[str, Any]:
    truncated = sum(known.truncated for known in data.facts.values())
    return {
        "model": plan.judge.model,
        "data": plan.data,
        "max_length": max_length,
        "template": plan.judge.template,
        "dtype": plan.judge.dtype,
        "rows": {
            "read": len(data.facts) + len(data.dropped),
            "scored": len(data.facts),
            "truncated": truncated,
            "dropped": len(data.dropped),
            "dropped_at": list(data.dropped[:NAMED]),
        },
        "encoding": data.report._asdict(),
    }
