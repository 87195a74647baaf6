"""Train on GPU nodes under Slurm: one task a GPU; tasks find each other by Slurm's own variables.

    python launch/pods/slurm_gpu.py --nodes=1 --gpus_per_node=8 --time=24:00:00 --dry_run -- \\
        --config=configs/gpm_llama31_8b.py --workdir=runs/gpm

What follows ``--`` are launch/train.py's arguments. Run from the checkout, on a file system that all nodes see, with
``.venv/bin/pip install '.[cuda]'`` done. Before time runs out, or when the job is preempted, every task gets SIGTERM.
All tasks save at the same step, and the job puts itself back into the queue to resume there. --dry_run prints the batch
script and submits nothing.
"""

import shlex
import sys

from absl import app, flags

from gpmjax.pods import flag_value, perform, training

NODES = flags.DEFINE_integer("nodes", 1, "Nodes.", 1)
GPUS = flags.DEFINE_integer("gpus_per_node", 8, "GPUs of a node, and tasks on it.", 1)
CPUS = flags.DEFINE_integer("cpus_per_task", 8, "CPU cores a task.", 1)
TIME = flags.DEFINE_string("time", "24:00:00", "Wall-clock limit, as sbatch takes it.")
JOB = flags.DEFINE_string("job_name", "gpmjax", "The job's name.")
GRACE = flags.DEFINE_integer("grace_seconds", 300, "SIGTERM comes this long before the limit.", 30)
SBATCH = flags.DEFINE_multi_string("sbatch", [], "More options for sbatch, such as --sbatch=--partition=h100; repeat.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the batch script, do not submit it.")


def script(train: str, workdir: str) -> str:
    """The batch script; ``train`` is already quoted for a shell."""
    options = [
        f"--job-name={JOB.value}",
        f"--nodes={NODES.value}",
        f"--ntasks-per-node={GPUS.value}",
        f"--gpus-per-node={GPUS.value}",
        f"--cpus-per-task={CPUS.value}",
        f"--time={TIME.value}",
        f"--signal=TERM@{GRACE.value}",
        "--requeue",
        "--open-mode=append",
        f"--output={JOB.value}-%j.log",
        *SBATCH.value,
    ]
    lines = [f"#SBATCH {option}" for option in options]
    # When one task is lost, the others would wait in a collective for ever.
    run = f"srun --kill-on-bad-exit=1 {train}"
    # A run that saved and stopped has not failed, so Slurm alone would not requeue it.
    stopped = f'grep --quiet \'"status": "interrupted"\' {shlex.quote(workdir + "/summary.json")}'
    again = f'if {stopped}; then scontrol requeue "$SLURM_JOB_ID"; fi'
    return "\n".join(["#!/bin/bash", *lines, "set -e", run, again, ""])


def main(argv: list[str]) -> None:
    try:
        train = training(".venv/bin/python", argv[1:], "--config.distributed.cluster=slurm")
    except ValueError as error:
        sys.exit(f"error: {error}")
    perform([["sbatch"]], DRY_RUN.value, stdin=script(train, flag_value("workdir", argv[1:])))


if __name__ == "__main__":
    app.run(main)
