"""A policy is trained by every judge there is: by a model that thinks first, a pairwise model and a chat model."""

import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import special

from gpmjax.config.improve import PromptsConfig, ScorerConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.hub import load_tokenizer, save_decoder, save_preference_model
from gpmjax.improve.improve import improve
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.spec import PreferenceSpec


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer_directory):
    """A language model and a pairwise model, of random weights."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), load_tokenizer(str(tokenizer_directory))
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec.pairwise("{prompt} {first} {second}?"))
    params = jax.jit(model.init)(jax.random.key(1), assemble([[]], BatchShape(1, 2, 2, 1)))["params"]
    save_decoder(folder / "language", {"decoder": params["decoder"]}, model.config, tokenizer)
    save_preference_model(folder / "pairwise", params, model.config, model.spec, tokenizer)
    return folder


@pytest.fixture
def chat_model(http_server, completion, replying, sides):
    """A server of a chat model that prefers the response of the larger letters, whatever the order."""

    def judge(prompt):
        sums = [sum(map(ord, side)) for side in sides(prompt)]
        first = float(np.clip(special.expit(sums[0] - sums[1]), 0.01, 0.99))
        return completion("A" if first > 0.5 else "B", {"A": first, "B": 1 - first})

    http_server.script = [replying(judge)]
    return http_server


def scorer(kind, models, server):
    asked = dict(head="verdict", question="{prompt} {response}?", verdicts=("Y", "N"))
    if kind == "rationales":
        return ScorerConfig(
            str(models / "language"), max_length=128, rationales=2, rationale_tokens=3, temperature=1.0, **asked
        )
    if kind == "pairwise":
        return ScorerConfig(str(models / "pairwise"), max_length=160)
    return ScorerConfig(endpoint=server.url, endpoint_model="judge")


@pytest.mark.parametrize("kind", ["rationales", "pairwise", "chat"])
def test_a_policy_is_trained_and_compared_by_it(kind, models, chat_model, config, tmp_path):
    config.scorer = config.judge.scorer = scorer(kind, models, chat_model)
    config.iterations = config.epochs = 1
    config.prompts.limit = 4
    config.judge.prompts = PromptsConfig(source=config.prompts.source, max_length=64, limit=1)
    config.judge.responses = 1
    summary = improve(config, tmp_path)
    assert summary["status"] == "finished" and (tmp_path / "iteration-1" / "policy" / "model.safetensors").exists()
    rows = [
        row
        for path in sorted((tmp_path / "iteration-1" / "scores").iterdir())
        for row in pq.read_table(path).to_pylist()
    ]
    scores = np.array([row["scores"] for row in rows])
    np.testing.assert_array_equal(scores, -scores.swapaxes(1, 2))
    assert np.abs(scores).max() > 1e-6 and all(row["embedding"] is None for row in rows)
    (figures,) = summary["iterations"]
    assert 0 < figures["judge"]["judge"]["win_rate"] < 1
    asked = len(chat_model.requests)
    assert (asked > 0) == (kind == "chat")
    (tmp_path / "iteration-1" / "scores" / "00000.parquet").unlink()
    (tmp_path / "iteration-1" / "figures.json").unlink()
    assert improve(config, tmp_path)["iterations"] == summary["iterations"]
    assert len(chat_model.requests) == asked  # its answers are kept in the work directory
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["scorer.rationales"] == config.scorer.rationales and "scorer.endpoint" not in record
    config.scorer.rationale_tokens += 1
    with pytest.raises(ValueError, match="was begun with scorer.rationale_tokens="):
        improve(config, tmp_path)
