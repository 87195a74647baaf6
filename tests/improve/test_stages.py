"""Prompts go through a stage's files whole, with the tools, calls and names that they hold."""

import numpy as np

from gpmjax.data.groups import TOOLS, Message, RichText, user
from gpmjax.data.prompts import EncodedPrompt, Prompt
from gpmjax.improve.stages import samples
from gpmjax.sampling.rollout import Rollouts

CALL = {"type": "function", "function": {"name": "f", "arguments": {"city": "Oslo"}}}
MESSAGES = (
    Message(TOOLS, '[{"type": "function"}]'),
    *user("Weather?"),
    Message("assistant", RichText({"content": "", "tool_calls": [CALL]})),
    Message("tool", RichText({"content": "4 C", "name": "f"})),
)


def test_sampled_prompts_come_back_with_everything_in_them(tmp_path):
    drawn = Rollouts(("a", "b"), (np.array([1], np.int32),) * 2, None, (True, True))
    prompts = [
        EncodedPrompt(n, Prompt(messages, f"f:{n}"), np.array([1], np.int32))
        for n, messages in enumerate([MESSAGES, user("Q")])
    ]
    sampled = samples(
        tmp_path,
        prompts,
        lambda: lambda asked, seed, ids: [drawn] * len(asked),
        seed=0,
        prompts_a_file=1,
        facts={},
        between=lambda: None,
    )
    groups = [sampled.group(n) for n in range(2)]
    assert [(group.prompt, group.where) for group in groups] == [prompt.prompt for prompt in prompts]
    assert [group.responses for group in groups] == [("a", "b")] * 2
    assert [getattr(message.content, "fields", None) for message in groups[0].prompt] == [
        None, None, {"content": "", "tool_calls": [CALL]}, {"content": "4 C", "name": "f"},
    ]  # fmt: skip
