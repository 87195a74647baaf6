"""Requests to a JSON server that may be busy, slow or down: a bounded number of retries, several requests at a time."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import tenacity

from gpmjax.checks import number, whole
from gpmjax.sampling.fetch import BadStatus, post_json

T = TypeVar("T")
S = TypeVar("S")

# Too many requests, or a server that is starting or stopping; other 4xx errors are permanent.
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Server:
    """Where a server is, and how often and how long it is asked.

    A request is sent again, at most ``retries`` times, when there is no connection, no answer in time, a malformed
    answer or a busy server. The wait before is ``backoff``, 2 ``backoff``, 4 ``backoff``, … seconds, or as long as the
    server asks for (Retry-After), but at most a minute.
    """

    url: str
    """Base URL, such as "http://localhost:8000/v1"."""
    timeout: float = 600.0
    """Seconds that the server may be silent for."""
    retries: int = 4
    backoff: float = 1.0
    concurrency: int = 16
    """Requests at a time."""
    key: str = field(default="", repr=False)
    """Bearer token, if the server requires one."""
    total: float = 0.0
    """Seconds that a request may take in total; 0: twice ``timeout``."""

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
        """Sends ``body`` and returns ``read`` of the answer's JSON; ``read`` raises ValueError for a malformed answer.

        Raises OSError, one line that names the URL, when the last attempt fails too.
        """
        url, total = self.address(path), self.total or 2 * self.timeout

        def attempt() -> T:
            try:
                return read(post_json(url, body, key=self.key, timeout=self.timeout, total=total))
            except ValueError as error:
                raise OSError(f"malformed answer ({error})") from error

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_repeating),
            stop=tenacity.stop_after_attempt(self.retries + 1),
            wait=self._wait,
        )
        try:
            return retrying(attempt)
        except tenacity.RetryError as error:
            trouble = error.last_attempt.exception()
            raise OSError(f"{url}: {trouble}, {self.retries + 1} times") from trouble
        except BadStatus as error:
            raise OSError(f"{url}: {error}") from error

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: the back-off, or as long as the server asked for."""
        backoff = tenacity.wait_exponential(multiplier=self.backoff)(state)
        error = state.outcome.exception() if state.outcome else None
        return min(max(backoff, getattr(error, "retry_after", 0.0)), _LONGEST_WAIT)


def _worth_repeating(error: BaseException) -> bool:
    return error.code in _TRY_AGAIN if isinstance(error, BadStatus) else isinstance(error, OSError)


class Done(NamedTuple):
    """Results of concurrent work on a list of items."""

    kept: dict[int, Any]
    """Index → result of each item that succeeded."""
    failure: Exception | None
    """The exception of the failed item with the lowest index."""


def run_concurrently(work: Callable[[S], T], items: Sequence[S], workers: int) -> Done:
    """Calls ``work`` on every item, ``workers`` at a time. After a failure, no item is started; running ones finish."""
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
        pool.shutdown(cancel_futures=True)  # after an interruption, too, running items finish
    return Done(dict(sorted(kept.items())), failures[min(failures)] if failures else None)
