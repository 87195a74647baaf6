"""Dry runs of the pod launchers: the commands they would run, with their quoting."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PODS = Path(__file__).parents[2] / "launch" / "pods"
# A value that a shell splits unless it is quoted at every level.
AWKWARD = "--config.data.train=('a b.jsonl', 'it''s $HOME.jsonl')"
TRAINING = ["--config=configs/gpm_gemma2b.py", "--workdir=/mnt/my runs/gpm", AWKWARD]
LAUNCHERS = {
    "gcloud_tpu.py": ["--name=gpm", "--zone=us-west4-a", "--accelerator_type=v5litepod-16"],
    "gke_xpk.py": ["--cluster=pool", "--workload=gpm", "--docker_image=registry/image:tag"],
    "slurm_gpu.py": ["--nodes=2", "--sbatch=--partition=h100"],
}


def run(script, *flags, training=TRAINING, path=None):
    environment = {"PATH": str(path)} if path else None
    command = [sys.executable, PODS / script, *flags, "--", *training]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def lines(script, *more):
    """The printed commands, split by a shell."""
    done = run(script, *LAUNCHERS[script], "--dry_run", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout if script == "slurm_gpu.py" else [shlex.split(line) for line in done.stdout.splitlines()]


def remote(command):
    """The command for the remote shell."""
    (argument,) = [argument for argument in command if argument.startswith("--command=")]
    return shlex.split(argument.removeprefix("--command="))


def test_gcloud_creates_copies_installs_and_trains_on_every_host():
    create, archive, copy, unpack, install, train = lines("gcloud_tpu.py", "--create", "--spot", "--project=p")
    assert create == shlex.split(
        "gcloud compute tpus tpu-vm create gpm --zone=us-west4-a --project=p "
        "--accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --spot"
    )
    assert archive[:2] == ["git", "archive"] and copy[5:7] == ["gpmjax.tar.gz", "gpm:"]
    assert all("--worker=all" in command for command in (copy, unpack, install, train))
    assert ".[tpu]" in remote(install)
    assert remote(train)[3:] == [".venv/bin/python", "launch/train.py", *TRAINING, "--config.distributed.cluster=tpu"]
    assert len(lines("gcloud_tpu.py")) == 5  # the slice already exists


def test_xpk_has_a_replica_per_slice():
    (one,) = lines("gke_xpk.py")
    assert one[:3] == ["xpk", "workload", "create"]
    assert "--num-slices=1" in one and "--docker-image=registry/image:tag" in one
    assert remote(one) == ["python", "launch/train.py", *TRAINING, "--config.distributed.cluster=tpu"]
    (two,) = lines("gke_xpk.py", "--num_slices=2")
    assert remote(two)[-1] == "--config.mesh.dcn_data=2"


def test_the_slurm_script_runs_a_task_per_gpu_and_requeues_itself(tmp_path):
    text = lines("slurm_gpu.py")
    script = text.partition("<<'EOF'\n")[2].partition("EOF\n")[0]
    for option in ("--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--signal=TERM@300", "--partition=h100"):
        assert f"#SBATCH {option}\n" in script
    # A real shell runs the script; srun and scontrol only print their arguments.
    workdir = tmp_path / "my runs"
    workdir.mkdir()
    script = (
        script.replace("/mnt/my runs/gpm", str(workdir)).replace("srun", "printf '%s\\n'").replace("scontrol", "echo")
    )

    def arguments():
        environment = {"SLURM_JOB_ID": "7", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
        return done.stdout.splitlines()

    (workdir / "summary.json").write_text('{\n  "status": "finished"\n}\n')
    last = arguments()
    assert last[0] == "--kill-on-bad-exit=1" and AWKWARD in last and last[-1] == "--config.distributed.cluster=slurm"
    (workdir / "summary.json").write_text('{\n  "status": "interrupted"\n}\n')
    assert arguments()[-1] == "requeue 7"


@pytest.mark.parametrize("script", LAUNCHERS)
def test_training_without_a_config_or_workdir_is_refused(script):
    for missing, training in (("config", []), ("workdir", ["--config=x.py"])):
        done = run(script, *LAUNCHERS[script], "--dry_run", training=training)
        assert done.returncode == 1 and done.stderr.strip() == (
            f"error: after --: --{missing}= is missing; give launch/train.py's own arguments there"
        )


@pytest.mark.parametrize("script", LAUNCHERS)
def test_a_missing_tool_is_named(script, tmp_path):
    done = run(script, *LAUNCHERS[script], path=tmp_path)
    assert done.returncode == 1 and "not installed, or not on PATH" in done.stderr and "Traceback" not in done.stderr
