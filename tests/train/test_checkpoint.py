"""Checkpoints: what is broken is passed over in one line, what is another run's is refused, and no flipped bit comes
back."""

import itertools
import json
import os
import random
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.config import CheckpointConfig, OptimizerConfig
from gpmjax.sharding import make_mesh
from gpmjax.train.checkpoint import BrokenCheckpoint, Checkpoints
from gpmjax.train.digest import digest
from gpmjax.train.optimizer import make_optimizer
from gpmjax.train.state import init_state

CONFIG = CheckpointConfig(keep=2)
PARAMS = {
    "decoder": {
        "layers": {"kernel": np.arange(800.0, dtype=np.float32).reshape(8, 100)},
        "norm": {"scale": np.ones(7, np.float32)},
    },
    "heads": {"value": {"kernel": np.full((5, 2), 0.1, np.float32)}},
}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices()[:1])


def state(mesh, step, name="adamw", params=PARAMS):
    began = init_state(params, make_optimizer(OptimizerConfig(name=name), 10), mesh)
    began = began._replace(optimizer=jax.tree.map(lambda leaf: leaf + leaf.dtype.type(step), began.optimizer))
    return began._replace(step=jnp.int32(step), params=jax.tree.map(lambda leaf: leaf + np.float32(step), began.params))


@pytest.fixture(scope="module")
def two_steps(mesh, tmp_path_factory):
    """A directory with checkpoints of steps 1 and 2."""
    directory = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(directory, CONFIG) as checkpoints:
        for step in (1, 2):
            checkpoints.save(state(mesh, step), {"seed": 0}, {"accuracy": 0.5, "nll": float(step)})
    return directory


@pytest.fixture
def directory(two_steps, tmp_path):
    shutil.copytree(two_steps, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def resumed(directory, mesh, like=None):
    with Checkpoints(directory, CONFIG) as checkpoints:
        return checkpoints.resume(like or state(mesh, 0), mesh)


def files(directory, step=2):
    """Those that can be damaged: all but marks, which say nothing."""
    return sorted(
        path for path in (directory / str(step)).rglob("*") if path.is_file() and path.name != "commit_success.txt"
    )


def assert_is_step(found, mesh, step):
    assert int(found.step) == step
    jax.tree.map(np.testing.assert_array_equal, found.params, state(mesh, step).params)


def missing(path):
    path.unlink()


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path):
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def test_a_damaged_file_costs_one_line_and_no_wrong_bit(directory, mesh, caplog, capfd, monkeypatch):
    """Every file in turn. Where its damage matters the step before is gone on from, else the step is whole."""
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    whole, outcomes = directory.with_name("whole"), {}
    shutil.copytree(directory, whole)
    for path, damage in zip(files(directory), itertools.cycle((missing, truncated, garbled)), strict=False):
        caplog.clear()
        damage(path)
        found = resumed(directory, mesh)
        outcomes[str(path.relative_to(directory))] = int(found.step)
        assert_is_step(found, mesh, int(found.step))
        lines = [record.getMessage() for record in caplog.records if record.name == "root"]
        if int(found.step) == 1:
            (line,) = lines
            assert line.startswith(f"{directory / '2'}: broken checkpoint (") and "\n" not in line
            aside = directory.with_name("checkpoints.broken") / "2"
            assert line.endswith(f"; going on from the one of step 1, the broken one is now {aside}") and aside.is_dir()
        else:
            assert len(lines) <= 1
        shutil.rmtree(directory.parent / "checkpoints.broken", ignore_errors=True)
        shutil.rmtree(directory)
        shutil.copytree(whole, directory)
    assert {"2/params/_METADATA", "2/optimizer/_METADATA", "2/record/metadata"} <= {
        name for name, step in outcomes.items() if step == 1
    }
    assert not heard and "Traceback" not in capfd.readouterr().err


def test_no_flipped_bit_comes_back(directory, mesh):
    draw = random.Random(0)
    candidates = [path for path in files(directory) if path.parts[-2] != "2"]
    sizes = [path.stat().st_size for path in candidates]
    for _ in range(6):
        (path,) = draw.choices(candidates, sizes)
        before = path.read_bytes()
        after, place = bytearray(before), draw.randrange(len(before))
        after[place] ^= 1 << draw.randrange(8)
        path.write_bytes(after)
        found = resumed(directory, mesh)
        assert_is_step(found, mesh, int(found.step))
        broken = directory.with_name("checkpoints.broken") / "2"
        if broken.exists():
            os.replace(broken, directory / "2")
        path.write_bytes(before)
    assert_is_step(resumed(directory, mesh), mesh, 2)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.int32, np.int8, np.bool_])
