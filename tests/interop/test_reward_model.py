"""Settings come from a call or the environment; a model is opened once; templated texts score as conversations do."""

import dataclasses
import pickle
import threading

import jax
import numpy as np
import pytest

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.assemble import BatchShape, assemble
from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import Group, user
from gpmjax.hub import load_tokenizer, save_preference_model
from gpmjax.interop import reward_model as module
from gpmjax.interop.client import RemoteRewards
from gpmjax.interop.reward_model import RewardModel, from_environment
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards
from gpmjax.interop.templated import split_at_header, templated, without_header
from gpmjax.judges.open import open_judge
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.models.spec import PreferenceSpec

HEADER = "<|start|>assistant:"
SHORT = {"max_length": 64, "rows_per_batch": 1}


@pytest.fixture
def fresh(monkeypatch):
    """Nothing opened before."""
    monkeypatch.setattr(module, "_OPENED", {})


def test_the_environment_says_what_a_call_says():
    environ = {
        "GPMJAX_MODEL": "m", "GPMJAX_AGAINST": "reference", "GPMJAX_UNITS": "win_rate", "GPMJAX_MAX_LENGTH": "99",
        "GPMJAX_DECLARE": "gate=softmax,normalise=l2,tau=0.1", "GPMJAX_ENDING": "<|eot_id|>", "HOME": "/",
    }  # fmt: skip
    declare = (("gate", "softmax"), ("normalise", "l2"), ("tau", 0.1))
    said = RewardModel("m", against="reference", units="win_rate", max_length=99, declare=declare, ending="<|eot_id|>")
    assert from_environment(environ) == said
    assert from_environment({"GPMJAX_URL": "http://h/get_reward"}) == RewardModel(url="http://h/get_reward")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "one of them must be given, in the environment GPMJAX_MODEL or GPMJAX_URL"),
        ({"MODEL": "m", "URL": "http://h"}, "one of them must be given"),
        ({"MODEL": "m"}, "against is ''; allowed: 'group', 'reference', 'nothing'"),
        ({"MODEL": "m", "AGAINST": "group", "PROMPTS": "chat"}, "prompts is 'chat'; allowed: 'user', 'templated'"),
        ({"MODEL": "m", "AGANST": "group"}, "GPMJAX_AGANST: no such setting; there are GPMJAX_MODEL, GPMJAX_URL, "),
        ({"MODEL": "m", "AGAINST": "group", "MAX_LENGTH": "long"}, "GPMJAX_MAX_LENGTH='long': invalid literal"),
        ({"MODEL": "m", "AGAINST": "group", "DECLARE": "tau"}, "GPMJAX_DECLARE='tau': must read field=value"),
        ({"MODEL": "m", "AGAINST": "group", "DECLARE": "tau=x"}, "GPMJAX_DECLARE='tau=x': could not convert"),
    ],
    ids=str,
)
def test_an_environment_that_does_not_add_up_is_one_line(environ, words):
    with pytest.raises(ValueError, match=words) as refusal:
        from_environment({f"GPMJAX_{name}": value for name, value in environ.items()})
    assert "\n" not in str(refusal.value)


def test_a_model_is_opened_once_by_the_first_of_many_threads_and_again_where_it_is_unpickled(fresh, saved, monkeypatch):
    opened, real = [], module.open_judge
    monkeypatch.setattr(module, "open_judge", lambda plan: opened.append(plan) or real(plan))
    model = RewardModel(saved["bt"], against="nothing", **SHORT)
    asked = [Completion(user("Is it?"), "yes"), Completion(user("Was it?"), "no")]
    found = []
    threads = [threading.Thread(target=lambda: found.append(model(asked))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1 and len(found) == 4
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again(asked), found[0])
    assert again == model and len(opened) == 1


def test_a_url_is_asked_instead(fresh):
    assert RewardModel(url="http://h/get_reward").opened() == (RemoteRewards("http://h/get_reward"), None)


def test_conversations_are_not_taken_for_templated_texts(saved):
    with pytest.raises(ValueError, match="for conversations say 'user'"):
        RewardModel(saved["gpm"], against="group", prompts="templated")([])


@pytest.fixture(scope="module", params=["gpm", "bt"])
def judge(request, saved):
    return open_judge(JudgeConfig(saved[request.param], max_length=64, rows=1))


@pytest.mark.parametrize("ending", ["", "<|end|>"], ids=["no eos", "eos"])
def test_templated_texts_score_as_their_conversations(judge, ending):
    tokenizer = judge.chat.tokenizer
    asked = [Completion(user("Is it so?"), text) for text in ("yes", "no, never", HEADER)]
    expected = Rewards(judge, RewardPlan("group"))(asked)
    as_is, header = templated(judge)
    assert header == HEADER
    written = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Is it so?"}], tokenize=False, add_generation_prompt=True
    )
    prompt = without_header(written, header, "prompt 0")
    found = Rewards(as_is, RewardPlan("group"))([Completion(prompt, c.text + ending) for c in asked])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert tokenizer.chat_template != as_is.chat.tokenizer.chat_template  # the judge itself is as it was


