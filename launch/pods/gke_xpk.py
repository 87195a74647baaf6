"""Train on TPU slices of a GKE cluster, through xpk (github.com/AI-Hypercomputer/xpk).

    python launch/pods/gke_xpk.py --cluster=pool --workload=gpm --tpu_type=v5litepod-16 --docker_image=IMAGE \\
        --dry_run -- --config=configs/gpm_gemma2b.py --workdir=/mnt/runs/gpm

What follows ``--`` are launch/train.py's arguments. IMAGE holds this checkout as its working directory, with
``pip install '.[tpu]'`` done. --workdir must be a directory that all hosts see, such as a bucket attached with
``xpk storage attach``. With several slices, each slice holds a replica (--config.mesh.dcn_data is set) and splits it.
When a host is preempted, it gets SIGTERM and all hosts save; the restarted workload resumes from there. --dry_run
prints the command and does nothing. The program needs xpk, and gcloud logged in.
"""

import sys

from absl import app, flags

from gpmjax.pods import perform, training

CLUSTER = flags.DEFINE_string("cluster", None, "Name of the cluster.", required=True)
WORKLOAD = flags.DEFINE_string("workload", None, "Name for this run.", required=True)
IMAGE = flags.DEFINE_string("docker_image", None, "Image with gpmjax in its working directory.", required=True)
TYPE = flags.DEFINE_string("tpu_type", "v5litepod-16", "Kind of slice.")
SLICES = flags.DEFINE_integer("num_slices", 1, "How many slices.", 1)
PROJECT = flags.DEFINE_string("project", "", "Project; empty: gcloud's default.")
ZONE = flags.DEFINE_string("zone", "", "Zone; empty: gcloud's default.")
RESTARTS = flags.DEFINE_integer("max_restarts", 10, "Restarts after preemption or failure.", 0)
GRACE = flags.DEFINE_integer("grace_seconds", 300, "Time to save in, from SIGTERM to SIGKILL.", 30)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the command, do not run it.")


def main(argv: list[str]) -> None:
    slices = [f"--config.mesh.dcn_data={SLICES.value}"] if SLICES.value > 1 else []
    try:
        train = training("python", argv[1:], "--config.distributed.cluster=tpu", *slices)
    except ValueError as error:
        sys.exit(f"error: {error}")
    command = [
        "xpk",
        "workload",
        "create",
        f"--cluster={CLUSTER.value}",
        f"--workload={WORKLOAD.value}",
        f"--docker-image={IMAGE.value}",
        f"--tpu-type={TYPE.value}",
        f"--num-slices={SLICES.value}",
        f"--max-restarts={RESTARTS.value}",
        f"--termination-grace-period-seconds={GRACE.value}",
        f"--command={train}",
        *([f"--project={PROJECT.value}"] if PROJECT.value else []),
        *([f"--zone={ZONE.value}"] if ZONE.value else []),
    ]
    perform([command], DRY_RUN.value)


if __name__ == "__main__":
    app.run(main)
