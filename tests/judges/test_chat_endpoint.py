"""Chat completions from a real server: sent once, kept and counted; failures are retried or reported."""

import json

import pytest

from gpmjax.judges.chat_endpoint import ChatQuestion, Counts, Prices
from gpmjax.sampling.http import Server, run_concurrently

QUESTIONS = [ChatQuestion(f"question {n}", 8) for n in range(3)]


@pytest.fixture
def echo(completion, replying):
    return replying(lambda prompt: completion(prompt[-1], usage=(100, 2)))


def status(code):
    return lambda handler, body: handler.reply(code, "busy")


def say(value):
    return lambda handler, body: handler.reply(200, json.dumps(value))


def test_a_request_is_complete_and_the_key_stays_out_of_the_cache(http_server, open_endpoint, echo, tmp_path):
    http_server.script = [echo]
    open_endpoint(key="secret").ask([ChatQuestion("hello", 7, top_logprobs=5)])
    ((path, body, authorization),) = http_server.requests
    assert (path, authorization) == ("/v1/chat/completions", "Bearer secret")
    expected = dict(model="judge", max_tokens=7, temperature=0.0, logprobs=True, top_logprobs=5)
    assert body == expected | {"messages": [{"role": "user", "content": "hello"}]}
    assert "secret" not in (tmp_path / "cache.jsonl").read_text()
    open_endpoint().ask(QUESTIONS[:1])
    assert "logprobs" not in http_server.requests[-1][1]


def test_no_question_is_sent_twice(http_server, open_endpoint, echo):
    http_server.script = [echo]
    endpoint = open_endpoint()
    replies = endpoint.ask([*QUESTIONS, QUESTIONS[0]])
    assert [reply.text for reply in replies] == ["0", "1", "2", "0"] and len(http_server.requests) == 3
    again = open_endpoint()
    assert again.ask(QUESTIONS) == replies[:3] and len(http_server.requests) == 3
    # The first run requested all answers and the second none; both use three answers.
    assert endpoint.meter.total == endpoint.meter.asked == again.meter.total == Counts(3, 300, 6, 0)
    assert again.meter.asked == Counts()
    open_endpoint("other.jsonl").ask(QUESTIONS[:1])
    assert len(http_server.requests) == 4


def test_the_price_of_answers(http_server, open_endpoint, completion, replying):
    http_server.script = [replying(lambda prompt: completion("A", usage=None if prompt.endswith("2") else (100, 2)))]
    endpoint = open_endpoint()
    endpoint.ask(QUESTIONS[:1])
    endpoint = open_endpoint()
    endpoint.ask(QUESTIONS)
    figures = endpoint.meter.figures(Prices(prompt=10.0, completion=30.0))
    assert (figures["answers"], figures["prompt_tokens"], figures["completion_tokens"], figures["uncounted"]) == (
        3,
        200,
        4,
        1,
    )
    assert figures["price"] == pytest.approx((200 * 10 + 4 * 30) / 1e6)
    assert figures["this_run"]["answers"] == 2 and figures["this_run"]["price"] == pytest.approx(
        (100 * 10 + 2 * 30) / 1e6
    )
    with pytest.raises(ValueError, match="price of prompt tokens=-1"):
        Prices(prompt=-1)


@pytest.mark.parametrize(
    "bad",
    [
        status(500),
        status(429),
        lambda handler, body: handler.reply(200, "not json"),
        say({"choices": []}),
        say({"choices": [{"message": {"content": 3}}]}),
        say({"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": "A"}]}}]}),
        lambda handler, body: setattr(handler, "close_connection", True),
    ],
    ids=["500", "429", "no json", "no choice", "no text", "odd logprobs", "hang up"],
)
def test_two_failures_are_retried_and_not_kept(http_server, open_endpoint, echo, bad, tmp_path):
    http_server.script = [bad, bad, echo]
    (reply,) = open_endpoint().ask(QUESTIONS[:1])
    assert reply.text == "0" and len(http_server.requests) == 3
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == 1


def test_answers_before_a_failure_are_kept(http_server, open_endpoint, echo):
    http_server.script = [echo, echo, status(500)]
    with pytest.raises(
        OSError, match=r"/v1/chat/completions: status 500 \(busy\), 2 times \(2 of 3 answers came, and are kept\)"
    ):
        open_endpoint(concurrency=1, retries=1).ask(QUESTIONS)
    http_server.script, http_server.requests[:] = [echo], []
    assert [reply.text for reply in open_endpoint().ask(QUESTIONS)] == ["0", "1", "2"]
    assert len(http_server.requests) == 1


def test_a_stalled_server_times_out(http_server, open_endpoint, echo):
    http_server.script = [lambda handler, body: handler.server.released.wait(30), echo]
    (reply,) = open_endpoint(timeout=0.3).ask(QUESTIONS[:1])
    assert reply.text == "0" and len(http_server.requests) == 2


def test_a_refusal_is_an_answer(http_server, open_endpoint):
    http_server.script = [say({"choices": [{"message": {"content": None, "refusal": "no"}, "logprobs": None}]})]
    (reply,) = open_endpoint().ask(QUESTIONS[:1])
    assert reply == ("", (), 0, 0)


def test_concurrent_work_stops_at_the_first_failure():
    def work(n):
        if n == 1:
            raise ValueError("one")
        return n * n

    done = run_concurrently(work, range(9), workers=1)
    assert done.kept == {0: 0} and str(done.failure) == "one"
    assert run_concurrently(work, [3, 2], workers=2) == ({0: 9, 1: 4}, None)
    with pytest.raises(ValueError, match="concurrency=0: must be at least 1"):
        Server("http://a", concurrency=0)
