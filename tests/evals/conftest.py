"""Small random models with a real tokenizer, in which padding is EOS, and a set of comparisons to put to them."""

import json
import random

import jax
import numpy as np
import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.evals.held_out import held_out
from gpmjax.hub import load_tokenizer
from gpmjax.models.config import DecoderConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec

SPECS = {
    "gpm": PreferenceSpec(dim=4, gate="softmax", normalise="none", tau=0.5),
    "bt": PreferenceSpec.bradley_terry(),
}


@pytest.fixture(scope="session")
def chat():
    return ChatFormat(load_tokenizer("smollm2"))


@pytest.fixture(scope="session")
def pairs():
    """Pairs of unlike lengths, several of them sharing a prompt and responses; some tied, some tagged."""
    words = random.Random(0)
    say = lambda least, most: " ".join(words.choices(["red", "apple", "42", "why?", "Straße"], k=words.randint(least, most)))
    rows = []
    for prompt in (say(1, 3), say(20, 30), say(5, 9)):
        responses = [say(1, 12) + f" {n}" for n in range(4)]
        for i, j in ((0, 1), (1, 2), (2, 0), (3, 1)):
            rows.append({"prompt": prompt, "chosen": responses[i], "rejected": responses[j], "chosen_probs": 1 - 0.5 * (i == 3)})
    return rows


@pytest.fixture(scope="session")
def write_rows(tmp_path_factory):
    """Rows → path of a new jsonl file that holds them."""

    def write(rows):
        path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


@pytest.fixture(scope="session", params=SPECS)
def model_and_params(request, chat, pairs, write_rows):
    """Parameters large enough that a score moves as soon as a token, a position or the gate does."""
    config = DecoderConfig(
        vocab_size=len(chat.tokenizer), hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_size=24,
        rope_theta=300.0, layer_types=("sliding", "sliding"), window=7, tie_embeddings=True,
    )  # fmt: skip
    model = PreferenceModel(config, SPECS[request.param])
    (batch, *_) = held_out(write_rows(pairs), chat, max_length=128, rows_per_batch=1).batches()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    numbers = np.random.default_rng(1)
    return model, jax.tree.map(lambda leaf: numbers.normal(0, 0.4, leaf.shape).astype(leaf.dtype), shapes)
