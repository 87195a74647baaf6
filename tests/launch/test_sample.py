"""`python launch/sample.py` from the command line: responses, a table of scores and one-line errors."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpmjax.hub import load_tokenizer, save_preference_model
from gpmjax.models.config import DecoderConfig
from gpmjax.models.heads import PreferenceHeads
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder, sequence_layout
from tests.launch.programs import run_program

SCRIPT = Path(__file__).parents[2] / "launch" / "sample.py"


def run(*flags):
    return run_program(SCRIPT, *flags)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny preference model with its decoder's output table, which serves as policy and as scorer."""
    tokenizer = load_tokenizer("smollm2")
    config = DecoderConfig(len(tokenizer), 8, num_layers=1, num_heads=2, mlp_size=8, tie_embeddings=True)
    spec, feature = PreferenceSpec(dim=2, gate="none"), jnp.zeros((1, 1, 8))
    modules = {
        "decoder": (Decoder(config), (jnp.zeros((1, 2), jnp.int32), sequence_layout(jnp.array([2]), 2))),
        "heads": (PreferenceHeads(spec), (feature, feature)),
    }
    shapes = {
        name: jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
        for name, (module, inputs) in modules.items()
    }
    numbers = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: numbers.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_preference_model(directory, params, config, spec, tokenizer)
    return directory


def test_responses_and_a_table_of_their_scores(saved):
    done = run(f"--model={saved}", f"--scorer={saved}", "--prompt=Tea or coffee?", "--samples=3", "--max_new_tokens=5")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"response (\d)", done.stdout) == ["1", "2", "3"]
    assert len(re.findall(r"[1-5] tokens.*nats a token", done.stdout)) == 3
    table = done.stdout.split("s(row ≻ column)")[1]
    rows = [[float(x) for x in re.findall(r"[+-]\d+\.\d{3}", line)] for line in table.splitlines()]
    scores = np.array([row for row in rows if row])
    assert scores.shape == (3, 4)
    np.testing.assert_allclose(scores[:, :3], -scores[:, :3].T, atol=1e-3)
    np.testing.assert_allclose(scores[:, 3], scores[:, :3].mean(1), atol=2e-3)


def test_a_mistake_is_one_line_and_exit_code_1(saved):
    for flags, message in (
        (["--prompt= "], "prompt 0 is empty"),
        (["--prompt=Hello", "--max_new_tokens=4000"], "must fit the model's 2048 positions"),
    ):
        done = run(f"--model={saved}", *flags)
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert message in line and "Traceback" not in done.stderr
