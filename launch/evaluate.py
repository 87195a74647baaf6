"""Measure a saved preference model on labelled comparisons.

    python launch/evaluate.py --model=runs/gpm/model --data=pairs.jsonl --out=runs/gpm/dev.json

prints a table and writes the summary (dev.json) and every comparison's score (dev.rows.jsonl, as they come). For a
published checkpoint that does not say how its head is read, say it: --gate=softmax --normalise=l2 --tau=0.1.
"""

import sys

from absl import app, flags, logging
from rich.console import Console

from gpmjax.evals.evaluate import EvaluationPlan, evaluate
from gpmjax.evals.report import rows_path
from gpmjax.evals.table import summary_table
from gpmjax.models.heads import GATES, KINDS, MLP_ACTIVATIONS, NORMALISATIONS

MODEL = flags.DEFINE_string("model", None, "Model directory, hub id or .gguf file.", required=True)
DATA = flags.DEFINE_string("data", None, "File, hub id or builtin: set, perhaps with ?column=value.", required=True)
OUT = flags.DEFINE_string("out", None, "Summary file, ending in .json; per-row scores go beside it.")
MAX_LENGTH = flags.DEFINE_integer("max_length", 2048, "Tokens of a prompt with one response; longer ones are cut.", 2)
ROWS = flags.DEFINE_integer("rows_per_batch", 8, "Rows of a batch; changes memory and speed, not scores.", 1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "What the backbone computes in.")
TEMPLATE = flags.DEFINE_enum("template", "chat", ["chat", "raw"], "How prompt and response become text.")
BY = flags.DEFINE_list("by", ["subset", "group"], "Columns to break the figures down by.")
# Declarations, for checkpoints that make none.
DECLARED = {
    "kind": flags.DEFINE_enum("kind", None, KINDS, "Which kind of preference model it is."),
    "gate": flags.DEFINE_enum("gate", None, GATES, "How the scale gate's logits are read."),
    "normalise": flags.DEFINE_enum("normalise", None, NORMALISATIONS, "Whether embeddings have unit length."),
    "tau": flags.DEFINE_float("tau", None, "Temperature of the probability σ(s/τ)."),
    "mlp_activation": flags.DEFINE_enum("mlp_activation", None, list(MLP_ACTIVATIONS), "Activation of an MLP head."),
}


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # jax tells of every backend that is not there
    declare = {name: flag.value for name, flag in DECLARED.items() if flag.value is not None}
    plan = EvaluationPlan(
        MODEL.value, DATA.value, declare, MAX_LENGTH.value, ROWS.value, DTYPE.value, TEMPLATE.value, tuple(BY.value)
    )
    try:
        summary = evaluate(plan, OUT.value)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; scores so far are in {rows_path(OUT.value)}" if OUT.value else "interrupted")
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nothing is gained by folding the table at 80 columns.
        console = Console(width=160)
    console.print(summary_table(summary, title=f"{plan.model} on {plan.data}"))


if __name__ == "__main__":
    app.run(main)
