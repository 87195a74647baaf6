"""Groups whose completions come one by one, from different threads: each waits until its group is complete.

Trainers that ask for a reward as soon as a completion is sampled (OpenRLHF, verl) never hold a group in their hands, but they do
sample all completions of a prompt at about the same time.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gpmjax.interop.rewards import Completion, Scoring


class Incomplete(Exception):
    """A group did not become complete in time; one line."""


@dataclass(eq=False)
class _Group:
    """Completions of one prompt that wait for each other."""

    waiting: list["_Entry"] = field(default_factory=list)
    failure: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Entry:
    completion: Completion
    group: _Group
    reward: float = float("nan")


class Gathered:
    """A `Scoring` that hands completions on in groups of ``size`` to one prompt.

    A completion that is asked about twice counts twice, so ``timeout``, in seconds, should be less than what a client waits before
    it asks again.
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
        """See `rewards.Scoring`; returns when every group that the completions fall into has been complete and scored.

        Raises:
          Incomplete: not within ``timeout`` seconds, or closed meanwhile; these completions wait no longer.
          Exception: whatever the group was refused for.
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
        """Sends away all who wait, and all to come."""
        with self._lock:
            self._closed = True
            left, self._open = list(self._open.values()), {}
        for group in left:
            group.failure = Incomplete("no more groups are waited for")
            group.done.set()

    def _enter(self, completion: Completion) -> _Entry:
        """A place in the completion's group; whoever takes the last one has it scored."""
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
            except Exception as error:  # theirs as much as this thread's
                group.failure = error
            group.done.set()
        return entry

    def _leave(self, entries: Sequence[_Entry]) -> None:
        """Out of groups that are still open: nobody is to be compared with a completion whose asker has gone."""
        with self._lock:
            for entry in entries:
                prompt, group = entry.completion.prompt, entry.group
                if self._open.get(prompt) is group:
                    group.waiting.remove(entry)
                    if not group.waiting:
                        del self._open[prompt]
