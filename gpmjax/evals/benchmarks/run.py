"""Runs a judge on a benchmark: reads rows, judges, writes records, summarises, and resumes an interrupted run."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpmjax.data.groups import Group
from gpmjax.evals.benchmarks.aggregation import Aggregation
from gpmjax.evals.benchmarks.leaderboard import write_leaderboard
from gpmjax.evals.benchmarks.protocol import Benchmark, Judged, judged_record
from gpmjax.evals.benchmarks.reading import Examples, read_examples
from gpmjax.evals.order import order_figures
from gpmjax.evals.result_files import RowsFile, groups_path
from gpmjax.files import fingerprint, write_json
from gpmjax.judges.judge import Judge, group_record
from gpmjax.progress import track

# A summary names this many malformed rows. It counts all of them.
NAMED = 100


def run_benchmark(
    benchmark: Benchmark,
    judge: Judge,
    data: str,
    out: str | Path | None = None,
    *,
    aggregation: Aggregation = "mean_score",
) -> dict[str, Any]:
    """Measures ``judge`` on ``benchmark``; returns the summary.

    With ``out``, records are written to `result_files.groups_path(out)` one by one, and the summary to ``out`` at the
    end, with a copy in the authors' format where they have one (`leaderboard`). Records of an interrupted run of the
    same judge on the same rows are kept, and only the remaining rows are judged. A different ``aggregation`` uses the
    same records.

    Raises:
      FileNotFoundError, ValueError: one line naming the file, field or row, and the allowed values.
    """
    if out is not None and Path(out).suffix != ".json":
        raise ValueError(f"out={str(out)!r}: must end in .json; records go beside it in .groups.jsonl")
    examples = read_examples(benchmark, data)
    identity = {
        "judge": dict(judge.identity),
        "benchmark": benchmark.name,
        "data": data,
        "pairs": benchmark.pairs,
        "groups": fingerprint((), repr(examples.groups)),
    }
    with contextlib.nullcontext() if out is None else RowsFile(groups_path(out), identity) as file:
        records = _judge(benchmark, judge, examples.groups, file)
    both = zip(examples.groups, records, strict=True)
    judged = [judged_record(group, record, benchmark.pairs) for group, record in both]
    summary = {
        **_described(identity, examples, records),
        "counting": benchmark.counting,
        **_order(judged),
        **benchmark.summarise(judged, aggregation),
    }
    if out is not None:
        write_json(out, summary)
        if benchmark.leaderboard is not None:
            write_leaderboard(out, benchmark.leaderboard(judged, aggregation), judge.identity)
    return summary


def _judge(benchmark: Benchmark, judge: Judge, groups: Sequence[Group], file: RowsFile | None) -> list[dict[str, Any]]:
    """A record of each group. The first of them may be kept from an earlier run."""
    records = [] if file is None else list(file.kept)
    rest = groups[len(records) :]
    verdicts = track(judge(rest, benchmark.pairs), "judging", len(rest))
    for group, verdict in zip(rest, verdicts, strict=True):
        record = group_record(group, verdict)
        records.append(record)
        if file is not None:
            file.write(record)
    return records


def _order(judged: Sequence[Judged]) -> dict[str, Any]:
    """Position bias of a pairwise model on labelled comparisons; {} unless it judged all of them in both orders."""
    tables = [one.asked for one in judged if one.asked is not None]
    if len(tables) < len(judged):
        return {}
    pairs = zip(tables, judged, strict=True)
    comparisons = [(asked, c.chosen, c.rejected, c.target) for asked, one in pairs for c in one.group.comparisons]
    first, second, target = np.array([(r[i, j], r[j, i], target) for r, i, j, target in comparisons], np.float64).T
    if np.isnan(first + second).any():
        return {}
    return {"order": order_figures((first - second) / 2, first + second, target)}


def _described(identity: dict[str, Any], examples: Examples, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    judge = identity["judge"]
    return {
        "benchmark": identity["benchmark"],
        "model": judge.get("model"),
        "data": identity["data"],
        "pairs": identity["pairs"],
        "max_length": judge.get("max_length"),
        "judge": judge,
        "rows": {
            "read": len(examples.groups) + len(examples.malformed),
            "judged": len(records),
            "truncated": sum(record["truncated"] for record in records),
            "malformed": len(examples.malformed),
            "malformed_at": [row._asdict() for row in examples.malformed[:NAMED]],
        },
        "forward_tokens": sum(record["forward_tokens"] for record in records),
    }
