"""A run killed with kill −9 in every stage, and begun again each time, ends as a run that nobody touched."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

CONFIG = """
from gpmjax.config import BackboneConfig, CheckpointConfig, OptimizerConfig
from gpmjax.config.improve import *

def get_config():
    scorer = ScorerConfig(function="toy_scorers:cycle")
    return ImproveConfig(
        iterations=4,
        batch=1,
        policy=BackboneConfig(source="random:tiny", tokenizer="{tokenizer}", dtype="float32", remat="none"),
        prompts=PromptsConfig(source="{prompts}", max_length=64, limit=3),
        rollout=RolloutConfig(responses=2, temperature=1.0, max_new_tokens=3, prompts_a_file=2),
        scorer=scorer,
        loss=PolicyLossConfig(
            method="comal", estimator="all", beta=0.5, mixture=0.2, reference_every=2, optimistic=True, halve_every=2.0
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        checkpoint=CheckpointConfig(every=1, keep=1),
        judge=JudgeConfig(scorer, PromptsConfig(source="{prompts}", max_length=64, limit=1), responses=1),
    )
"""
# What is there when the run is killed: within a stage, or between one and the next.
STAGES = (
    "iteration-1/samples/00000.parquet",
    "iteration-1/scores/00001.parquet",
    "iteration-1/current/00000.parquet",
    "iteration-1/train/checkpoints/2",
    "iteration-1/policy",
    "iteration-2/base/00001.parquet",
    "iteration-2/judge/samples",
    "iteration-3/previous/00000.parquet",
    "iteration-4/reference/00000.parquet",
    "iteration-4/policy",
)


@pytest.fixture
def launch(scorer_path):
    """Starts a run as a program of its own; those still alive at the end of the test are killed."""
    started = []

    def start(config, workdir):
        started.append(_start(config, workdir, scorer_path))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _start(config, workdir, scorer_path):
    # One device: only there are sums, and so the policies, the same to the last bit.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(scorer_path), os.getcwd()]),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    command = [sys.executable, "launch/train.py", f"--config={config}", f"--workdir={workdir}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    process.wait(timeout=300)
    assert process.returncode == 0, process.stdout.read()


def kill_at(process, path):
    """Kills as soon as ``path`` is there."""
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def made(workdir):
    """When each file of a finished stage was made."""
    stages = [path for path in workdir.rglob("*") if path.suffix in (".parquet", ".safetensors")]
    return {path: path.stat().st_mtime_ns for path in stages if not path.name.startswith(".")}


def test_killed_in_every_stage_it_ends_alike(tmp_path, launch, tokenizer_directory, prompts_file):
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(tokenizer=tokenizer_directory, prompts=prompts_file))
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    untouched = launch(config, straight)
    before = {}
    for stage in STAGES:
        kill_at(launch(config, killed), killed / stage)
        after = made(killed)
        assert {path: after.get(path) for path in before} == before, "a finished stage was made again"
        before = after
    finish(launch(config, killed))
    finish(untouched)
    after = made(killed)
    assert {path: after[path] for path in before} == before

    files = {path.relative_to(straight) for path in made(straight)}
    assert files == {path.relative_to(killed) for path in after}
    for file in files:
        if file.suffix == ".parquet":
            assert pq.read_table(straight / file).equals(pq.read_table(killed / file)), file
        else:
            jax.tree.map(np.testing.assert_array_equal, load_file(straight / file), load_file(killed / file))
    for iteration in (1, 2, 3, 4):
        file = f"iteration-{iteration}/figures.json"
        assert (straight / file).read_text() == (killed / file).read_text()
