"""Train on a Cloud TPU slice by logging in to all of its hosts.

    python launch/pods/gcloud_tpu.py --name=gpm --zone=us-west4-a --accelerator_type=v5litepod-16 --create \\
        --dry_run -- --config=configs/gpm_gemma2b.py --workdir=/mnt/runs/gpm

What follows ``--`` are launch/train.py's arguments. The program creates the slice (with --create), copies this
checkout's commit to every host, installs it there and trains. --workdir must be a directory that all hosts see:
Filestore over NFS, or a bucket mounted by Cloud Storage FUSE. The same command resumes a preempted run once the slice
is there again. --dry_run prints the commands and does nothing. The program needs gcloud, logged in, and runs from the
checkout's root. --accelerator_type counts chips for v5e (v5litepod-16) and v6e, cores for v4 and v5p (v5p-64 has 32
chips).
"""

import sys

from absl import app, flags

from gpmjax.pods import perform, training

# cloud.google.com/tpu/docs/runtimes: what to create a generation's hosts with.
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
# The hosts' own Python is older than 3.11.
INSTALL = (
    "curl -LsSf https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv venv --quiet --allow-existing --python 3.11 "
    ".venv && ~/.local/bin/uv pip install --quiet --python .venv/bin/python --editable '.[tpu]'"
)

NAME = flags.DEFINE_string("name", None, "The slice's name.", required=True)
ZONE = flags.DEFINE_string("zone", None, "The slice's zone.", required=True)
PROJECT = flags.DEFINE_string("project", "", "The slice's project; empty: gcloud's default.")
TYPE = flags.DEFINE_string("accelerator_type", "v5litepod-16", "Kind of slice, such as v5litepod-16, v5p-64, v6e-16.")
CREATE = flags.DEFINE_bool("create", False, "Create the slice first.")
SPOT = flags.DEFINE_bool("spot", False, "Create a spot slice: cheaper, preempted at any time.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands, run none.")


def main(argv: list[str]) -> None:
    place = [f"--zone={ZONE.value}", *([f"--project={PROJECT.value}"] if PROJECT.value else [])]
    tpu_vm = ["gcloud", "compute", "tpus", "tpu-vm"]
    everywhere = [*place, "--worker=all"]
    ssh = [*tpu_vm, "ssh", NAME.value, *everywhere]
    try:
        runtime = RUNTIMES[TYPE.value.partition("-")[0]]
        # A host that is logged in to does not know that it is one of many.
        train = training(".venv/bin/python", argv[1:], "--config.distributed.cluster=tpu")
    except KeyError:
        sys.exit(f"error: --accelerator_type={TYPE.value}: must begin with one of {', '.join(RUNTIMES)}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    kind = [f"--accelerator-type={TYPE.value}", f"--version={runtime}", *(["--spot"] if SPOT.value else [])]
    commands = [
        ["git", "archive", "--output=gpmjax.tar.gz", "HEAD"],
        [*tpu_vm, "scp", "gpmjax.tar.gz", f"{NAME.value}:", *everywhere],
        [*ssh, "--command=mkdir -p gpmjax && tar -xzf gpmjax.tar.gz -C gpmjax"],
        [*ssh, f"--command=cd gpmjax && {INSTALL}"],
        [*ssh, f"--command=cd gpmjax && {train}"],
    ]
    perform([[*tpu_vm, "create", NAME.value, *place, *kind]] * CREATE.value + commands, DRY_RUN.value)


if __name__ == "__main__":
    app.run(main)
