"""`python launch/serve_reward.py` from the command line: a group is scored over HTTP, and a signal ends the server."""

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import user
from gpmjax.evals.held_out import held_out
from gpmjax.hub import load_tokenizer, save_preference_model
from gpmjax.interop.client import RemoteRewards
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards
from gpmjax.judges.open import open_judge
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec

SCRIPT = Path(__file__).parents[2] / "launch" / "serve_reward.py"


@pytest.fixture(scope="module")
def saved(tokenizer_directory, pairs_file, tmp_path_factory):
    tokenizer = load_tokenizer(str(tokenizer_directory))
    config = DecoderConfig(len(tokenizer), 8, num_layers=1, num_heads=2, mlp_size=8, tie_embeddings=True)
    model = PreferenceModel(config, PreferenceSpec(dim=2, gate="none"))
    (batch, *_) = held_out(str(pairs_file), ChatFormat(tokenizer), max_length=64, rows_per_batch=1).batches()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    numbers = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: numbers.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_preference_model(directory, params, config, model.spec, tokenizer)
    return directory


def run(*flags):
    return subprocess.Popen([sys.executable, SCRIPT, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_group_is_served_and_a_signal_ends_it(saved, number, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    process = run(f"--model={saved}", "--against=group", "--group_size=3", "--max_length=64", "--port=0")
    try:
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/get_reward", process.stdout.readline())
        asked = [Completion(user("Is it?"), text) for text in ("yes", "no", "perhaps")]
        remote = RemoteRewards(address, timeout=120.0)
        with ThreadPoolExecutor(4) as pool:
            found = [reward.item() for reward in pool.map(lambda completion: remote([completion]), asked)]
            lonely = pool.submit(remote, [asked[0]])
            # The request was accepted or its connection is refused. In both cases it must not wait for a group.
            process.send_signal(number)
            with pytest.raises(OSError, match="status 503 .*no more groups|no connection"):
                lonely.result(60)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    expected = Rewards(open_judge(JudgeConfig(str(saved), max_length=64)), RewardPlan("group"))(asked)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model=no/such/place", "--against=group"], "no/such/place"),
        (["--model=m", "--against=reference", "--group_size=3"], "--group_size=3 with --against=reference"),
    ],
    ids=["no model", "no group"],
)
def test_a_mistake_is_one_line_and_exit_code_1(flags, words):
    process = run(*flags)
    _, errors = process.communicate(timeout=120)
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert process.returncode == 1 and words in line and "Traceback" not in errors
