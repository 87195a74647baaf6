"""One HTTP request with three bounds: seconds of silence, seconds in all, and bytes of the answer.

The server is not trusted: it may send a byte a minute for ever, or a body that fills the memory, or lead elsewhere.
"""

import contextlib
import http.client
import io
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

MAX_ANSWER = 64 << 20
"""Bytes of an answer; a thousand responses of 4,096 tokens, text and ids, take half of it."""
_PIECE = 1 << 16


class BadStatus(OSError):
    """The server answered with an error."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"status {code} ({said})")
        self.code = code


def fetch(request: urllib.request.Request, *, timeout: float, total: float, limit: int = MAX_ANSWER) -> bytes:
    """The body of a server's answer.

    Args:
        request: to an http or https address; a redirection is not followed, since it would take the password along.
        timeout: seconds that the server may be silent for.
        total: seconds from the first byte sent to the last one received.
        limit: bytes of the body.

    Raises:
        BadStatus: the server answered with an error, or led elsewhere.
        TimeoutError: one of the two times has passed.
        ValueError: the body is longer than ``limit``.
        OSError, http.client.HTTPException: no connection, or no HTTP at its other end.
    """
    with _deadline(total) as watch:
        try:
            with watch.opener().open(request, timeout=timeout) as answer:
                return _body(answer, limit)
        except urllib.error.HTTPError as error:
            raise BadStatus(error.code, _excerpt(error)) from error
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {timeout:g} s") from error


def read_json(body: bytes) -> Any:
    """The JSON of an answer; halves of a surrogate pair, which are no text and cannot be written, become U+FFFD.

    Raises ValueError for what is not JSON, or nested too deeply.

    >>> read_json(b'["\\\\ud83d!", "\\\\ud83d\\\\ude00"]') == ["\\ufffd!", "\\U0001f600"]
    True
    """
    try:
        read = json.loads(body)
        return _mended(read) if b"\\ud" in body.lower() else read
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    return {_mended(name): _mended(item) for name, item in value.items()} if isinstance(value, dict) else value


def _body(answer: http.client.HTTPResponse, limit: int) -> bytes:
    pieces, size = [], 0
    while piece := answer.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise ValueError(f"it is longer than {limit} bytes")
    return b"".join(pieces)


def _excerpt(error: urllib.error.HTTPError) -> str:
    """The first line of what a server says of an error."""
    with error:
        try:
            text = error.read(300).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException):
            text = ""
    return text.splitlines()[0] if text else str(error.reason)


class _Watch:
    """Knows the request's connections, and ends them when its time is over, whatever they are waiting for."""

    def __init__(self) -> None:
        self.expired = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def add(self, connected: socket.socket) -> None:
        with self._lock:
            self._sockets.append(connected.dup())  # TLS takes the socket itself away
            if self.expired:
                self._end()

    def expire(self) -> None:
        with self._lock:
            self.expired = True
            self._end()

    def close(self) -> None:
        with self._lock:
            for duplicate in self._sockets:
                duplicate.close()
            self._sockets = []

    def _end(self) -> None:
        for duplicate in self._sockets:
            with contextlib.suppress(OSError):
                duplicate.shutdown(socket.SHUT_RDWR)

    def opener(self) -> urllib.request.OpenerDirector:
        """Opens addresses over connections that are watched."""
        watch = self

        class Plain(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch.add(self.sock)

        class Secure(http.client.HTTPSConnection, Plain):
            """``HTTPSConnection.connect`` goes through ``Plain.connect`` before it shakes hands."""

        class PlainHandler(urllib.request.HTTPHandler):
            def http_open(self, request):
                return self.do_open(Plain, request)

        class SecureHandler(urllib.request.HTTPSHandler):
            def https_open(self, request):
                return self.do_open(Secure, request)

        return urllib.request.build_opener(PlainHandler, SecureHandler, _Stays)


class _Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, fp, code, msg, headers, newurl):
        raise urllib.error.HTTPError(request.full_url, code, f"leads to {newurl[:200]}", headers, io.BytesIO())


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[_Watch]:
    watch = _Watch()
    timer = threading.Timer(seconds, watch.expire)
    timer.daemon = True
    timer.start()
    try:
        yield watch
        ended = None
    except (OSError, http.client.HTTPException, ValueError) as error:
        ended = error
        if not watch.expired:
            raise
    finally:
        timer.cancel()
        watch.close()
    if watch.expired:  # a body without a length seems to end well when its connection is ended
        raise TimeoutError(f"no complete answer within {seconds:g} s") from ended
