"""What a fit trains on: listwise weights are a group's, however many pieces it is split into."""

import itertools
import json

import numpy as np
import pytest

from gpmjax.config import Config
from gpmjax.data.chat import ChatFormat
from gpmjax.data.pipeline import Pipeline
from gpmjax.fit.inputs import read_training_data, training_shape
from gpmjax.hub import load_tokenizer


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """Groups of nine, of eight and of two ranked responses, all pairs compared."""
    path = tmp_path_factory.mktemp("ranked") / "ranked.jsonl"

    def row(prompt, count):
        pairs = [{"chosen_idx": i, "rejected_idx": j} for i, j in itertools.combinations(range(count), 2)]
        return {"prompt": prompt, "responses": [f"answer {n}" for n in range(count)], "comparisons": pairs}

    path.write_text("".join(json.dumps(row(f"Pick one of {count}.", count)) + "\n" for count in (9, 8, 2)))
    return str(path)


def prepared_with(ranked, tokenizer_directory, max_responses, reduction):
    config = Config()
    config.data.max_length, config.data.max_responses, config.data.rows = 64, max_responses, 2
    config.loss.reduction = reduction
    config.data.train = (ranked,)
    return config, read_training_data(config, ChatFormat(load_tokenizer(str(tokenizer_directory))))


@pytest.mark.parametrize("max_responses", [2, 3, 4, 5, 6, 7, 8, 9, None])
def test_a_groups_listwise_weights_add_up_to_one(ranked, tokenizer_directory, max_responses):
    config, prepared = prepared_with(ranked, tokenizer_directory, max_responses, "listwise")
    (pieces,) = prepared.sources
    weights = {}
    for piece in pieces:
        weights.setdefault(piece.where, []).extend(comparison.weight for comparison in piece.comparisons)
    assert sorted(len(found) for found in weights.values()) == [1, 28, 36]
    for found in weights.values():
        assert sum(found) == pytest.approx(1.0) and np.ptp(found) == 0
    if max_responses == 2:
        assert len(pieces) == 36 + 28 + 1
    # As an epoch's batches have them.
    pipeline = Pipeline(prepared.sources, training_shape(config, prepared))
    batches = [pipeline.batch(step).comparisons.weight for step in range(pipeline.steps(1))]
    assert np.sum(batches) == pytest.approx(3.0, rel=1e-6)


def test_pairwise_weights_are_left_as_they_were_read(ranked, tokenizer_directory):
    prepared = prepared_with(ranked, tokenizer_directory, 3, "pairwise")[1]
    assert {comparison.weight for piece in prepared.sources[0] for comparison in piece.comparisons} == {1.0}
