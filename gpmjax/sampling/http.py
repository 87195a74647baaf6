"""Requests to a JSON server that may be busy, slow or not there: each sent again, but not for ever, several at a time."""

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
        """What ``read`` makes of the answer's JSON; ``read`` raises ValueError for an answer that makes no sense.

        Raises OSError, one line naming the URL, when there is no answer to be had.
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
        return min(max(backoff, getattr(state.outcome.exception(), "retry_after", 0.0)), _LONGEST_WAIT)


def _worth_repeating(error: BaseException) -> bool:
    return error.code in _TRY_AGAIN if isinstance(error, BadStatus) else isinstance(error, OSError)


class Done(NamedTuple):
    """What became of a list of tasks."""

    kept: dict[int, Any]
    """Place → result, of those that ended well."""
    failure: Exception | None
    """The first one's, by place, that did not."""


def run_concurrently(work: Callable[[S], T], items: Sequence[S], workers: int) -> Done:
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
