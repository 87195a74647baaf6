"""The names that `import gpmjax` exports, and the cost of the import."""

import subprocess
import sys

import pytest

import gpmjax
from gpmjax.preference import embed, game, operator, score


@pytest.mark.parametrize(
    "name, module",
    {
        "score": score,
        "pairwise_scores": score,
        "win_probability": score,
        "embed_skew_symmetric": embed,
        "rotate": operator,
        "von_neumann_winner": game,
    }.items(),
)
def test_public_names(name, module):
    assert getattr(gpmjax, name) is getattr(module, name)
    assert name in gpmjax.__all__


def test_importing_gpmjax_is_cheap():
    """The import loads jax and nothing heavier, and starts no backend: flags set after the import must still work."""
    program = """
import sys, gpmjax, jax
heavy = {"flax", "optax", "orbax", "transformers", "datasets", "torch", "matplotlib", "scipy.linalg"} & set(sys.modules)
assert not heavy, heavy
jax.config.update("jax_num_cpu_devices", 3)
assert len(jax.devices("cpu")) == 3, "a backend was initialised at import"
"""
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
