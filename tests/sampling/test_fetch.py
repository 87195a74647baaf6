"""Servers that mean harm, or have lost their mind: time and memory are bounded, and no password goes elsewhere."""

import json
import time
import urllib.request

import pytest

from gpmjax.sampling.fetch import fetch
from gpmjax.sampling.http import Server


def post(url, **bounds):
    request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json", "Authorization": "Bearer secret"})
    return fetch(request, **(dict(timeout=10.0, total=20.0) | bounds))


def trickle(*, after: str):
    """A byte every 20 ms for ever, each of which ends a silence; from the headers on, or from the body on."""

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
def test_a_server_that_never_ends_is_ended(http_server, after):
    http_server.script = [trickle(after=after)]
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no complete answer within 0.5 s"):
        post(http_server.url, total=0.5)
    assert 0.4 < time.monotonic() - began < 5


def test_retries_after_it(http_server):
    good = lambda handler, body: handler.reply(200, "[1]")
    http_server.script = [trickle(after="headers"), good]
    server = Server(http_server.url, timeout=0.3, backoff=0.01)
    assert server.post("x", {}, lambda answer: answer) == [1]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_would_fill_the_memory(http_server, announced):
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
def test_what_no_reader_can_read_is_malformed(http_server, text):
    http_server.script = [lambda handler, body: handler.reply(200, text)]
    with pytest.raises(OSError, match=r"x: malformed answer \(.*\), 1 times"):
        Server(http_server.url, retries=0).post("x", {}, lambda answer: answer)


def test_half_a_surrogate_pair_becomes_a_replacement_character(http_server):
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


def test_a_server_without_tls_where_tls_is_asked_for(http_server):
    with pytest.raises(OSError, match=r"x: no connection \(.*SSL.*\), 1 times"):
        Server(http_server.url.replace("http:", "https:"), timeout=5.0, retries=0).post("x", {}, lambda answer: answer)
