"""A policy optimisation of a few seconds, and a scorer that needs no weights."""

import json

import numpy as np
import pytest

from gpmjax.config import BackboneConfig, CheckpointConfig, OptimizerConfig
from gpmjax.config.improve import (
    ContestConfig,
    ImproveConfig,
    PolicyLossConfig,
    PromptsConfig,
    RolloutConfig,
    ScorerConfig,
)
from gpmjax.improve.batch import Example

SCORER = '''
import zlib
import numpy as np

def rank(text):
    return zlib.crc32(text.encode()) / 2**32

def cycle(prompts, responses):
    """Skew-symmetric, and as cyclic as rock, paper and scissors."""
    ranks = np.array([[rank(text) for text in texts] for texts in responses])
    return np.sin(2 * np.pi * (ranks[:, :, None] - ranks[:, None, :]))

def nothing(prompts, responses):
    return np.full((len(prompts), len(responses[0]), len(responses[0])), np.nan)

def lopsided(prompts, responses):
    return np.abs(cycle(prompts, responses))

def flat(prompts, responses):
    return np.zeros((len(prompts), len(responses[0]), len(responses[0])))
'''


@pytest.fixture(scope="session")
def scorer_path(tmp_path_factory):
    """A directory that holds a module of scorers."""
    directory = tmp_path_factory.mktemp("scorers")
    (directory / "toy_scorers.py").write_text(SCORER)
    return directory


@pytest.fixture(scope="session")
def prompts_file(tmp_path_factory):
    """Eight prompts of different lengths."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": "why" + "?" * n}) + "\n" for n in range(8)))
    return path


@pytest.fixture
def config(tokenizer_directory, prompts_file, scorer_path, monkeypatch):
    """Two iterations, each on half of the prompts."""
    monkeypatch.syspath_prepend(str(scorer_path))
    scorer = ScorerConfig(function="toy_scorers:cycle")
    return ImproveConfig(
        iterations=2,
        epochs=2,
        batch=8,
        policy=BackboneConfig(source="random:tiny", tokenizer=str(tokenizer_directory), dtype="float32", remat="none"),
        prompts=PromptsConfig(source=str(prompts_file), parts=2, max_length=64),
        rollout=RolloutConfig(responses=3, temperature=1.0, top_p=1.0, max_new_tokens=4, rows=8, prompts_a_file=3),
        scorer=scorer,
        loss=PolicyLossConfig(method="gpo", estimator="all", beta=0.5),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        checkpoint=CheckpointConfig(every=1, keep=1),
        judge=ContestConfig(scorer, PromptsConfig(source=str(prompts_file), max_length=64), responses=2),
    )


@pytest.fixture
def example():
    """Makes an example of three responses of 1 to 4 tokens, another one for every prompt id."""

    def make(prompt_id=0, responses=3):
        draw = np.random.default_rng(prompt_id)
        lengths = [1 + (prompt_id + r) % 4 for r in range(responses)]

        def tokens(n):
            return draw.integers(2, 250, n).astype(np.int32)

        def logprobs():
            return tuple(-draw.random(n).astype(np.float32) for n in lengths)

        def numbers(*shape):
            return draw.random(shape).astype(np.float32)

        pairs = np.triu(np.ones((responses, responses), np.float32), 1)
        return Example(
            prompt_id, tokens(3 + prompt_id), tuple(map(tokens, lengths)), logprobs(), logprobs(),
            numbers(responses), numbers(responses), np.ones(responses, np.float32), pairs,
        )  # fmt: skip

    return make
