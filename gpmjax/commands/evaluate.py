"""Measure a saved preference model on labelled comparisons, or on a published benchmark.

    gpmjax evaluate --model=runs/gpm/model --data=pairs.jsonl --out=runs/gpm/dev.json

prints a table and writes the summary (dev.json) and every comparison's score (dev.rows.jsonl, as they come).

    gpmjax evaluate --model=runs/gpm/model --benchmark=rewardbench --data=allenai/reward-bench --out=rb.json

reads rows in the benchmark's own format (a file, directory or hub id) and writes the summary (rb.json) and every row's
matrix of scores (rb.groups.jsonl, as they come).

For a published checkpoint that does not say how its head is read, say it: --gate=softmax --normalise=l2 --tau=0.1. Any
language model is a judge when it is asked: --model=smollm2 --head=verdict --question=yes_or_no (or a_or_b, which reads
both), and it may think first: --rationales=8 (GenRM-CoT). Interrupted, the same command goes on.
"""

import sys

from absl import flags, logging
from rich.console import RenderableType

from gpmjax.config.flags import judge_flags
from gpmjax.config.judge import JudgeConfig
from gpmjax.evals.benchmarks import AGGREGATIONS, BENCHMARKS, run_benchmark
from gpmjax.evals.evaluate import EvaluationPlan, evaluate
from gpmjax.evals.result_files import groups_path, rows_path
from gpmjax.judges.open import open_judge
from gpmjax.owner import owned_output
from gpmjax.reports.terminal_tables.benchmark import benchmark_table
from gpmjax.reports.terminal_tables.evaluation import summary_table, table_console

DATA = flags.DEFINE_string("data", None, "File, hub id or builtin: set, perhaps with ?column=value.", required=True)
BENCHMARK = flags.DEFINE_enum(
    "benchmark", None, list(BENCHMARKS), "Whose rows --data holds, and whose figures to give."
)
AGGREGATION = flags.DEFINE_enum(
    "aggregation", "mean_score", AGGREGATIONS, "How a matrix of scores becomes a best of four (rewardbench2)."
)
OUT = flags.DEFINE_string("out", None, "Summary file, ending in .json; per-row scores go beside it.")
BY = flags.DEFINE_list("by", ["subset", "group"], "Columns to break the figures down by.")
JUDGE = judge_flags()


def main(_: list[str]) -> None:
    """Writes and prints the figures of the judge."""
    logging.set_verbosity(logging.WARNING)  # JAX warns of every backend that the machine lacks
    judge = JUDGE()
    try:
        with owned_output(OUT.value, (".json",)):
            table = _labelled(judge) if BENCHMARK.value is None else _benchmark(judge)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        records = rows_path if BENCHMARK.value is None else groups_path
        sys.exit(f"interrupted; the same command goes on from {records(OUT.value)}" if OUT.value else "interrupted")
    table_console().print(table)


def _labelled(judge: JudgeConfig) -> RenderableType:
    summary = evaluate(EvaluationPlan(judge, DATA.value, tuple(BY.value)), OUT.value)
    return summary_table(summary, title=f"{judge.label} on {DATA.value}")


def _benchmark(judge: JudgeConfig) -> RenderableType:
    benchmark = BENCHMARKS[BENCHMARK.value]
    summary = run_benchmark(
        benchmark, open_judge(judge.beside(OUT.value)), DATA.value, OUT.value, aggregation=AGGREGATION.value
    )
    return benchmark_table(benchmark, summary, title=f"{judge.label} on {DATA.value}")
