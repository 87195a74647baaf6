"""An example is one group as the model sees it: texts, labels, scores."""

import json

import jax.numpy as jnp
import numpy as np

from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import encode_each
from gpmjax.data.groups import Group, user
from gpmjax.fit.examples import LABEL_LENGTH, example
from gpmjax.hub import load_tokenizer
from gpmjax.models.scores import PreferenceOutput

RESPONSES = ("short", "a response that is longer than its label may be, by <b>some</b> letters", "x")


def test_texts_are_whole_and_labels_short(tokenizer_directory):
    tokenizer = load_tokenizer(str(tokenizer_directory))
    group = Group(user("Which of <these>?"), RESPONSES, where="pairs.jsonl:3")
    ((encoded, _),) = encode_each([group], ChatFormat(tokenizer), max_length=256)
    v = np.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [9.0, 9.0]]], np.float32)
    output = PreferenceOutput(jnp.asarray(v), jnp.full((1, 4, 1), 2.0), jnp.float32(0.5))
    found = json.loads(json.dumps(example(encoded, output, tokenizer)))
    assert found["texts"]["responses"] == list(RESPONSES)
    assert found["texts"]["prompt"] == "<|start|>user:Which of <these>?<|end|><|start|>assistant:"
    assert found["labels"] == [text[:LABEL_LENGTH] for text in RESPONSES]
    # s(i ≻ j) = λ (v_i[0] v_j[1] − v_i[1] v_j[0]), padding left out.
    assert found["scores"] == [[0, 2, 0], [-2, 0, 2], [0, -2, 0]]
    assert found["scale"] == [2.0] and found["tau"] == 0.5 and found["title"] == "pairs.jsonl:3"


def test_a_reward_has_no_embedding_to_draw(tokenizer_directory):
    tokenizer = load_tokenizer(str(tokenizer_directory))
    ((encoded, _),) = encode_each([Group(user("?"), RESPONSES[:2])], ChatFormat(tokenizer), max_length=256)
    found = example(encoded, PreferenceOutput(jnp.array([[[3.0], [1.0]]]), None, jnp.float32(1)), tokenizer)
    assert found["scores"] == [[0, 2], [-2, 0]] and not found.keys() & {"embedding", "scale"}
