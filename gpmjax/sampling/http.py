"""Requests to a JSON server that may be busy, slow or not there: each sent again, but not for ever, several at a time."""

import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from gpmjax.checks import number, whole
from gpmjax.sampling.fetch import BadStatus, fetch, read_json

T = TypeVar("T")
S = TypeVar("S")

# Too many requests, or a server that is not there yet or not any more; another 4xx will not get better by asking again.
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Server:
    """Where a server is, and how patiently it is asked.

    A request that fails for want of a server, of time or of sense in the answer is sent again, at most ``retries`` times,
    after ``backoff``, 2 ``backoff``, 4 ``backoff``, … seconds, but never more than a minute.
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
    total: float = 0.0
    """Seconds that a request may take in all; 0: twice ``timeout``."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url={self.url!r}: must begin with http:// or https://")
        whole("retries", self.retries, 0)
        whole("concurrency", self.concurrency, 1, 1000)
        for name, least in (("timeout", 0.001), ("backoff", 0), ("total", 0)):
            number(name, getattr(self, name), least=least, most=10**6)

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
                time.sleep(min(self.backoff * 2 ** min(attempt - 1, 30), _LONGEST_WAIT))
            try:
                return read(read_json(fetch(request, timeout=self.timeout, total=self.total or 2 * self.timeout)))
            except BadStatus as error:
                trouble = str(error)
                if error.code not in _TRY_AGAIN:
                    raise OSError(f"{request.full_url}: {trouble}") from error
            except TimeoutError as error:
                trouble = str(error)
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
