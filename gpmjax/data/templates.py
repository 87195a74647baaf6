"""Renders conversations with a chat template, in a process with limited time and memory
(`gpmjax.data.template_worker`).

One worker process serves all templates. It is started at the first rendering, and again after it was stopped.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import markupsafe

from gpmjax.data import template_worker
from gpmjax.data.groups import REASONING, TOOLS, Message

_LARGEST = 4_000_000
"""Characters of a request; larger ones are split."""


class Ends(NamedTuple):
    """A conversation, and the ends with which it is rendered."""

    messages: tuple[Message, ...]
    ends: Sequence[tuple[tuple[Message, ...], bool]]
    """Pairs (messages that follow, whether to write the generation header)."""


class TemplateError(ValueError):
    """A template refused a conversation, or failed on it."""

    def __init__(self, reason: str, roles: Sequence[str] = (), *, refused: bool = False):
        super().__init__(reason)
        self.reason, self.roles, self.refused = reason, tuple(roles), refused


def render(template: str, items: Sequence[Ends], variables: Mapping[str, Any], date: str) -> list[list[str]]:
    """The text that the template writes for every end of every item.

    Args:
        variables: variables of the template besides messages and tools, such as ``bos_token``.
        date: the date that the template is told as today's, in ISO format.

    Raises:
        TemplateError: the template refused an item or failed on it, by an exception, by more than ``SECONDS`` of
            processor time, or by more than ``MEMORY`` bytes. The error is about the first such item.
    """
    asked = [json.dumps(_item(item)) for item in items]
    head = json.dumps({"template": template, "variables": variables, "date": date}, default=str)[:-1]
    answers: list[list[str]] = []
    while len(answers) < len(asked):
        part, size = [], 0
        for text in asked[len(answers) :]:
            if part and size + len(text) > _LARGEST:
                break
            part.append(text)
            size += len(text)
        for answer in _WORKER.ask(f'{head}, "items": [{", ".join(part)}]}}\n', len(part)):
            if isinstance(answer, dict):
                item = items[len(answers)]
                more, _ = item.ends[answer["end"]]
                spoken = [f"{' '.join(m.role.split()):.40}" for m in (*item.messages, *more) if m.role != TOOLS][-20:]
                raise TemplateError(answer["error"], spoken, refused=answer["refused"])
            answers.append(answer)
    return answers


def _item(item: Ends) -> dict[str, Any]:
    tools = [tool for message in item.messages if message.role == TOOLS for tool in json.loads(message.content)]
    return {
        "messages": [_plain(message) for message in item.messages if message.role != TOOLS],
        "tools": tools or None,
        "ends": [[list(map(_plain, more)), opens] for more, opens in item.ends],
    }


def _plain(message: Message) -> dict[str, Any]:
    """A message in the form that templates read: reasoning has both of the names they use, as in transformers."""
    fields = message.as_dict()
    reasoning = next((fields[name] for name in REASONING if name in fields), None)
    return fields if reasoning is None else {"thinking": reasoning, **fields, "reasoning_content": reasoning}


class _Worker:
    """The worker process; threads use it one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._parents: subprocess.Popen | None = None

    def ask(self, request: str, count: int) -> list[Any]:
        """The ``count`` answers to a request; fewer if the process ended, and then the last one says why."""
        with self._lock:
            process = self._running()
            answers: list[Any] = []
            assert process.stdin is not None and process.stdout is not None  # both are pipes
            try:
                process.stdin.write(request.encode("ascii"))
                process.stdin.flush()
                while len(answers) < count and (line := process.stdout.readline()).endswith(b"\n"):
                    answers.append(json.loads(line))
            except BrokenPipeError:  # the process ended before it had read the whole request
                pass
            except BaseException:  # an interrupt between request and answer
                self._stop()
                raise
            if len(answers) < count:
                answers.append({"error": self._ended(process), "end": 0, "refused": False})
            return answers

    def _running(self) -> subprocess.Popen:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._process is None:
            found = dict.fromkeys(str(Path(module.__file__).parent.parent) for module in (jinja2, markupsafe))
            command = [sys.executable, "-I", "-S", template_worker.__file__, *found]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        return self._process

    def _ended(self, process: subprocess.Popen) -> str:
        """Why the process ended."""
        process.wait()
        self._stop()
        if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"takes more than {template_worker.SECONDS} seconds of processor time"
        return (
            f"needs more than {template_worker.MEMORY >> 30} GiB of memory, or nests too deeply ({process.returncode})"
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None and process.stdout is not None
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def forget(self) -> None:
        """Drops the process after a fork, since it and its pipes belong to the parent."""
        self._parents, self._process, self._lock = self._process, None, threading.Lock()


_WORKER = _Worker()
atexit.register(_WORKER._stop)
os.register_at_fork(after_in_child=_WORKER.forget)
