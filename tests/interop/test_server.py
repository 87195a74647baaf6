"""The reward server over real HTTP on the loopback interface, with good and bad requests."""

import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gpmjax.data.groups import Message, user
from gpmjax.interop.client import RemoteRewards
from gpmjax.interop.gather import Gathered
from gpmjax.interop.rewards import Completion, RewardPlan, Rewards
from gpmjax.interop.server import RewardServer

TEXTS = ("rock", "scissors", "paper")
EXPECTED = [-2 / 3, 1 / 3, 1 / 3]


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = []

    def start(score, **fields):
        server = RewardServer(("127.0.0.1", 0), score, **fields)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(serve, judge):
    return serve(Rewards(judge, RewardPlan("group", "score")), max_body=10_000)


def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}/get_reward"


def ask(server, body, method="POST", path="/get_reward", headers=None):
    connection = http.client.HTTPConnection(*server.server_address, timeout=30)
    try:
        body = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.headers["Content-Type"] == "application/json" and b"\n" not in text
        return answer.status, json.loads(text)
    finally:
        connection.close()


def fields(*texts, prompt="Choose: "):
    """A request as OpenRLHF 0.11.2 sends it: openrlhf/utils/agent.py, _fetch_rewards_via_http."""
    return {"query": [prompt + text for text in texts], "prompts": [prompt] * len(texts), "labels": [""] * len(texts)}


def test_a_group_in_one_request(server):
    status, answer = ask(server, fields(*TEXTS))
    assert status == 200 and list(answer) == ["rewards", "scores", "extra_logs"]
    np.testing.assert_allclose(answer["rewards"], EXPECTED)
    assert answer["scores"] == answer["rewards"] and answer["extra_logs"] == {}


def test_a_request_for_each_completion(serve, judge):
    server = serve(Gathered(Rewards(judge, RewardPlan("group", "score")), 3, 30.0))
    asked = [(n, text) for text in TEXTS for n in range(8)]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda one: ask(server, fields(one[1], prompt=f"prompt {one[0]}: ")), asked))
    assert {status for status, _ in answers} == {200}
    found = np.array([answer["rewards"] for _, answer in answers])
    assert found.shape == (24, 1)
    np.testing.assert_allclose(found[:, 0], np.repeat(EXPECTED, 8))
    assert len(judge.calls) == 8


def test_an_incomplete_group_is_answered_with_503(serve, judge):
    server = serve(Gathered(Rewards(judge, RewardPlan("group")), 3, 0.05))
    assert ask(server, fields("rock")) == (503, {"error": "waited 0.05 s for 3 completions of a prompt, 1 came"})


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (dict(body="{"), 400, "not valid JSON"),
        (dict(body=b"\xff"), 400, "not valid JSON"),
        (dict(body="[" * 5000), 400, "not valid JSON"),
        (dict(body="[]"), 400, "must be an object with fields, is list"),
        (dict(body={"query": ["a"]}), 400, "request: field 'prompts'"),
        (dict(body=fields("rock")), 400, "query[0]: the only completion of its prompt in this call"),
        (dict(body=fields(*TEXTS), path="/"), 404, "/: no such path; rewards are at /get_reward"),
        (dict(body=None, method="GET"), 405, "GET: must be POST /get_reward"),
        (dict(body=fields(*TEXTS), method="PUT"), 405, "PUT: must be POST /get_reward"),
        (dict(body="x" * 10_001), 413, "a request of 10001 bytes; at most 10000 are taken"),
        (dict(body=iter([b"{}"]), headers={"Transfer-Encoding": "chunked"}), 411, "must say its Content-Length"),
        (dict(body=None, headers={"Content-Length": "-1"}), 411, "must say its Content-Length"),
    ],
    # The id is not the request: an iterator's name holds its address, which differs between workers.
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_bad_requests_are_answered_with_one_line(server, request_, status, words):
    found, answer = ask(server, **request_)
    assert found == status and words in answer["error"] and list(answer) == ["error"]
    assert ask(server, fields(*TEXTS))[0] == 200  # and the next one is served


def test_a_request_that_is_no_http(server):
    with socket.create_connection(server.server_address, timeout=30) as client:
        client.sendall(b"hello\r\n\r\n")
        answer = b""
        while part := client.recv(1000):
            answer += part
    assert b'{"error": ' in answer
    assert ask(server, fields(*TEXTS))[0] == 200


def test_a_client_that_disconnects_leaves_no_traceback(server, capfd):
    with socket.create_connection(server.server_address, timeout=30) as client:
        client.sendall(b"POST /get_reward HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    assert ask(server, fields(*TEXTS))[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_the_server_outlives_a_scorer_that_raises(serve, capfd):
    def score(completions):
        raise RuntimeError("out of\nmemory")

    server = serve(score)
    assert ask(server, fields("rock")) == (500, {"error": "RuntimeError: out of memory"})
    assert ask(server, fields("rock"))[0] == 500


@pytest.fixture
def remote(server):
    return RemoteRewards(url(server), timeout=30.0)


def test_the_client_gets_the_models_rewards(remote, judge):
    chat = (Message("system", "Be fair."), Message("user", "Choose!"))
    asked = [Completion(prompt, text) for prompt in (user("Choose!"), chat) for text in TEXTS]
    np.testing.assert_allclose(remote(asked), EXPECTED * 2)
    assert [group.prompt for group in judge.calls[0][0]] == [user("Choose!"), chat]
    assert remote([]).shape == (0,)


def test_the_client_sends_references(serve, judge):
    server = serve(Rewards(judge, RewardPlan("reference", "score")))
    asked = [Completion(user("Choose!"), text, "scissors") for text in TEXTS]
    np.testing.assert_allclose(RemoteRewards(url(server), 30.0)(asked), [1.0, 0.0, -2.0])


def test_the_clients_errors_are_one_line_with_the_url(serve, remote, monkeypatch):
    asked = [Completion(user("p"), "a")]

    def refused(score, words):
        server = serve(score)
        with pytest.raises(OSError, match=words) as error:
            RemoteRewards(url(server), 30.0)(asked)
        assert url(server) in str(error.value) and "\n" not in str(error.value)

    def fail(completions):
        raise ValueError("query[0]: no")

    refused(fail, r'status 400 \(\{"error": "query\[0\]: no"\}\)')
    refused(lambda completions: np.zeros(2), "malformed answer, rewards are not 1 numbers")
    refused(lambda completions: np.array([np.nan]), "malformed answer, rewards are not 1 numbers")
    with pytest.raises(OSError, match=r"http://127.0.0.1:9/x: no connection \(.*refused"):
        RemoteRewards("http://127.0.0.1:9/x", 5.0)(asked)
    with pytest.raises(ValueError, match="url='localhost:5000': must begin with http"):
        RemoteRewards("localhost:5000")


def test_the_client_has_a_time_limit(serve):
    released = threading.Event()
    server = serve(lambda completions: np.zeros(released.wait(30)))
    try:
        with pytest.raises(OSError, match="no (complete )?answer within 0.2 s"):
            RemoteRewards(url(server), 0.2)([Completion(user("p"), "a")])
    finally:
        released.set()
