"""Fit what a config describes, a preference model or a policy:

    gpmjax train --config=configs/gpm_smollm2.py --workdir=runs/gpm [--config.model.dim=4 …]
    gpmjax train --config=configs/gpo_smollm2.py --workdir=runs/gpo [--config.loss.beta=0.1 …]

The same command goes on with a run that was stopped. Every field is in gpmjax/config/fit.py and
gpmjax/config/improve.py.
"""

import dataclasses
import sys

from absl import flags, logging
from ml_collections import config_flags

from gpmjax.compilation_cache import keep_compiled
from gpmjax.config.improve import ImproveConfig
from gpmjax.distributed import initialize, is_first_host
from gpmjax.fit.fit import fit
from gpmjax.fit.regulariser import describe_choice
from gpmjax.improve.improve import improve
from gpmjax.reports.plots.folder import draw_run
from gpmjax.train.loop import TrainingDiverged

CONFIG = config_flags.DEFINE_config_file("config", None, "A file with get_config(), such as configs/demo.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, metrics, plots and the model go.", required=True)
CACHE = flags.DEFINE_string(
    "compilation_cache", "", "Where compiled programs are kept for the next run; empty: nowhere."
)


def main(_: list[str]) -> None:
    """Fits or improves what the config describes, draws it, and prints where the summary is."""
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every rename
    try:
        initialize(**dataclasses.asdict(CONFIG.value.distributed))
        if CACHE.value:
            keep_compiled(CACHE.value)
        if isinstance(CONFIG.value, ImproveConfig):
            summary = improve(CONFIG.value, WORKDIR.value)
        else:
            summary = fit(CONFIG.value, WORKDIR.value)
        if is_first_host() and summary["step"]:  # before that there is nothing to draw
            draw_run(WORKDIR.value)
    except (OSError, ValueError, TrainingDiverged) as error:
        sys.exit(f"error: {error}")
    place = "iteration" if isinstance(CONFIG.value, ImproveConfig) else "step"
    if is_first_host():
        print(f"{summary['status']} at {place} {summary['step']}: {WORKDIR.value}/summary.json")
        if summary.get("regularisation"):
            print(describe_choice(summary["regularisation"]))
