"""Requests to a JSON server that may be busy, slow or not there: each sent again, but not for ever, several at a time."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
S = TypeVar("S")

# Too many requests, or a server that is not there yet or not any more; another 4xx will not get better by asking again.
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Server:
    """Where a server is, and how patiently it is asked.

    A request that fails for want of a server, of time or of sense in the answer is sent again, at most ``retries`` times,
    after ``backoff``, 2 ``backoff``, 4 ``backoff``, … seconds.
    """

    url: str
    """Such as "http://localhost:8000/v1"."""
    timeout: float = 600.0
    """Seconds that a request may be silent for."""
    retries: int = 4
    backoff: float = 1.0
    concurrency: int = 16
    """Requests at a time."""
    key: str = field(default="", repr=False)
    """Bearer token, where the server wants one."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url={self.url!r}: must begin with http:// or https://")
        for name, least in (("retries", 0), ("concurrency", 1), ("timeout", 0.001), ("backoff", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least {least}")

    def address(self, path: str) -> str:
        """The URL that requests to ``path`` go to.

        >>> Server("http://localhost:8000/v1/").address("completions")
        'http://localhost:8000/v1/completions'
        """
        return f"{self.url.rstrip('/')}/{path}"

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """What ``read`` makes of the answer's JSON; it raises ValueError for an answer that makes no sense.

        Raises OSError, one line naming the URL, when there is no answer to be had.
        """
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(self.address(path), json.dumps(body).encode(), headers)
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.backoff * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return read(json.loads(answer.read()))
            except urllib.error.HTTPError as error:
                trouble = f"status {error.code} ({_excerpt(error)})"
                if error.code not in _TRY_AGAIN:
                    raise OSError(f"{request.full_url}: {trouble}") from error
            except TimeoutError:
                trouble = f"no answer within {self.timeout:g} s"
            except (OSError, http.client.HTTPException) as error:
                # urllib wraps what goes wrong while it connects, a timeout included.
                trouble = f"no connection ({getattr(error, 'reason', error)})"
            except ValueError as error:
                trouble = f"malformed answer ({error})"
        raise OSError(f"{request.full_url}: {trouble}, {self.retries + 1} times")


class Done(NamedTuple):
    """What became of a list of tasks."""

    kept: dict[int, Any]
    """Place → result, of those that ended well."""
    failure: Exception | None
    """The first one's, by place, that did not."""


def side_by_side(work: Callable[[S], T], items: Sequence[S], workers: int) -> Done:
    """``work`` of every item, ``workers`` at a time; once one has failed no more are begun, and those under way end."""
    failed = threading.Event()
    kept, failures = {}, {}

    def attempt(place: int) -> None:
        if failed.is_set():
            return
        try:
            kept[place] = work(items[place])
        except Exception as error:
            failed.set()
            failures[place] = error

    pool = ThreadPoolExecutor(workers)
    try:
        wait([pool.submit(attempt, place) for place in range(len(items))])
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption of the wait, too, lets those under way end
    return Done(dict(sorted(kept.items())), failures[min(failures)] if failures else None)


def _excerpt(error: urllib.error.HTTPError) -> str:
    """The first line of what a server says of an error."""
    with error:
        try:
            text = error.read(300).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException):
            text = ""
    return text.splitlines()[0] if text else error.reason
