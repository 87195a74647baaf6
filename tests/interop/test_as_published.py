"""bos_tokens and gate_at are kept when a model is declared, saved, loaded, judged, scored, served and exported."""

import dataclasses
import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from gpmjax.config.judge import JudgeConfig, ScorerConfig
from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Group, Message
from gpmjax.hub import load_preference_model, load_tokenizer, save_preference_model
from gpmjax.interop.reward_model import RewardModel
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards
from gpmjax.interop.templated import templated
from gpmjax.judges.open import open_judge, open_scorer
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh

TRAINED = {"bos_tokens": 2, "gate_at": "first_message"}
TURNS = (Message("user", "Why?"), Message("assistant", "So."), Message("user", "How?"))
GROUP = Group(TURNS, ("Like this.", "No idea."))


@pytest.fixture(scope="module")
def published(saved, tmp_path_factory):
    """(directory as others publish it, without a declaration; the same model saved by gpmjax with its declaration)."""
    loaded = load_preference_model(saved["gpm"])
    spec = dataclasses.replace(loaded.spec, **TRAINED)
    ours, theirs = (tmp_path_factory.mktemp("published") / name for name in ("ours", "theirs"))
    for directory in (ours, theirs):
        save_preference_model(directory, loaded.params, loaded.config, spec, loaded.tokenizer)
    said = json.loads((theirs / "config.json").read_text(encoding="utf-8"))
    assert {name: said["gpmjax"][name] for name in TRAINED} == TRAINED
    (theirs / "config.json").write_text(json.dumps({k: v for k, v in said.items() if k != "gpmjax"}), encoding="utf-8")
    return str(theirs), str(ours)


def declared(spec_of):
    spec = load_preference_model(spec_of).spec
    return {name: getattr(spec, name) for name in ("gate", "normalise", "tau", *TRAINED)}


def test_a_declared_model_scores_like_a_saved_one(published, saved):
    theirs, ours = published
    judges = {
        "declared": open_judge(JudgeConfig(theirs, **declared(ours))),
        "saved": open_judge(JudgeConfig(ours)),
        "as we write it": open_judge(JudgeConfig(saved["gpm"])),
    }
    found = {name: next(judge([GROUP])) for name, judge in judges.items()}
    np.testing.assert_array_equal(found["declared"].scores, found["saved"].scores)
    assert np.abs(found["declared"].scores - found["as we write it"].scores).max() > 1e-4
    assert np.abs(found["declared"].scale - found["as we write it"].scale).max() > 1e-2
    assert judges["saved"].identity["spec"] | TRAINED == judges["saved"].identity["spec"]
    with pytest.raises(ValueError, match="config.json says bos_tokens=2, the caller 1"):
        load_preference_model(ours, {"bos_tokens": 1})
    with pytest.raises(ValueError, match="gate_at is 'first_message'; allowed: 'prompt'"):
        PreferenceSpec(gate="none", gate_at="first_message").validate()


def test_scorer_and_server_use_the_declaration(published):
    theirs, ours = published
    (expected,) = open_judge(JudgeConfig(ours))([GROUP])
    given = declared(ours)
    config = ScorerConfig(model=theirs, dtype="float32", **given)
    config.validate("scorer")
    (verdict,) = open_scorer(config, make_mesh())([GROUP], "all")
    np.testing.assert_allclose(verdict.scores, expected.scores, atol=1e-5)
    asked = [Completion(TURNS, text) for text in GROUP.responses]
    served = RewardModel(theirs, against="group", declare=tuple(given.items()), tokenizer=ours)(asked)
    np.testing.assert_array_equal(served, Rewards(open_judge(JudgeConfig(ours)), RewardPlan("group"))(asked))
    with pytest.raises(ValueError, match="gate_at='first_message' needs the messages"):
        templated(open_judge(JudgeConfig(ours)))


def test_the_exported_template_writes_the_trained_bos_tokens(published):
    ours = load_tokenizer(published[1])
    prompt, _, response = ChatFormat(ours, **TRAINED).encode(TURNS, "Like this.")
    conversation = [*(message.as_dict() for message in TURNS), {"role": "assistant", "content": "Like this."}]
    ids = AutoTokenizer.from_pretrained(published[1]).apply_chat_template(conversation, return_dict=False)
    assert ids == prompt + response and ids[:3].count(ours.bos_token_id) == 2


def test_another_tokenizer(saved, tmp_path):
    """A model without a readable tokenizer takes another one and records it."""
    whole = load_preference_model(saved["gpm"])
    save_preference_model(tmp_path / "m", whole.params, whole.config, whole.spec, whole.tokenizer)
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        open_judge(JudgeConfig(str(tmp_path / "m")))
    judge = open_judge(JudgeConfig(str(tmp_path / "m"), tokenizer=saved["gpm"]))
    np.testing.assert_array_equal(
        next(judge([GROUP])).scores, next(open_judge(JudgeConfig(saved["gpm"]))([GROUP])).scores
    )
    assert judge.identity["tokenizer"] == saved["gpm"]
