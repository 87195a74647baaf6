"""One HTTP request with three bounds: seconds of silence, seconds in total, and bytes of the answer.

The server is not trusted: it may send a byte a minute for ever, a body that fills the memory, or a redirection.
"""

import contextlib
import functools
import json
import socket
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

MAX_ANSWER = 64 << 20
"""Bytes of an answer; a thousand responses of 4,096 tokens, text and ids, take half of it."""


class BadStatus(OSError):
    """The server answered with an error. ``retry_after``: seconds that it asks to wait, 0 if it does not."""

    def __init__(self, code: int, said: str, retry_after: float = 0.0) -> None:
        super().__init__(f"status {code} ({said})")
        self.code, self.retry_after = code, retry_after


def fetch(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, total: float, limit: int = MAX_ANSWER
) -> bytes:
    """Sends a POST and returns the body of the answer. Proxies and certificates are those that urllib would use.

    Args:
        url: an http or https address. Redirections are not followed, since they would take the bearer token along.
        timeout: seconds that the server may be silent for.
        total: seconds from the connection's start to the last byte received.
        limit: bytes of the body.

    Raises:
        BadStatus: the server answered with an error or a redirection.
        TimeoutError: one of the two times has passed.
        ValueError: the body is longer than ``limit``.
        ConnectionError: no connection, or no HTTP at its other end.
    """
    with _deadline(total) as watch:
        try:
            # Every request opens a connection: a kept one may be closed by now, and not every request is sent again.
            with (
                httpx.Client(trust_env=False, proxy=_proxy(url), verify=_tls(), timeout=timeout) as client,
                client.stream(
                    "POST",
                    url,
                    content=body,
                    headers={"Accept-Encoding": "identity", **headers},  # a small body may unpack to a huge one
                    extensions={"trace": watch},
                ) as answer,
            ):
                if not answer.is_success:
                    seconds = answer.headers.get("Retry-After", "")
                    retry_after = float(seconds) if seconds.isdecimal() else 0.0  # dates are ignored
                    raise BadStatus(answer.status_code, _excerpt(answer), retry_after)
                return _body(answer, limit)
        except httpx.TimeoutException as error:
            raise TimeoutError(f"no answer within {timeout:g} s") from error
        except (httpx.TransportError, httpx.InvalidURL, ImportError) as error:  # ImportError: a proxy of another kind
            raise ConnectionError(f"no connection ({' '.join(str(error).split()) or type(error).__name__})") from error


def post_json(url: str, value: Any, *, key: str = "", timeout: float, total: float) -> Any:
    """Sends JSON and returns the answer's JSON; ``key`` is a bearer token. Raises as ``fetch`` and ``parsed`` do."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return parsed(fetch(url, json.dumps(value).encode(), headers, timeout=timeout, total=total))


def parsed(body: bytes) -> Any:
    """Parses the JSON of an answer. Unpaired surrogates, which cannot be encoded, become U+FFFD.

    Raises ValueError for a body that is not JSON or is nested too deeply.

    >>> parsed(b'["\\\\ud83d!", "\\\\ud83d\\\\ude00"]') == ["\\ufffd!", "\\U0001f600"]
    True
    """
    try:
        value = json.loads(body)
        if b"\\ud" in body.lower():
            text = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
            value = json.loads(text.decode("utf-16", "replace"))
        return value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _body(answer: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    for piece in answer.iter_raw():
        body += piece
        if len(body) > limit:
            raise ValueError(f"it is longer than {limit} bytes")
    return bytes(body)


def _excerpt(answer: httpx.Response) -> str:
    """The first line of an error's body, or the address of a redirection."""
    if answer.next_request is not None:
        return f"leads to {str(answer.next_request.url)[:200]}"
    text = ""
    with contextlib.suppress(httpx.TransportError):
        text = next(answer.iter_raw(300), b"").decode(errors="replace").strip()
    return text.splitlines()[0] if text else answer.reason_phrase


_tls = functools.cache(ssl.create_default_context)  # the system's certificates, read once


def _proxy(url: str) -> str | None:
    """The environment's proxy for an address, as urllib chooses it."""
    address = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(address.scheme)
    if not proxy or urllib.request.proxy_bypass(address.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Yields an httpcore trace that records a request's sockets, and shuts them down after ``seconds``.

    httpx bounds every single read and write, but not their sum. Raises TimeoutError after ``seconds``.
    """
    sockets: list[socket.socket] = []
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        for connected in sockets:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def watch(event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            sockets.append(info["return_value"].get_extra_info("socket").dup())  # TLS takes the socket itself away
            if expired.is_set():
                expire()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield watch
        ended = None
    except (OSError, ValueError) as error:
        ended = error
        if not expired.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
        for connected in sockets:
            connected.close()
    if expired.is_set():  # a body without a length seems complete when its connection is shut down
        raise TimeoutError(f"no complete answer within {seconds:g} s") from ended
