"""`AnswerCache` keeps a server's answers on disk, so that no question is paid for twice.

The file holds JSON lines {"key", "request", "answer"}. Threads and processes may share it: each line is written whole,
under a lock. Unfinished lines of killed processes are skipped.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpmjax.files import naming


def request_key(address: str, body: Mapping[str, Any]) -> str:
    """The key of a request: a hash of its address and its whole body.

    >>> request_key("http://a/v1", {"x": 1, "y": 2}) == request_key("http://a/v1", {"y": 2, "x": 1})
    True
    """
    text = json.dumps([address, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """Answers by their request's key; an empty path keeps them in memory alone.

    Raises ValueError, naming file and line, for a file of something else.
    """

    def __init__(self, path: str | Path):
        self._path = Path(path) if path else None
        self._answers: dict[str, Any] = {}
        if self._path is None or not self._path.exists():
            return
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # half a line
                if not (isinstance(entry, dict) and {"key", "answer"} <= entry.keys()):
                    raise ValueError(
                        f"{self._path}:{number}: must be an object with key and answer, is no cache of answers"
                    )
                self._answers[entry["key"]] = entry["answer"]

    def get(self, key: str) -> Any:
        """The answer, None where there is none yet."""
        return self._answers.get(key)

    def put(self, key: str, request: Mapping[str, Any], answer: Any) -> None:
        """Keeps an answer, on disk when this returns."""
        if self._path is not None:
            self._write(self._path, key, request, answer)
        self._answers[key] = answer

    @staticmethod
    def _write(path: Path, key: str, request: Mapping[str, Any], answer: Any) -> None:
        line = json.dumps({"key": key, "request": request, "answer": answer}, ensure_ascii=False) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        with naming(path, "the last answer is not kept"), path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())
