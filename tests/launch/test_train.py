"""`python launch/train.py` from the command line, on one device: signals, bitwise resumption and one-line errors."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

ROOT = Path(__file__).parents[2]
STEPS = 150

CONFIG = """
from gpmjax.config import *

def get_config():
    return Config(
        steps={steps}, export="none",
        model=ModelConfig(
            source="random:tiny", tokenizer={tokenizer!r}, dim=2, gate="sigmoid", dtype="float32", remat="none"
        ),
        data=DataConfig(train=({pairs!r},), max_length=64, rows=4, packing="single"),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        checkpoint=CheckpointConfig(every=60),
    )
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, tokenizer_directory, pairs_file):
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(CONFIG.format(steps=STEPS, tokenizer=str(tokenizer_directory), pairs=str(pairs_file)))
    return path


def start(config_file, workdir, *flags, largest_file="unlimited"):
    """Starts a run. A write past ``largest_file`` KiB fails as on a full disk (Python ignores the signal it raises)."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    program = [sys.executable, ROOT / "launch" / "train.py", f"--config={config_file}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        ["bash", "-c", f'ulimit -f {largest_file}; exec "$@"', "bash", *program],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def recorded(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: (line["loss"], line["gradient_norm"]) for line in map(json.loads, lines)}


def leaves(workdir):
    tree = ocp.StandardCheckpointer().restore(workdir.absolute() / "checkpoints" / str(STEPS) / "params")
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def interrupt(config_file, workdir, number, at_step):
    """Starts a run, sends the signal when ``at_step`` is recorded, and returns the exit code and output."""
    process = start(config_file, workdir)
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= at_step):
        time.sleep(0.01)
    process.send_signal(number)
    return finish(process)


def test_a_run_resumed_twice_is_bitwise_equal_and_owns_its_directory(config_file, tmp_path):
    straight = start(config_file, tmp_path / "straight")
    while straight.poll() is None and not (tmp_path / "straight" / "metrics.jsonl").exists():
        time.sleep(0.01)
    second, _, refusal = finish(start(config_file, tmp_path / "straight", "--config.seed=1"))
    for number, at_step in ((signal.SIGTERM, 30), (signal.SIGINT, 80)):
        code, out, err = interrupt(config_file, tmp_path / "resumed", number, at_step)
        assert code == 0, err
        assert out.startswith("interrupted at step ")
        stopped = int(out.split()[3].rstrip(":"))
        # The step in flight at the signal, or a later one whose metrics the host had not yet read.
        assert at_step <= stopped <= STEPS and (tmp_path / "resumed" / "checkpoints" / str(stopped)).is_dir()
    code, out, err = finish(start(config_file, tmp_path / "resumed"))
    assert code == 0 and out.startswith(f"finished at step {STEPS}"), err
    assert finish(straight)[0] == 0
    owner = f"process {straight.pid} on {socket.gethostname()} since "
    assert second == 1 and "Traceback" not in refusal
    assert f"error: {tmp_path / 'straight'}: in use by {owner}" in refusal

    assert recorded(tmp_path / "resumed") == recorded(tmp_path / "straight")
    expected, found = leaves(tmp_path / "straight"), leaves(tmp_path / "resumed")
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_a_disk_that_fills_up_while_saving_keeps_the_earlier_checkpoint(config_file, tmp_path):
    # The rate must not depend on the number of steps, since the run is continued with more steps.
    constant = ("--config.optimizer.schedule=constant", "--config.optimizer.warmup_fraction=0")
    code, _, err = finish(start(config_file, tmp_path, "--config.steps=20", *constant))
    assert code == 0, err
    # Metrics fit in 32 KiB. Parameters do not.
    code, _, err = finish(start(config_file, tmp_path, "--config.steps=22", *constant, largest_file="32"))
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "step 22" in line and "earlier checkpoints are untouched" in line
    code, out, err = finish(start(config_file, tmp_path, "--config.steps=22", *constant))
    assert code == 0 and out.startswith("finished at step 22"), err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.model.dimm=4", "error: --config.model.dimm: no such field; config.model has source, tokenizer"),
        ("--config.model.gate=soft", "error: config.model.gate is 'soft'; allowed: 'none', 'softmax'"),
        ("--config.model.dim=3", "error: config.model.dim is 3"),
        ("--config.data.train=('/nowhere.jsonl',)", "error: /nowhere.jsonl"),
        ("--config.model.source=/nowhere", "error: /nowhere: no model"),
    ],
)
def test_a_config_that_cannot_be_used_is_a_one_line_error(config_file, tmp_path, flag, message):
    code, _, err = finish(start(config_file, tmp_path, flag))
    assert code == 1
    assert err.splitlines()[-1].startswith(message)
    assert "Traceback" not in err
