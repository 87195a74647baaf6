"""Whole runs as users start them: on two hosts, on other meshes, stopped by a signal to one host, killed while saving.

All are the same run of 20 steps, and must tell the same losses as ``straight``, which nothing befalls.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from gpmjax.hub import load_preference_model
from gpmjax.train.metrics import metric_lines

WORKER = Path(__file__).with_name("worker.py")

CONFIG = """
from gpmjax.config import CheckpointConfig, Config, DataConfig, ModelConfig, OptimizerConfig

def get_config():
    return Config(
        steps=20,
        export="none",
        model=ModelConfig(
            source="random:tiny", tokenizer={tokenizer!r}, dim=4, gate="softmax", tau=1.0, dtype="float32", remat="none"
        ),
        data=DataConfig(train=({pairs!r},), eval=({pairs!r},), max_length=64, rows=8, packing="single"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        checkpoint=CheckpointConfig(every=6, keep=3),
    )
"""


class Runs:
    """Starts runs of one config, each in processes of its own."""

    def __init__(self, config: Path):
        self._config = config

    def start(self, workdir, *flags, devices=1, hosts=1, accident="none", victim=0) -> list[subprocess.Popen]:
        """One process a host; the accident (see worker.py) befalls the victim alone."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
        }
        started = []
        for host in range(hosts):
            command = [sys.executable, str(WORKER), accident if host == victim else "none"]
            command += [f"--config={self._config}", f"--workdir={workdir}", *flags]
            if hosts > 1:
                facts = {"coordinator_address": address, "processes": hosts, "process": host}
                command += [f"--config.distributed.{name}={value}" for name, value in facts.items()]
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        return started

    def finish(self, started: list[subprocess.Popen], expected: int = 0) -> list[str]:
        """Waits for a run; returns what each of its processes wrote to stdout."""
        try:
            written = [process.communicate(timeout=300) for process in started]
        finally:
            for process in started:
                process.kill()
        for process, (_, errors) in zip(started, written, strict=True):
            assert process.returncode == expected, errors[-4000:]
        return [output for output, _ in written]

    def __call__(self, workdir, *flags, expected=0, **how) -> list[str]:
        return self.finish(self.start(workdir, *flags, **how), expected)


@pytest.fixture(scope="module")
def run(tokenizer_directory, pairs_file, tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "config.py"
    config.write_text(CONFIG.format(tokenizer=str(tokenizer_directory), pairs=str(pairs_file)))
    return Runs(config)


def losses(workdir):
    return {line["step"]: line["loss"] for line in metric_lines(workdir) if "loss" in line}


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def assert_same_losses(workdir, other, atol=1e-5):
    ours, theirs = losses(workdir), losses(other)
    assert list(ours) == list(theirs) == list(range(1, 21))
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=0, atol=atol)


@pytest.fixture(scope="module")
def ended(run, tmp_path_factory):
    """Two runs on one device, side by side: one that nothing befalls, one that is killed while it saves step 12."""
    straight, killed = (tmp_path_factory.mktemp(name) for name in ("straight", "killed"))
    started = run.start(straight), run.start(killed, accident="SIGKILL-in-save=12")
    run.finish(started[0])
    run.finish(started[1], expected=-signal.SIGKILL)
    return straight, killed


def test_killed_in_a_save_it_resumes_from_the_checkpoint_before_bit_for_bit(ended, run):
    straight, killed = ended
    left = {path.name for path in (killed / "checkpoints").iterdir()}
    assert "6" in left and "12" not in left and any(name.startswith("12.") for name in left)
    assert max(losses(killed)) >= 12
    run(killed)
    assert losses(killed) == losses(straight)
    restored = [ocp.StandardCheckpointer().restore(workdir / "checkpoints" / "20" / "params") for workdir in ended]
    np.testing.assert_array_equal(*(params["heads"]["value"]["kernel"] for params in restored))
    assert not any(path.name.startswith("12.") for path in (killed / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def interrupted(run, tmp_path_factory):
    """Two hosts of two devices, rows split between the hosts first; the second one alone gets a SIGTERM. And their
    words."""
    workdir = tmp_path_factory.mktemp("hosts")
    flags = ("--config.mesh.dcn_data=2", "--config.checkpoint.every=0")
    return workdir, run(workdir, *flags, devices=2, hosts=2, accident="SIGTERM-at-batch=8", victim=1)


def test_a_signal_to_one_host_saves_all_at_one_step(interrupted):
    workdir, words = interrupted
    facts = summary(workdir)
    assert facts["status"] == "interrupted" and facts["device"]["hosts"] == 2
    (saved,) = (int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    assert saved == facts["step"] and 8 <= saved <= 11
    assert f"interrupted at step {saved}" in words[0] and "interrupted" not in words[1]


def test_what_two_hosts_saved_goes_on_anywhere_with_the_same_losses(interrupted, ended, run, tmp_path):
    workdir, _ = interrupted
    for name in ("hosts", "other mesh"):
        shutil.copytree(workdir, tmp_path / name)
    other = run.start(tmp_path / "other mesh", "--config.mesh.tensor=2", devices=4)
    run(
        tmp_path / "hosts",
        "--config.mesh.tensor=2",
        "--config.mesh.dcn_fsdp=2",
        "--config.export=native",
        devices=2,
        hosts=2,
    )
    run.finish(other)
    for name in ("hosts", "other mesh"):
        assert_same_losses(tmp_path / name, ended[0])
        assert summary(tmp_path / name)["eval"].keys() == summary(ended[0])["eval"].keys()
    exported = load_preference_model(str(tmp_path / "hosts" / "model"))
    assert exported.params["decoder"]["embed"]["embedding"].shape == (512, 32)


def test_two_hosts_share_one_feature_cache(run, tmp_path):
    flags = ("--config.model.backbone=frozen", "--config.steps=3")
    run(tmp_path, *flags, devices=1, hosts=2)
    shards = list((tmp_path / "features").rglob("*.safetensors"))
    assert len(shards) == 1 and list(losses(tmp_path)) == [1, 2, 3]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
