"""A judge with a known K×K matrix, and tiny random models saved with a real tokenizer."""

import threading

import jax
import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.evals.held_out import held_out
from gpmjax.hub import load_tokenizer, save_preference_model
from gpmjax.judges.judge import Verdict
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec

SPECS = {
    "gpm": PreferenceSpec(dim=4, gate="softmax", normalise="none", tau=0.5),
    "bt": PreferenceSpec.bradley_terry(),
}

CYCLE = {("rock", "scissors"): 1.0, ("scissors", "paper"): 2.0, ("paper", "rock"): 3.0}
"""s(i ≻ j) of the texts that `KnownJudge` compares; scores of other texts are 0."""
TAU = 0.5


class KnownJudge:
    """A judge with the scores of CYCLE. Entries of pairs that are not asked for are NaN."""

    def __init__(self):
        self.identity = {"name": "known"}
        self.calls, self.inside, self.lock = [], 0, threading.Lock()

    def __call__(self, groups, pairs="labelled"):
        with self.lock:
            self.inside += 1
            assert self.inside == 1, "two threads in one model"
        self.calls.append((list(groups), pairs))
        for group in groups:
            K = len(group.responses)
            scores = np.full((K, K), np.nan)
            wanted = [(c.chosen, c.rejected) for c in group.comparisons] if pairs == "labelled" else np.ndindex(K, K)
            for i, j in wanted:
                if i != j:
                    first, second = group.responses[i], group.responses[j]
                    scores[i, j] = CYCLE.get((first, second), 0.0) - CYCLE.get((second, first), 0.0)
            yield Verdict(scores, TAU, np.ones(K, int), K)
        with self.lock:
            self.inside -= 1


@pytest.fixture
def judge():
    return KnownJudge()


@pytest.fixture(scope="session")
def saved(tokenizer_directory, pairs_file, tmp_path_factory):
    """Kind of a model → directory of a saved model of that kind."""
    tokenizer = load_tokenizer(str(tokenizer_directory))
    config = DecoderConfig(len(tokenizer), 16, num_layers=1, num_heads=2, mlp_size=16, tie_embeddings=True)
    (batch, *_) = held_out(str(pairs_file), ChatFormat(tokenizer), max_length=128, rows_per_batch=1).batches()
    directories = {}
    for kind, spec in SPECS.items():
        model = PreferenceModel(config, spec)
        shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
        draw = np.random.default_rng(1).normal
        params = jax.tree.map(lambda leaf, draw=draw: draw(0, 0.4, leaf.shape).astype(leaf.dtype), shapes)
        directories[kind] = str(tmp_path_factory.mktemp("saved") / kind)
        save_preference_model(directories[kind], params, config, spec, tokenizer)
    return directories
