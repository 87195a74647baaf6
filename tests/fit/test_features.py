"""A text's cached features are found by its own prompt and response, however its group lays them out."""

import numpy as np
import pytest

from gpmjax.data.assemble import BatchShape, assemble, assemble_features
from gpmjax.data.chat import ChatFormat
from gpmjax.data.encode import encode_each
from gpmjax.data.groups import Comparison, Group, user
from gpmjax.feature_store import FeatureStore
from gpmjax.fit.features import GroupFeatures, encode_missing, group_keys
from gpmjax.hub import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory):
    return load_tokenizer(str(tokenizer_directory))


TEXTS = ("yes", "r" * 40, "s" * 40, "no", "t" * 35)


def mixed(tokenizer, texts=TEXTS):
    group = Group(user("p" * 90), texts, (Comparison(0, len(texts) - 1),))
    ((encoded, _),) = encode_each([group], ChatFormat(tokenizer), max_length=125)
    return encoded


def test_keys_do_not_know_the_company(tokenizer):
    encoded = mixed(tokenizer)
    assert any(encoded.own_prompt)
    assert group_keys(encoded) == [key for text in TEXTS for key in group_keys(mixed(tokenizer, (text, text)))[:1]]
    assert len(set(group_keys(encoded))) == len(TEXTS)


def test_features_are_read_where_the_layout_says(tokenizer, tmp_path):
    """With token and position at a slot as its "hidden state", cached features are those of the group's own batch."""
    encoded = mixed(tokenizer)

    def hidden(batch):
        state = np.stack([batch.tokens, batch.layout.positions], -1).astype(np.float32)
        return tuple(
            np.stack([row[slots] for row, slots in zip(state, ends, strict=True)])
            for ends in (batch.response_end, batch.prompt_end)
        )

    store = FeatureStore(tmp_path, "f", 2)
    assert encode_missing([encoded], store, hidden, rows=1, row_length=125) == len(TEXTS)
    shape = BatchShape(1, *encoded.size)
    cached = assemble_features([[encoded]], shape, GroupFeatures(store), hidden_size=2)
    response, prompt = hidden(assemble([[encoded]], shape))
    np.testing.assert_array_equal(cached.response, response)
    np.testing.assert_array_equal(cached.prompt, prompt)
    assert len(np.unique(prompt[0, :, 1])) > 1  # gates stand at different positions
