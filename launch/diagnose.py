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
from judge_flags import MODEL, judge_plan

from gpmjax.evals.diagnostics.diagnose import BREAKDOWN
from gpmjax.evals.diagnostics.run import DiagnosisPlan, diagnose_file, diagnose_model
from gpmjax.evals.diagnostics.table import diagnosis_table
from gpmjax.evals.report import groups_path
from gpmjax.evals.table import table_console
from gpmjax.owner import owned_output

RECORDS = flags.DEFINE_string("records", None, "A FILE.groups.jsonl to summarise, in place of --model.")
DATA = flags.DEFINE_string("data", None, "File, hub id or builtin: set, perhaps with ?column=value.")
RATINGS = flags.DEFINE_string("ratings", None, "Rows with ratings of --data's responses, or to judge without --data.")
OUT = flags.DEFINE_string("out", None, "Summary file, ending in .json; per-group records go beside it.")
BY = flags.DEFINE_list("by", list(BREAKDOWN), "Columns to break the figures down by.")


def diagnosis() -> dict:
    """The summary that the flags ask for."""
    if RECORDS.value is not None:
        return diagnose_file(RECORDS.value, OUT.value, by=tuple(BY.value))
    return diagnose_model(DiagnosisPlan(judge_plan(), DATA.value, RATINGS.value, tuple(BY.value)), OUT.value)


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # jax tells of every backend that is not there
    if (MODEL.value is None) == (RECORDS.value is None):
        sys.exit("error: needs --model or --records, and not both")
    if MODEL.value is not None and OUT.value is None:
        sys.exit("error: --model needs --out")
    try:
        with owned_output(OUT.value, (".json",)):
            summary = diagnosis()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; groups so far are in {groups_path(OUT.value)}" if MODEL.value else "interrupted")
    subject = RECORDS.value or f"{MODEL.value} on {DATA.value or RATINGS.value}"
    table_console().print(diagnosis_table(summary, title=subject))


if __name__ == "__main__":
    app.run(main)
