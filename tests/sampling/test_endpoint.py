"""The HTTP rollout, tested against a real server on the loopback interface that behaves well or badly."""

import json

import numpy as np
import pytest

from gpmjax.data.groups import user
from gpmjax.sampling.endpoint import HttpRollout
from gpmjax.sampling.http import Server
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import RolloutFailed, prompt_tokens

PROMPTS = [user("Tea or coffee?"), user("Why?")]


def choices(body):
    """K choices in reverse order; choice K − 1 was cut."""
    texts = [f"Answer {k} to {len(body['prompt'])} tokens." for k in range(body["n"])]
    made = [{"index": k, "text": text, "finish_reason": "stop"} for k, text in enumerate(texts)]
    made[-1]["finish_reason"] = "length"
    return made[::-1]


def answer(handler, body):
    handler.reply(200, json.dumps({"choices": choices(body)}))


def status(code, text="busy\nmore"):
    return lambda handler, body: handler.reply(code, text)


def say(text):
    return lambda handler, body: handler.reply(200, text)


def stall(handler, body):
    handler.server.released.wait(30)


def hang_up(handler, body):
    handler.close_connection = True


@pytest.fixture
def server(http_server):
    http_server.script = [answer]
    return http_server


@pytest.fixture
def rollout(server, chat):
    plan = SamplingPlan(max_new_tokens=32, top_k=5)

    def make(samples=3, **fields):
        settings = dict(timeout=20.0, retries=2, backoff=0.01) | fields
        return HttpRollout(Server(server.url, **settings), "policy", chat, plan, samples)

    return make


def test_responses_come_in_order_with_their_tokens(server, rollout, chat):
    found = rollout()(PROMPTS, seed=3)
    eos = chat.tokenizer.eos_token_id
    for prompt, answers in zip(PROMPTS, found, strict=True):
        (ids,) = prompt_tokens(chat, [prompt])
        assert answers.texts == tuple(f"Answer {k} to {len(ids)} tokens." for k in range(3))
        assert answers.stopped == (True, True, False) and answers.logprobs is None
        for text, tokens, stopped in zip(answers.texts, answers.tokens, answers.stopped, strict=True):
            assert tokens.dtype == np.int32 and tokens.tolist() == chat.tokenizer(text)["input_ids"] + [eos] * stopped


def test_a_request_says_all_that_the_plan_says(server, rollout, chat):
    rollout(key="secret")(PROMPTS, seed=3, ids=[7, 8])
    rollout(key="secret")(PROMPTS[1:], seed=3, ids=[8])
    path, body, authorization = max(server.requests, key=lambda request: request[1]["seed"])
    expected = dict(model="policy", n=3, max_tokens=32, temperature=0.7, top_p=0.9, top_k=5)
    assert {name: body[name] for name in expected} == expected
    assert body["stop_token_ids"] == [chat.tokenizer.eos_token_id]
    assert (path, authorization) == ("/v1/completions", "Bearer secret")
    assert "secret" not in repr(rollout(key="secret"))
    # A prompt has its own seed, whatever the batch.
    sent = [(tuple(body["prompt"]), body["seed"]) for _, body, _ in server.requests]
    assert len(sent) == 3 and len(set(sent)) == 2 and len({seed for _, seed in sent}) == 2
    assert {prompt for prompt, _ in sent} == {tuple(ids.tolist()) for ids in prompt_tokens(chat, PROMPTS)}


def test_token_ids_are_used_if_the_server_sends_them(server, rollout, chat):
    eos = chat.tokenizer.eos_token_id

    def with_ids(handler, body):
        made = choices(body)
        for choice, ids in zip(made, ([40, 41], [50, eos], [60, 61]), strict=True):
            choice["token_ids"] = ids
        handler.reply(200, json.dumps({"choices": made}))

    server.script = [with_ids]
    (found,) = rollout()(PROMPTS[:1], seed=0)
    # The last one was cut. The others end in EOS, whether the server includes it or not.
    assert [tokens.tolist() for tokens in found.tokens] == [[60, 61, eos], [50, eos], [40, 41]]


