"""Groups whose completions arrive one by one from different threads: each call waits until its group is complete.

OpenRLHF and verl ask for a reward as soon as a completion is sampled, so no call of theirs holds a whole group. But
they sample all completions of a prompt at about the same time.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gpmjax.interop.rewards import Completion, Scoring


class Incomplete(Exception):
    """A group was not complete in time; the message is one line."""


@dataclass(eq=False)
class _Group:
    """Completions of one prompt whose callers wait for the group to be complete."""

    waiting: list["_Entry"] = field(default_factory=list)
    failure: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Entry:
    completion: Completion
    group: _Group
    reward: float = float("nan")


class Gathered:
    """A `Scoring` that collects the completions of each prompt into groups of ``size``, and scores whole groups.

    A completion that is sent twice counts twice. So ``timeout``, in seconds, should be shorter than a client's wait
    before it sends a request again.
    """

    def __init__(self, score: Scoring, size: int, timeout: float):
        if size < 2:
            raise ValueError(
                f"group size {size}: must be at least 2, the completions that a trainer samples for a prompt"
            )
        self._score, self._size, self._timeout = score, size, timeout
        self._open: dict[tuple, _Group] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __call__(self, completions: Sequence[Completion]) -> np.ndarray:
        """See `rewards.Scoring`. Returns when every group of these completions is complete and scored.

        Raises:
          Incomplete: a group was not complete within ``timeout`` seconds, or was closed; these completions are dropped.
          Exception: the exception that scoring the group raised.
        """
        deadline = time.monotonic() + self._timeout
        entries: list[_Entry] = []
        try:
            for completion in completions:
                entries.append(self._enter(completion))
            for entry in entries:
                if not entry.group.done.wait(max(0.0, deadline - time.monotonic())):
                    came = len(entry.group.waiting)
                    raise Incomplete(
                        f"waited {self._timeout:g} s for {self._size} completions of a prompt, {came} came"
                    )
                if entry.group.failure is not None:
                    raise entry.group.failure
        finally:
            self._leave(entries)
        return np.array([entry.reward for entry in entries])

    def close(self) -> None:
        """Raises Incomplete in all waiting calls and in all later ones."""
        with self._lock:
            self._closed = True
            left, self._open = list(self._open.values()), {}
        for group in left:
            group.failure = Incomplete("no more groups are waited for")
            group.done.set()

    def _enter(self, completion: Completion) -> _Entry:
        """Adds a completion to its prompt's group. The call that completes a group scores it."""
        with self._lock:
            if self._closed:
                raise Incomplete("no more groups are waited for")
            group = self._open.setdefault(completion.prompt, _Group())
            entry = _Entry(completion, group)
            group.waiting.append(entry)
            complete = len(group.waiting) == self._size
            if complete:
                del self._open[completion.prompt]
        if complete:
            try:
                rewards = self._score([entry.completion for entry in group.waiting])
                for member, reward in zip(group.waiting, rewards, strict=True):
                    member.reward = float(reward)
            except Exception as error:  # raised in every call that waits for this group
                group.failure = error
            group.done.set()
        return entry

    def _leave(self, entries: Sequence[_Entry]) -> None:
        """Drops completions whose caller no longer waits from groups that are still open."""
        with self._lock:
            for entry in entries:
                prompt, group = entry.completion.prompt, entry.group
                if self._open.get(prompt) is group:
                    group.waiting.remove(entry)
                    if not group.waiting:
                        del self._open[prompt]
