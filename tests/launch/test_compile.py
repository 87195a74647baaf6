"""`python launch/compile.py` from the command line, for TPU slices on a machine without a TPU."""

import json
from pathlib import Path

import pytest

from tests.launch.programs import run_program

ROOT = Path(__file__).parents[2]
CONFIG = """
from gpmjax.config import Config, DataConfig, MeshConfig, ModelConfig

def get_config():
    return Config(
        model=ModelConfig(source="random:tiny", attention="{attention}", remat="{remat}"),
        data=DataConfig(train=("builtin:letters",), max_length={length}, rows=4, packing="single"),
        mesh=MeshConfig(tensor={tensor}),
    )
"""


def run(tmp_path, *flags, attention="chunked", remat="full", length=64, tensor=1):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format(attention=attention, remat=remat, length=length, tensor=tensor))
    return run_program(ROOT / "launch" / "compile.py", f"--config={path}", *flags)


def test_two_slices_and_a_gpu_node_are_compiled_in_one_call(tmp_path):
    out = tmp_path / "plan.json"
    done = run(tmp_path, "--topology=v5e:2x2,v5e:1x1,h100:4", f"--out={out}", f"--hlo={tmp_path}", tensor=1)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    four, one = figures["topologies"]
    assert (four["topology"], four["chips"], one["chips"]) == ("v5e:2x2", 4, 1) and four["fits"] and one["fits"]
    assert four["memory"]["arguments"] < one["memory"]["arguments"] < four["hbm"] == 16 * 2**30
    assert four["collectives"] and not one["collectives"]
    assert four["step_time_lower_bound_seconds"] == max(four["bounds"].values()) > 0
    assert figures["predicted_from_shapes"]["h100:4"]["peak"] > 0
    assert "Nothing here is measured" in done.stdout and "Predicted from shapes" in done.stdout
    assert (tmp_path / "v5e_2x2.txt").read_text().startswith("HloModule")


def test_a_slice_that_is_too_small_exits_with_1_and_advice(tmp_path):
    # Attention logits of four heads take 128 · 4 · 4 · (2 · 2048)² bytes in float32, 32 GiB.
    done = run(tmp_path, "--topology=v5e:1x1", "--config.data.rows=128", attention="xla", remat="none", length=2048)
    assert done.returncode == 1, done.stdout
    assert "v5e:1x1 is too small" in done.stdout and "--config.model.attention=chunked" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--topology=v5e:4by4"], "--topology=v5e:4by4: must be GENERATION:AxB"),
        (["--topology=v5e:2x4"], "config.data.rows=4: must be a multiple of 8"),
        (["--topology=v5e:2x2", "--preset=huge"], "--preset is 'huge'; allowed"),
        (["--topology=v5e:2x2", "--config.mesh.tensor=3"], "config.mesh="),
        (["--topology=v5e:2x2", "--config.mesh.dato=3"], "--config.mesh.dato: no such field; config.mesh has data"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, flags, message):
    done = run(tmp_path, *flags)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line and "Traceback" not in done.stderr
