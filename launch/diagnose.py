"""What accuracies do not say of a preference model: cycles, its gate and blocks, length, order, cost.

    python launch/diagnose.py --model=runs/gpm/model --data=pairs.jsonl --out=runs/gpm/diagnosis.json
    python launch/diagnose.py --model=runs/gpm/model --ratings=rated.jsonl --out=runs/gpm/diagnosis.json
    python launch/diagnose.py --records=runs/gpm/diagnosis.groups.jsonl

Rows that share a prompt become one group and every pair in it is judged. Prints a table; writes the summary
(diagnosis.json) and every group's scores, embeddings and gate (diagnosis.groups.jsonl, as they come: started again, it
goes on where it stopped). --records summarises such a file once more, without a model. --ratings names rows with ratings
of responses, {"prompt", "responses", "ratings": {aspect: [numbers]}} or UltraFeedback's: does a block go with an aspect?
"""

import sys

from absl import app, flags, logging
from rich.console import Console

from gpmjax.data.questions import ORDERS
from gpmjax.evals.diagnostics.diagnose import BREAKDOWN
from gpmjax.evals.diagnostics.run import DiagnosisPlan, diagnose_file, diagnose_model
from gpmjax.evals.diagnostics.table import diagnosis_table
from gpmjax.evals.open_judge import JudgePlan
from gpmjax.evals.report import groups_path
from gpmjax.models.heads import GATES, HEADS, KINDS, MLP_ACTIVATIONS, NORMALISATIONS

MODEL = flags.DEFINE_string("model", None, "Model directory, hub id or .gguf file.")
RECORDS = flags.DEFINE_string("records", None, "A FILE.groups.jsonl to summarise, in place of --model.")
DATA = flags.DEFINE_string("data", None, "File, hub id or builtin: set, perhaps with ?column=value.")
RATINGS = flags.DEFINE_string("ratings", None, "Rows with ratings of --data's responses, or to judge without --data.")
OUT = flags.DEFINE_string("out", None, "Summary file, ending in .json; per-group records go beside it.")
MAX_LENGTH = flags.DEFINE_integer("max_length", 2048, "Tokens of a prompt with one response; longer ones are cut.", 2)
ROWS = flags.DEFINE_integer("rows_per_batch", 8, "Rows of a batch; changes memory and speed, not scores.", 1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "What the backbone computes in.")
TEMPLATE = flags.DEFINE_enum("template", "chat", ["chat", "raw"], "How prompt and response become text.")
ORDER = flags.DEFINE_enum("order", "both", ORDERS, "Of the two responses put to a pairwise model; shuffled: half the work.")
BY = flags.DEFINE_list("by", list(BREAKDOWN), "Columns to break the figures down by.")
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
    if (MODEL.value is None) == (RECORDS.value is None):
        sys.exit("error: needs --model or --records, and not both")
    if MODEL.value is not None and OUT.value is None:
        sys.exit("error: --model needs --out")
    declare = {name: flag.value for name, flag in DECLARED.items() if flag.value is not None}
    judge = JudgePlan(
        MODEL.value or "", declare, MAX_LENGTH.value, ROWS.value, DTYPE.value, TEMPLATE.value, ORDER.value
    )
    try:
        if RECORDS.value is not None:
            summary = diagnose_file(RECORDS.value, OUT.value, by=tuple(BY.value))
        else:
            summary = diagnose_model(DiagnosisPlan(judge, DATA.value, RATINGS.value, tuple(BY.value)), OUT.value)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; groups so far are in {groups_path(OUT.value)}" if MODEL.value else "interrupted")
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nothing is gained by folding the table at 80 columns.
        console = Console(width=160)
    subject = RECORDS.value or f"{MODEL.value} on {DATA.value or RATINGS.value}"
    console.print(diagnosis_table(summary, title=subject))


if __name__ == "__main__":
    app.run(main)