@pytest.mark.parametrize("ids", [[10**9], [-1, 40], [40, 10**400]])
def test_a_response_with_ids_that_have_no_text_is_tokenised_again(server, rollout, chat, ids):
    made = [{"text": "Tea.", "finish_reason": "length", "token_ids": ids}]
    server.script = [lambda handler, body: handler.reply(200, json.dumps({"choices": made}))]
    (found,) = rollout(samples=1)(PROMPTS[:1], seed=0)
    assert found.tokens[0].tolist() == chat.tokenizer("Tea.")["input_ids"]


@pytest.mark.parametrize("ids", [7, "ab", [True], [1.5], {"a": 1}])
def test_malformed_token_ids(server, rollout, ids):
    server.script = [
        lambda handler, body: handler.reply(200, json.dumps({"choices": [{"text": "Tea.", "token_ids": ids}]}))
    ]
    with pytest.raises(RolloutFailed, match="malformed answer .no list of choices, each with a text., 3 times"):
        rollout(samples=1)(PROMPTS[:1], seed=0)


@pytest.mark.parametrize(
    "bad",
    [
        status(503),
        status(429),
        say("not json"),
        say('{"choices": [{"text": "a", "index": null}]}'),
        say("[]"),
        say('{"choices": []}'),
        hang_up,
    ],
    ids=["503", "429", "no json", "no index", "no object", "too few", "hang up"],
)
def test_two_failures_are_retried(server, rollout, bad):
    server.script = [bad, bad, answer]
    (found,) = rollout()(PROMPTS[:1], seed=0)
    assert len(found.texts) == 3 and len(server.requests) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (status(500), r"status 500 \(busy\), 3 times"),
        (say("{"), r"malformed answer \(.*\), 3 times"),
        (say('{"choices": [{"text": "one"}]}'), "malformed answer .1 choices, 3 asked for., 3 times"),
        (hang_up, r"no connection \(.*\), 3 times"),
    ],
    ids=["500", "no json", "too few", "hang up"],
)
def test_the_third_failure_is_an_error_that_names_the_url(server, rollout, bad, message):
    server.script = [bad]
    with pytest.raises(RolloutFailed, match=message) as caught:
        rollout()(PROMPTS[:1], seed=0)
    assert f"{server.url}/completions" in str(caught.value) and "\n" not in str(caught.value)
    assert len(server.requests) == 3


def test_a_stalled_server_times_out_and_other_prompts_are_kept(server, rollout):
    server.script = [answer, stall]
    with pytest.raises(
        RolloutFailed, match=r"no answer within 0.3 s, 2 times \(1 of 2 prompts answered, and kept\)"
    ) as caught:
        rollout(timeout=0.3, retries=1, concurrency=1)(PROMPTS, seed=0)
    assert server.url in str(caught.value)
    assert list(caught.value.kept) == [0] and caught.value.kept[0].stopped == (True, True, False)


def test_a_refused_request_is_not_sent_again(server, rollout):
    server.script = [status(400, '{"message": "prompt of 9000 tokens is too long"}')]
    with pytest.raises(RolloutFailed, match="status 400 .*9000 tokens is too long"):
        rollout()(PROMPTS[:1], seed=0)
    assert len(server.requests) == 1


def test_no_server_at_all(rollout, server):
    gone = "http://127.0.0.1:9"  # the "discard" port: nothing listens on it
    with pytest.raises(RolloutFailed, match=r"http://127.0.0.1:9/completions: no connection \(.*refused.*\), 1 times"):
        HttpRollout(Server(gone, retries=0), "policy", rollout().chat, SamplingPlan(4), 1)(PROMPTS[:1], seed=0)


def test_bad_settings_are_refused(rollout):
    with pytest.raises(ValueError, match="url='localhost:8000': must begin with http"):
        Server("localhost:8000")
    with pytest.raises(ValueError, match="samples=0: must be at least 1"):
        rollout(samples=0)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        rollout()([PROMPTS[0], user("")], seed=0)
