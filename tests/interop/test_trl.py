"""TRL's reward function, called as by TRL 1.16.0."""

import json
import pickle

import numpy as np
import pytest
import torch

from gpmjax.interop.reward_model import RewardModel
from gpmjax.interop.rewards import RewardPlan, Rewards
from gpmjax.interop.trl import TRLReward


def calculate_rewards(reward_func, inputs, prompts, completions):
    """As trl/trainer/grpo_trainer.py's _calculate_rewards: every other column is passed by keyword."""
    columns = {
        key: [row[key] for row in inputs] for key in inputs[0] if key not in ("prompt", "completion", "completion_ids")
    }
    columns |= {"trainer_state": object(), "log_extra": print, "log_metric": print}
    output = reward_func(prompts=prompts, completions=completions, completion_ids=[[1]] * len(prompts), **columns)
    output = [reward if reward is not None else torch.nan for reward in output]
    assert len(output) == len(prompts)
    return torch.tensor(output, dtype=torch.float32)


TEXTS = ["rock", "scissors", "paper", "rock", "paper"]
ASKED = ["one", "one", "one", "two", "two"]
ROWS = [{"prompt": prompt, "answer": "scissors", "id": n} for n, prompt in enumerate(ASKED)]
EXPECTED = [-2 / 3, 1 / 3, 1 / 3, -1.5, 1.5]


def chat(role, texts):
    return [[{"role": role, "content": text}] for text in texts]


def test_strings_and_conversations_get_the_same_rewards(judge):
    reward = TRLReward(Rewards(judge, RewardPlan("group", "score")))
    plain = calculate_rewards(reward, ROWS, ASKED, TEXTS)
    np.testing.assert_allclose(plain, EXPECTED, rtol=1e-6)
    np.testing.assert_array_equal(calculate_rewards(reward, ROWS, chat("user", ASKED), chat("assistant", TEXTS)), plain)


def test_a_column_is_the_reference(judge):
    reward = TRLReward(Rewards(judge, RewardPlan("reference", "score")), reference="answer")
    np.testing.assert_allclose(calculate_rewards(reward, ROWS, ASKED, TEXTS), [1.0, 0.0, -2.0, 1.0, -2.0])


def test_the_columns_of_a_prompt_are_part_of_it():
    """TRL passes the data set's ``tools`` beside the prompt; a scorer reads them as part of the prompt."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    seen = []
    reward = TRLReward(lambda completions: (seen.extend(completions), np.zeros(len(completions)))[1])
    rows = [{"prompt": "one", "tools": tools, "system": "Be brief."}, {"prompt": "one", "tools": [], "system": None}]
    calculate_rewards(reward, rows, chat("user", ["one", "one"]), ["rock", "paper"])
    assert [message.role for message in seen[0].prompt] == ["tools", "system", "user"]
    assert json.loads(seen[0].prompt[0].content) == tools and seen[0].prompt[1].content == "Be brief."
    assert [message.role for message in seen[1].prompt] == ["user"]


def test_a_real_model_can_be_pickled(saved):
    reward = TRLReward(RewardModel(saved["gpm"], against="group", max_length=64, rows_per_batch=1))
    found = calculate_rewards(reward, ROWS, ASKED, TEXTS)
    again = calculate_rewards(pickle.loads(pickle.dumps(reward)), ROWS, ASKED, TEXTS)
    assert torch.equal(found, again) and found.abs().min() > 0
    np.testing.assert_allclose([found[:3].sum(), found[3:].sum()], 0, atol=1e-5)


def test_the_function_has_a_name_for_the_log(judge):
    # trl/trainer/utils.py's get_callable_name reads __name__
    assert TRLReward(judge).__name__ == "gpmjax" and TRLReward(judge, name="gpm-8b").__name__ == "gpm-8b"


@pytest.mark.parametrize(
    ("prompts", "completions", "reference", "words"),
    [
        (["p"], ["a"], None, "completion 0: the only completion of its prompt"),
        (["p", "p"], ["a"], None, "2 prompts with 1 completions"),
        (["p", "p"], ["a", [{"role": "assistant", "content": None}]], None, r"completion 1: field 'completion\[0\]'"),
        (["p", 3], ["a", "b"], None, "completion 1: field 'prompt': must be a string or a list of messages, is int 3"),
        (["p", "p"], ["a", "b"], "solution", "reference='solution': no such column; there is answer, id"),
    ],
)
def test_an_error_is_one_line_that_names_the_completion(judge, prompts, completions, reference, words):
    reward = TRLReward(Rewards(judge, RewardPlan("group")), reference)
    with pytest.raises(ValueError, match=words) as refusal:
        reward(prompts=prompts, completions=completions, answer=["x"] * len(prompts), id=[0] * len(prompts))
    assert "\n" not in str(refusal.value)
