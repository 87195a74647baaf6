"""A reward server with OpenRLHF's protocol, so that a trainer in another process can use a gpmjax model.

    POST /get_reward   {"query": [N], "prompts": [N], "labels": [N]}
    → {"rewards": [N], "scores": [N], "extra_logs": {}}

See gpmjax.interop.openrlhf. Any other request is answered with {"error": one line} and an HTTP error status.
"""

import http
import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from absl import logging

from gpmjax.interop.gather import Incomplete
from gpmjax.interop.openrlhf import read_completions, rewards_answer
from gpmjax.interop.rewards import Scoring

PATH = "/get_reward"
MAX_BODY = 64 << 20
"""Bytes of a request."""
IDLE = 60.0
"""Seconds that a client may take over the next bytes of its request."""


class _Refused(Exception):
    def __init__(self, status: http.HTTPStatus, problem: str):
        super().__init__(problem)
        self.status = status


class RewardServer(ThreadingHTTPServer):
    """Serves until `shutdown`; `server_close` then waits for the answers under way.

    Args:
      address: host and port; port 0 takes a free one.
      score: computes the rewards; called from many threads.
      header, ending: the form of prompts and answers, see `openrlhf.read_completions`.
      max_body: bytes of a request.
    """

    daemon_threads = False
    # A trainer opens a connection for each completion of a batch at once.
    request_queue_size = 1024

    def __init__(
        self,
        address: tuple[str, int],
        score: Scoring,
        header: str | None = None,
        ending: str = "",
        max_body: int = MAX_BODY,
    ):
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: rewards_answer(
            score, read_completions(fields, header, ending)
        )
        self.max_body = max_body
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that disconnected; prints a traceback for any other error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Any  # a RewardServer
    server_version = "gpmjax"
    timeout = IDLE

    def do_POST(self) -> None:
        try:
            fields = self._fields()
        except _Refused as error:
            self._fail(error.status, str(error))
            return
        try:
            self._send(http.HTTPStatus.OK, self.server.answer(fields))
        except ValueError as error:
            self._fail(http.HTTPStatus.BAD_REQUEST, str(error))
        except Incomplete as error:
            self._fail(http.HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception as error:  # the server outlives a failed request
            logging.exception("reward server: request failed")
            self._fail(http.HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")

    def _fields(self) -> dict[str, Any]:
        if self.path != PATH:
            raise _Refused(http.HTTPStatus.NOT_FOUND, f"{self.path}: no such path; rewards are at {PATH}")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 20):
            raise _Refused(http.HTTPStatus.LENGTH_REQUIRED, "a request must say its Content-Length")
        if int(length) > self.server.max_body:
            problem = f"a request of {length} bytes; at most {self.server.max_body} are taken"
            raise _Refused(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
        try:
            fields = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Refused(http.HTTPStatus.BAD_REQUEST, f"not valid JSON ({error})") from error
        if not isinstance(fields, dict):
            raise _Refused(http.HTTPStatus.BAD_REQUEST, f"must be an object with fields, is {type(fields).__name__}")
        return fields

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers the requests that the base class refuses: malformed HTTP and unknown methods."""
        status = http.HTTPStatus(code)
        if status is http.HTTPStatus.NOT_IMPLEMENTED:
            status, message = http.HTTPStatus.METHOD_NOT_ALLOWED, f"{self.command}: must be POST {PATH}"
        self._fail(status, message or status.phrase)

    def _fail(self, status: http.HTTPStatus, problem: str) -> None:
        # The unread rest of a refused request would be read as the next request.
        self.close_connection = True
        self._send(status, {"error": " ".join(problem.split())})

    def _send(self, status: http.HTTPStatus, answer: dict[str, Any]) -> None:
        payload = json.dumps(answer, ensure_ascii=False).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        logging.debug("reward server: " + format, *args)
