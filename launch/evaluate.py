"""Measure a saved preference model on labelled comparisons, or on a published benchmark.

    python launch/evaluate.py --model=runs/gpm/model --data=pairs.jsonl --out=runs/gpm/dev.json

prints a table and writes the summary (dev.json) and every comparison's score (dev.rows.jsonl, as they come).

    python launch/evaluate.py --model=runs/gpm/model --benchmark=rewardbench --data=allenai/reward-bench --out=rb.json

reads rows in the benchmark's own format (a file, directory or hub id) and writes the summary (rb.json) and every row's
matrix of scores (rb.groups.jsonl, as they come).

For a published checkpoint that does not say how its head is read, say it: --gate=softmax --normalise=l2 --tau=0.1. Any
language model is a judge when it is asked: --model=smollm2 --head=verdict --question=yes_or_no (or a_or_b, which reads
both), and it may think first: --rationales=8 (GenRM-CoT). Interrupted, the same command goes on.
"""

import sys

from absl import app, flags, logging
from rich.console import Console, RenderableType

from gpmjax.data.questions import ORDERS
from gpmjax.evals.benchmarks import AGGREGATIONS, BENCHMARKS, run_benchmark
from gpmjax.evals.benchmarks.table import benchmark_table
from gpmjax.evals.evaluate import EvaluationPlan, evaluate
from gpmjax.evals.open_judge import JudgePlan, open_judge
from gpmjax.evals.pairwise_judge import SYMMETRIES
from gpmjax.evals.rationales import VOTES, RationalePlan
from gpmjax.evals.report import groups_path, rows_path
from gpmjax.evals.table import summary_table
from gpmjax.models.heads import GATES, HEADS, KINDS, MLP_ACTIVATIONS, NORMALISATIONS

MODEL = flags.DEFINE_string("model", None, "Model directory, hub id or .gguf file.", required=True)
DATA = flags.DEFINE_string("data", None, "File, hub id or builtin: set, perhaps with ?column=value.", required=True)
BENCHMARK = flags.DEFINE_enum("benchmark", None, list(BENCHMARKS), "Whose rows --data holds, and whose figures to give.")
AGGREGATION = flags.DEFINE_enum(
    "aggregation", "mean_score", AGGREGATIONS, "How a matrix of scores becomes a best of four (rewardbench2)."
)
OUT = flags.DEFINE_string("out", None, "Summary file, ending in .json; per-row scores go beside it.")
MAX_LENGTH = flags.DEFINE_integer("max_length", 2048, "Tokens of a prompt with one response; longer ones are cut.", 2)
ROWS = flags.DEFINE_integer("rows_per_batch", 8, "Rows of a batch; changes memory and speed, not scores.", 1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "What the backbone computes in.")
TEMPLATE = flags.DEFINE_enum("template", "chat", ["chat", "raw"], "How prompt and response become text.")
ORDER = flags.DEFINE_enum("order", "both", ORDERS, "Of the two responses put to a pairwise model; shuffled: half the work.")
SYMMETRY = flags.DEFINE_enum("symmetry", "average", SYMMETRIES, "Of a pairwise model asked in both orders (benchmarks).")
RATIONALES = flags.DEFINE_integer("rationales", 0, "Sample so many before each verdict (GenRM-CoT); 0: answer at once.", 0)
VOTE = flags.DEFINE_enum("vote", "mean", VOTES, "Of the rationales' verdicts: their mean probability, or the majority's share.")
RATIONALE_TOKENS = flags.DEFINE_integer("rationale_tokens", 128, "At most so many tokens a rationale.", 1)
TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "At which rationales are sampled.", 0)
BY = flags.DEFINE_list("by", ["subset", "group"], "Columns to break the figures down by.")
# Declarations, for checkpoints that make none.
DECLARED = {
    "kind": flags.DEFINE_enum("kind", None, KINDS, "Which kind of preference model it is."),
    "gate": flags.DEFINE_enum("gate", None, GATES, "How the scale gate's logits are read."),
    "normalise": flags.DEFINE_enum("normalise", None, NORMALISATIONS, "Whether embeddings have unit length."),
    "tau": flags.DEFINE_float("tau", None, "Temperature of the probability σ(s/τ)."),
    "head": flags.DEFINE_enum("head", None, HEADS, "What is read; verdict: the next token's log-odds, of any language model."),
    "question": flags.DEFINE_string("question", None, "What it is asked: yes_or_no, a_or_b, …, or a template."),
    "verdicts": flags.DEFINE_list("verdicts", None, "The two answers that a verdict head compares, the favourable one first."),
    "mlp_activation": flags.DEFINE_enum("mlp_activation", None, list(MLP_ACTIVATIONS), "Activation of an MLP head."),
}


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # jax tells of every backend that is not there
    declare = {name: flag.value for name, flag in DECLARED.items() if flag.value is not None}
    thinking = RationalePlan(RATIONALES.value, RATIONALE_TOKENS.value, TEMPERATURE.value, vote=VOTE.value)
    judge = JudgePlan(
        model=MODEL.value,
        declare=declare,
        max_length=MAX_LENGTH.value,
        rows_per_batch=ROWS.value,
        dtype=DTYPE.value,
        template=TEMPLATE.value,
        order=ORDER.value,
        symmetry=SYMMETRY.value,
        rationales=thinking if RATIONALES.value else None,
    )
    try:
        table = _labelled(judge) if BENCHMARK.value is None else _benchmark(judge)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        records = rows_path if BENCHMARK.value is None else groups_path
        sys.exit(f"interrupted; the same command goes on from {records(OUT.value)}" if OUT.value else "interrupted")
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nothing is gained by folding the table at 80 columns.
        console = Console(width=160)
    console.print(table)


def _labelled(judge: JudgePlan) -> RenderableType:
    summary = evaluate(EvaluationPlan(judge, DATA.value, tuple(BY.value)), OUT.value)
    return summary_table(summary, title=f"{judge.model} on {DATA.value}")


def _benchmark(judge: JudgePlan) -> RenderableType:
    benchmark = BENCHMARKS[BENCHMARK.value]
    summary = run_benchmark(benchmark, open_judge(judge), DATA.value, OUT.value, aggregation=AGGREGATION.value)
    return benchmark_table(benchmark, summary, title=f"{judge.model} on {DATA.value}")


if __name__ == "__main__":
    app.run(main)