def test_every_bit_counts_in_the_digest_and_the_mesh_does_not(dtype):
    values = np.arange(96).reshape(8, 12).astype(dtype)
    expected = digest({"a": values, "b": np.float32(1)})
    everywhere = make_mesh(data=2, fsdp=4)
    sharding = jax.sharding.NamedSharding(everywhere, jax.sharding.PartitionSpec("fsdp", "data"))
    assert digest({"a": jax.device_put(values, sharding), "b": np.float32(1)}) == expected
    bits = values.view(np.uint8).copy() if dtype != np.bool_ else values.copy()
    for place in ((0, 0), (7, bits.shape[1] - 1)):
        flipped = bits.copy()
        flipped[place] ^= 1 if dtype == np.bool_ else 128
        assert digest({"a": flipped.view(values.dtype), "b": np.float32(1)}) != expected
    assert digest({"a": values[::-1], "b": np.float32(1)}) != expected
    assert digest({"c": values, "b": np.float32(1)}) != expected


def test_a_whole_checkpoint_of_another_model_or_optimizer_is_refused_and_stays(directory, mesh):
    more = PARAMS | {"heads": {"value": {"kernel": np.ones((5, 4), np.float32)}}}
    for like, what in (
        (state(mesh, 0, params=more), "parameter heads/value/kernel has shape .5, 2. there and .5, 4. in this run"),
        (state(mesh, 0, name="sgd"), "optimizer state .* has shape .* use the config that the run began with"),
    ):
        with pytest.raises(ValueError, match=f"checkpoints/2: {what}") as refused:
            resumed(directory, mesh, like)
        assert not isinstance(refused.value, BrokenCheckpoint) and "\n" not in str(refused.value)
    assert_is_step(resumed(directory, mesh), mesh, 2)


def test_nothing_is_begun_again_when_no_checkpoint_is_whole(directory, mesh):
    for step in (1, 2):
        truncated(directory / str(step) / "record" / "metadata")
    with pytest.raises(
        BrokenCheckpoint, match="checkpoints/2: broken .*there is none before it; delete this directory to begin again"
    ):
        resumed(directory, mesh)
    assert {"1", "2"} <= {path.name for path in directory.iterdir()}


def test_a_checkpoint_from_before_digests_is_gone_on_from_and_said_so(directory, mesh, caplog):
    path = directory / "2" / "record" / "metadata"
    path.write_text(json.dumps({"seed": 0}), encoding="utf-8")
    assert_is_step(resumed(directory, mesh), mesh, 2)
    assert f"{directory / '2'}: made before checkpoints had digests; its bits are not checked" in caplog.text


def test_an_evaluation_that_is_made_up_for_ranks_the_step_that_was_saved(tmp_path, mesh):
    with Checkpoints(tmp_path, CheckpointConfig(metric="nll", keep=1)) as checkpoints:
        checkpoints.save(state(mesh, 1), {}, {"accuracy": 0.5, "nll": 2.0})
        checkpoints.save(state(mesh, 2), {})
        checkpoints.save(state(mesh, 2), {}, {"accuracy": 0.5, "nll": 1.0})
        assert checkpoints.best() == 2
        checkpoints.save(state(mesh, 3), {}, {"accuracy": 0.5, "nll": 3.0})
    with Checkpoints(tmp_path, CheckpointConfig(metric="nll", keep=1)) as checkpoints:
        assert checkpoints.best() == 2 and checkpoints.metrics(2) == {"accuracy": 0.5, "nll": 1.0}
        (tmp_path / "2" / "metrics" / "metrics").write_bytes(b"{")
    with Checkpoints(tmp_path, CheckpointConfig(metric="nll", keep=1)) as checkpoints:
        assert checkpoints.metrics(2) is None and checkpoints.best() == 3


def test_a_full_disk_names_the_step_that_was_being_saved(tmp_path, mesh, full_disk, caplog, capfd):
    with (
        pytest.raises(
            OSError,
            match=r"could not save the checkpoint of step 2 \(File too large\); earlier checkpoints are untouched",
        ) as refused,
        Checkpoints(tmp_path, CONFIG) as checkpoints,
    ):
        checkpoints.save(state(mesh, 1), {})
        checkpoints.wait()
        with full_disk(512):
            checkpoints.save(state(mesh, 2), {})
            checkpoints.wait()
    assert "\n" not in str(refused.value) and caplog.text == "" and "Traceback" not in capfd.readouterr().err
    assert_is_step(resumed(tmp_path, mesh), mesh, 1)
