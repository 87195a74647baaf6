"""Malicious and broken servers: time and memory are bounded, and the bearer token goes nowhere else."""

import gzip
import json
import threading
import time

import pytest

from gpmjax.sampling.fetch import fetch
from gpmjax.sampling.http import Server


def post(url, **bounds):
    headers = {"Content-Type": "application/json", "Authorization": "Bearer secret"}
    return fetch(url, b"{}", headers, **(dict(timeout=10.0, total=20.0) | bounds))


def trickle(*, after: str):
    """Sends a byte every 20 ms for ever, after the headers or within them, so no silence is long."""

    def behave(handler, body):
        raw = handler.wfile
        if after == "headers":
            raw.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            raw.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(1000):
            if handler.server.released.wait(0.02):
                return
            raw.write(b"1")
            raw.flush()

    return behave


@pytest.mark.parametrize("after", ["headers", "status"])
def test_an_endless_answer_ends_at_the_total_time(http_server, after):
    http_server.script = [trickle(after=after)]
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no complete answer within 0.5 s"):
        post(http_server.url, total=0.5)
    assert 0.4 < time.monotonic() - began < 5


def good(handler, body):
    handler.reply(200, "[1]")


def test_an_endless_answer_is_retried(http_server):
    http_server.script = [trickle(after="headers"), good]
    server = Server(http_server.url, timeout=0.3, backoff=0.01)
    assert server.post("x", {}, lambda answer: answer) == [1]


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("999999", 60.0), ("9" * 400, 60.0), ("soon", 0.5)])
def test_a_busy_server_says_when_to_ask_again(http_server, monkeypatch, header, seconds):
    def busy(handler, body):
        handler.send_response(429)
        handler.send_header("Retry-After", header)
        handler.end_headers()

    http_server.script = [busy, good]
    slept = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    assert Server(http_server.url, backoff=0.5).post("x", {}, list) == [1] and slept == [seconds]


def test_the_back_off_doubles_up_to_a_minute(http_server, monkeypatch):
    http_server.script = [lambda handler, body: handler.reply(503, "busy")]
    slept = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    with pytest.raises(OSError, match="status 503 .busy., 5 times"):
        Server(http_server.url, backoff=16.0).post("x", {}, list)
    assert slept == [16.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_environments_proxy_is_asked_unless_the_host_is_exempt(http_server, monkeypatch, scheme):
    http_server.script = [good]
    monkeypatch.setenv("http_proxy", scheme + http_server.url.removeprefix("http://").removesuffix("/v1"))
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")  # urllib knows no such thing
    assert Server("http://far.invalid/v1").post("x", {}, list) == [1]
    assert http_server.requests[0][0] == "http://far.invalid/v1/x"
    monkeypatch.setenv("no_proxy", "far.invalid")
    with pytest.raises(OSError, match="no connection"):
        Server("http://far.invalid/v1", retries=0).post("x", {}, list)


def test_no_thread_is_left_and_no_body_is_decompressed(http_server):
    def packed(handler, body):
        assert handler.headers["Accept-Encoding"] == "identity"
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(b"[1]"))

    http_server.script = [packed]
    before = {thread.name for thread in threading.enumerate()}
    with pytest.raises(OSError, match="malformed answer"):
        Server(http_server.url, retries=0).post("x", {}, list)
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer) and t.name not in before]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_has_a_limit(http_server, announced):
    def flood(handler, body):
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", str(10**15))
        handler.end_headers()
        while not handler.server.released.is_set():
            handler.wfile.write(b" " * (1 << 16))

    http_server.script = [flood]
    with pytest.raises(ValueError, match="it is longer than 1000000 bytes"):
        post(http_server.url, limit=10**6)


def test_a_redirection_is_not_followed(http_server):
    def elsewhere(handler, body):
        handler.send_response(302)
        handler.send_header("Location", f"{http_server.url}/other")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    http_server.script = [elsewhere]
    with pytest.raises(OSError, match=r"status 302 \(leads to http://127.0.0.1:\d+/v1/other\)"):
        Server(http_server.url, key="secret").post("x", {}, lambda answer: answer)
    assert len(http_server.requests) == 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{"], ids=lambda text: text[:5])
def test_an_answer_that_is_no_json_is_malformed(http_server, text):
    http_server.script = [lambda handler, body: handler.reply(200, text)]
    with pytest.raises(OSError, match=r"x: malformed answer \(.*\), 1 times"):
        Server(http_server.url, retries=0).post("x", {}, lambda answer: answer)


def test_an_unpaired_surrogate_becomes_a_replacement_character(http_server):
    http_server.script = [
        lambda handler, body: handler.reply(200, json.dumps({"text": "a\ud83d", "b": ["\ude00 \U0001f600"]}))
    ]
    found = Server(http_server.url).post("x", {}, lambda answer: answer)
    assert found == {"text": "a\ufffd", "b": ["\ufffd \U0001f600"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", float("nan")),
        ("timeout", 1e30),
        ("total", -1),
        ("retries", 1.5),
        ("retries", True),
        ("backoff", "1"),
        ("concurrency", 10**9),
    ],
)
def test_bad_settings(field, value):
    with pytest.raises(ValueError) as error:
        Server("http://a", **{field: value})
    assert str(error.value).startswith(f"{field}={value!r}: must be ")


def test_https_to_a_server_without_tls_is_an_error(http_server):
    with pytest.raises(OSError, match=r"x: no connection \(.*SSL.*\), 1 times"):
        Server(http_server.url.replace("http:", "https:"), timeout=5.0, retries=0).post("x", {}, lambda answer: answer)