def test_a_whole_text_is_cut_where_the_answer_begins():
    text = f"<|start|>user:a<|end|>{HEADER}b<|end|><|start|>user:c<|end|>{HEADER}d<|end|>"
    prompt, answer = split_at_header(text, HEADER, "text 0")
    assert prompt[0].content.endswith("user:c<|end|>") and answer == "d<|end|>"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: without_header("Is it?", HEADER, "prompts[3]"),
            r"prompts\[3\]: ends in 'Is it\?', not in '<\|start\|>assistant:'",
        ),
        (lambda: split_at_header("Is it?", HEADER, "text 3"), "text 3: nowhere '<"),
        (lambda: templated(object()), "does not read prompt and response by a chat template"),
    ],
)
def test_texts_of_another_template_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_only_a_chat_template_can_step_aside(judge, tokenizer_directory):
    raw = ChatFormat(load_tokenizer(str(tokenizer_directory)), template="raw")
    with pytest.raises(ValueError, match="does not read prompt and response by a chat template"):
        templated(dataclasses.replace(judge, chat=raw))
    silent = load_tokenizer(str(tokenizer_directory))
    silent.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ValueError, match="opens no answer"):
        templated(dataclasses.replace(judge, chat=ChatFormat(silent)))


def test_a_pairwise_model_is_served(fresh, tmp_path, tokenizer_directory):
    """Every judge gives rewards: here the mean over both orders of a model that reads two responses at once."""
    model = PreferenceModel(PRESETS["tiny"], PreferenceSpec.pairwise("{prompt} {first} {second}?"))
    params = jax.jit(model.init)(jax.random.key(1), assemble([[]], BatchShape(1, 2, 2, 1)))["params"]
    save_preference_model(tmp_path / "m", params, model.config, model.spec, load_tokenizer(str(tokenizer_directory)))
    asked = [Completion(user("Is it?"), text) for text in ("yes", "no", "perhaps")]
    environ = {"GPMJAX_MODEL": str(tmp_path / "m"), "GPMJAX_AGAINST": "group", "GPMJAX_MAX_LENGTH": "128"}
    found = from_environment(environ)(asked)
    (verdict,) = open_judge(JudgeConfig(str(tmp_path / "m"), max_length=128))(
        [Group(user("Is it?"), ("yes", "no", "perhaps"))], "all"
    )
    np.testing.assert_allclose(found, verdict.scores.mean(axis=1) / verdict.tau, atol=1e-6)
    assert np.abs(found).max() > 1e-6 and abs(found.sum()) < 1e-6


def test_a_chat_model_is_served(fresh, http_server, completion, replying, sides):
    http_server.script = [replying(lambda prompt: completion("A" if sides(prompt)[0] == "yes" else "B"))]
    environ = {"GPMJAX_ENDPOINT": http_server.url, "GPMJAX_ENDPOINT_MODEL": "judge", "GPMJAX_UNITS": "win_rate"}
    found = from_environment(environ | {"GPMJAX_AGAINST": "group"})([Completion(user("Q"), t) for t in ("yes", "no")])
    np.testing.assert_allclose(found, [0.75, 0.25])
