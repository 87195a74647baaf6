"""OpenRLHF's reward_func in a file, loaded and called as by OpenRLHF 0.11.2, one completion per call."""

import asyncio
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import user
from gpmjax.interop import openrlhf, reward_model
from gpmjax.interop.openrlhf import OpenRLHFReward, read_completions
from gpmjax.interop.reward_model import RewardModel
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards
from gpmjax.judges.open import open_judge

SHORT = {"max_length": 64, "rows_per_batch": 1}
ANSWERS = ("yes", "no, never", "perhaps")


def load(path):
    """Loads a file as openrlhf/utils/agent.py, SingleTurnAgentExecutor.__init__, does."""
    spec = importlib.util.spec_from_file_location("reward_func", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reward_func


async def execute(reward_func, query, prompt, label):
    """As agent.py's execute and _fetch_rewards_via_func, then samples_generator.py's
    _process_response_into_experience."""
    (info,) = await asyncio.gather(asyncio.to_thread(reward_func, [query], [prompt], [label]))
    score = info.get("scores")
    score = info.get("rewards") if score is None else score
    assert (info.get("extra_logs") or {}) == {}
    return torch.tensor([info["rewards"]]), torch.tensor([score])


@pytest.fixture(scope="module")
def judge(saved):
    return open_judge(JudgeConfig(saved["gpm"], max_length=64, rows=1))


@pytest.fixture(scope="module")
def expected(judge):
    asked = [Completion(user("Is it?"), answer, "maybe") for answer in ANSWERS]
    return Rewards(judge, RewardPlan("reference"))(asked)


@pytest.fixture
def environ(saved, monkeypatch):
    def say(**fields):
        for name, value in (
            {"MODEL": saved["gpm"], "AGAINST": "reference", "MAX_LENGTH": 64, "ROWS_PER_BATCH": 1} | fields
        ).items():
            monkeypatch.setenv(f"GPMJAX_{name}", str(value))

    monkeypatch.setattr(reward_model, "_OPENED", {})
    return say


def written(judge, answer):
    """Prompt and query of OpenRLHF with --data.apply_chat_template, including special tokens."""
    chat = [{"role": "user", "content": "Is it?"}]
    prompt = judge.chat.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return prompt, f"{prompt}{answer}<|end|>"


@pytest.mark.parametrize("prompts", ["user", "templated"])
def test_the_file_itself_is_a_reward_file(environ, judge, expected, prompts):
    environ(PROMPTS=prompts, ENDING="<|end|>")
    function = load(Path(openrlhf.__file__))
    for answer, number in zip(ANSWERS, expected, strict=True):
        prompt, query = written(judge, answer) if prompts == "templated" else ("Is it?", f"Is it?{answer}<|end|>")
        reward, score = asyncio.run(execute(function, query, prompt, "maybe"))
        np.testing.assert_allclose([reward.item(), score.item()], number, rtol=1e-4, atol=1e-5)


def test_a_users_file_may_return_tensors(environ, saved, expected, tmp_path):
    path = tmp_path / "my_reward.py"
    path.write_text(
        "import torch\n"
        "from gpmjax.interop.openrlhf import OpenRLHFReward\n"
        "from gpmjax.interop.reward_model import RewardModel\n"
        f"model = RewardModel({saved['gpm']!r}, against='reference', max_length=64, rows_per_batch=1)\n"
        "reward_func = OpenRLHFReward(model, as_tensor=torch.tensor)\n"
    )
    reward, _ = asyncio.run(execute(load(path), "Is it?yes", "Is it?", "maybe"))
    assert reward.shape == (1,)
    np.testing.assert_allclose(reward.item(), expected[0], rtol=1e-4, atol=1e-5)


def test_a_call_that_holds_a_group(saved, judge):
    function = OpenRLHFReward(RewardModel(saved["gpm"], against="group", **SHORT), as_tensor=torch.tensor)
    found = function([f"Is it?{a}" for a in ANSWERS], ["Is it?"] * 3, [""] * 3)["rewards"]
    asked = [Completion(user("Is it?"), answer) for answer in ANSWERS]
    np.testing.assert_allclose(found, Rewards(judge, RewardPlan("group"))(asked), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"query\[0\]: the only completion of its prompt"):
        function(["Is it?yes"], ["Is it?"], [""])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "request: field 'query': must be a list, is NoneType None"),
        ({"query": "a", "prompts": ["a"]}, "request: field 'query': must be a list, is a string"),
        ({"query": ["a", 3], "prompts": ["a", "b"]}, r"request: field 'query\[1\]': must be a string, is int 3"),
        ({"query": ["a"]}, "request: field 'prompts': must be a list"),
        ({"query": ["a"], "prompts": []}, "field 'prompts': must have as many entries as 'query', 1, has 0"),
        ({"query": ["a"], "prompts": ["a"], "labels": []}, "field 'labels': must have as many entries"),
        (
            {"query": ["b: answer"], "prompts": ["a: "]},
            r"field 'query\[0\]': must begin with its prompt, 'a: ', begins 'b: answer'",
        ),
        (
            {"query": ["a"], "prompts": [{"role": "user"}]},
            r"field 'prompts\[0\]': must be a string or a list of messages",
        ),
    ],
)
def test_an_error_is_one_line_that_names_the_field(fields, words):
    with pytest.raises(ValueError, match=words) as refusal:
        read_completions(fields)
    assert "\n" not in str(refusal.value)


def test_a_conversation_comes_with_the_answer_alone():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]
    (made,) = read_completions({"query": ["answer"], "prompts": [chat], "labels": ["x"]})
    assert [message.content for message in made.prompt] == ["s", "p"] and made[1:3] == ("answer", "x")
