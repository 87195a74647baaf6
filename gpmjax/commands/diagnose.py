"""What accuracies do not say of a preference model: cycles, its gate and blocks, length, order, cost.

    gpmjax diagnose --model=runs/gpm/model --data=pairs.jsonl --out=runs/gpm/diagnosis.json
    gpmjax diagnose --model=runs/gpm/model --ratings=rated.jsonl --out=runs/gpm/diagnosis.json
    gpmjax diagnose --records=runs/gpm/diagnosis.groups.jsonl
    gpmjax diagnose --labels_only --data=pairs.jsonl

Rows that share a prompt become one group and every pair in it is judged. Prints a table; writes the summary
(diagnosis.json) and every group's scores, embeddings and gate (diagnosis.groups.jsonl, as they come: started again, it
goes on where it stopped). --records summarises such a file once more, without a model. --ratings names rows with
ratings of responses, {"prompt", "responses", "ratings": {aspect: [numbers]}} or UltraFeedback's: does a block go with
an aspect?

Are the cycles real? The labels are tested against Bradley–Terry with vote noise (gpmjax/preference/cycle_test.py),
alone and, with a model, for the cycles that it states; those labels must not be the ones that it was trained on.
--labels_only makes that test without a model. --replicates sets how many data sets of the null are made, 0 leaves the
test out.
"""

import sys

from absl import flags, logging

from gpmjax.config.flags import judge_flags
from gpmjax.evals.diagnostics.diagnose import BREAKDOWN
from gpmjax.evals.diagnostics.run import DiagnosisPlan, diagnose_file, diagnose_labels, diagnose_model
from gpmjax.evals.result_files import groups_path
from gpmjax.owner import owned_output
from gpmjax.preference.cycle_test import REPLICATES as DEFAULT_REPLICATES
from gpmjax.reports.terminal_tables.diagnosis import diagnosis_table, labels_table
from gpmjax.reports.terminal_tables.evaluation import table_console

RECORDS = flags.DEFINE_string("records", None, "A FILE.groups.jsonl to summarise, in place of --model.")
DATA = flags.DEFINE_string("data", None, "File, hub id or builtin: set, perhaps with ?column=value.")
RATINGS = flags.DEFINE_string("ratings", None, "Rows with ratings of --data's responses, or to judge without --data.")
OUT = flags.DEFINE_string("out", None, "Summary file, ending in .json; per-group records go beside it.")
BY = flags.DEFINE_list("by", list(BREAKDOWN), "Columns to break the figures down by.")
LABELS_ONLY = flags.DEFINE_bool("labels_only", False, "Test the labels of --data for cycles, without a model.")
REPLICATES = flags.DEFINE_integer(
    "replicates", DEFAULT_REPLICATES, "Of the null of the tests of cycles; 0: no test.", 0
)
JUDGE = judge_flags()


def diagnosis() -> dict:
    """The summary that the flags ask for."""
    if LABELS_ONLY.value:
        return diagnose_labels(DATA.value, OUT.value, replicates=REPLICATES.value)
    if RECORDS.value is not None:
        return diagnose_file(RECORDS.value, OUT.value, by=tuple(BY.value), replicates=REPLICATES.value)
    plan = DiagnosisPlan(JUDGE().beside(OUT.value), DATA.value, RATINGS.value, tuple(BY.value), REPLICATES.value)
    return diagnose_model(plan, OUT.value)


def main(_: list[str]) -> None:
    """Writes and prints the diagnosis."""
    logging.set_verbosity(logging.WARNING)  # JAX warns of every backend that the machine lacks
    judge = JUDGE().label
    if LABELS_ONLY.value and (DATA.value is None or judge or RECORDS.value is not None):
        sys.exit("error: --labels_only needs --data, and neither --model nor --records")
    if LABELS_ONLY.value and not REPLICATES.value:
        sys.exit("error: --replicates=0: --labels_only needs at least 1")
    if not LABELS_ONLY.value and bool(judge) == bool(RECORDS.value):
        sys.exit("error: needs --model or --records, and not both; or --labels_only")
    if judge and OUT.value is None:
        sys.exit("error: --model needs --out")
    try:
        with owned_output(OUT.value, (".json",)):
            summary = diagnosis()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; groups so far are in {groups_path(OUT.value)}" if judge else "interrupted")
    if LABELS_ONLY.value:
        table_console().print(labels_table(summary, title=DATA.value))
        print(summary["cycles"]["labels"]["text"])
        return
    subject = RECORDS.value or f"{judge} on {DATA.value or RATINGS.value}"
    table_console().print(diagnosis_table(summary, title=subject))
    for found in (summary["diagnosis"]["cycles"] or {}).values():
        print(found["text"])
