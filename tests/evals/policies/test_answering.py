"""Answers of a policy, turn by turn, and their resumption."""

import json

import pytest

from gpmjax.data.chat import ChatFormat
from gpmjax.evals.policies.answering import Task, answer, tasks_identity
from gpmjax.hub import load_tokenizer
from gpmjax.sampling.endpoint import HttpRollout
from gpmjax.sampling.http import Server
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import RolloutFailed

TASKS = [Task((f"ask {n}", f"more {n}"), 0.7 * (n % 2), f"q.jsonl:{n + 1}") for n in range(40)]


@pytest.fixture
def rollout(http_server, tokenizer_directory):
    """A served policy that answers with the user's last turn."""
    chat = ChatFormat(load_tokenizer(str(tokenizer_directory)))

    def echo(handler, body):
        text = chat.tokenizer.decode(body["prompt"]).split("user:")[-1].split("<|end|>")[0]
        choice = {"index": 0, "text": f"<{text}>", "finish_reason": "stop" if "more" in text else "length"}
        handler.reply(200, json.dumps({"choices": [choice]}))

    http_server.script = [echo]
    http_server.echo, http_server.chat = echo, chat
    return HttpRollout(Server(http_server.url, retries=0, concurrency=1), "policy", chat, SamplingPlan(8), 1)


def test_prompts_hold_earlier_replies_and_tasks_have_their_temperature(http_server, rollout, tmp_path):
    replies = answer(TASKS, rollout, 0, tmp_path / "a.rows.jsonl", {"model": "m"})
    assert [tuple(turn.text for turn in both) for both in replies] == [(f"<ask {n}>", f"<more {n}>") for n in range(40)]
    assert [tuple(turn.stopped for turn in both) for both in replies] == [(False, True)] * 40
    assert len(http_server.requests) == 80 and len({body["seed"] for _, body, _ in http_server.requests}) == 80
    for _, body, _ in http_server.requests:
        text = http_server.chat.tokenizer.decode(body["prompt"])
        number = int(text.split("user:ask ")[1].split("<")[0])
        assert body["temperature"] == TASKS[number].temperature
        assert ("more" in text) == (f"assistant:<ask {number}>" in text)


def test_an_interrupted_run_is_resumed_with_the_same_draws(http_server, rollout, tmp_path):
    whole = answer(TASKS, rollout, 0, tmp_path / "whole.rows.jsonl", {})
    seeds = sorted(body["seed"] for _, body, _ in http_server.requests)
    http_server.requests[:] = []
    http_server.script = [http_server.echo] * 45 + [lambda handler, body: handler.reply(400, "no")]
    with pytest.raises(RolloutFailed, match="status 400"):
        answer(TASKS, rollout, 0, tmp_path / "a.rows.jsonl", {})
    http_server.script = [http_server.echo]
    replies = answer(TASKS, rollout, 0, tmp_path / "a.rows.jsonl", {})
    without_time, expected = ([[turn[:2] for turn in both] for both in each] for each in (replies, whole))
    assert without_time == expected
    assert len(http_server.requests) == 80 + 1  # one was refused
    assert sorted({body["seed"] for _, body, _ in http_server.requests}) == seeds
    # With another identity, all replies are drawn again.
    http_server.requests[:] = []
    answer(TASKS, rollout, 0, tmp_path / "a.rows.jsonl", {"seed": 1})
    assert len(http_server.requests) == 80


def test_a_prompt_that_cannot_be_answered_is_named(rollout, tmp_path):
    with pytest.raises(ValueError, match="f.json: row 1 and the 1 prompts after it: prompt 1 is empty"):
        answer(
            [Task(("a",), 0.0, "f.json: row 1"), Task((" ",), 0.0, "f.json: row 2")],
            rollout,
            0,
            tmp_path / "a.jsonl",
            {},
        )


def test_the_identity_of_tasks_is_their_turns_and_temperatures():
    assert tasks_identity(TASKS) == tasks_identity([task._replace(where="") for task in TASKS])
    assert tasks_identity(TASKS) != tasks_identity([TASKS[0]._replace(temperature=1.0), *TASKS[1:]])
