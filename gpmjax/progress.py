"""Progress of long work: a bar in a terminal, occasional plain lines elsewhere, so that a killed run leaves a log.

Only the first of several hosts prints.
"""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gpmjax.distributed import is_first_host

Item = TypeVar("Item")


class ProgressBar:
    """One line with the steps done, facts such as loss and tokens/s, and the remaining time.

    Args:
      done: steps that an earlier run had done; they do not count for the rate.
    """

    SECONDS_BETWEEN_LINES = 15.0

    def __init__(self, description: str, total: int, done: int = 0):
        self._console = Console(file=sys.stderr, quiet=not is_first_host())
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(description, total=total, completed=done, facts="")
        self._description, self._total = description, total
        self._started, self._first, self._spoke = time.monotonic(), done, -math.inf
        self._bar.start()

    def update(self, step: int, facts: dict[str, float] | None = None) -> None:
        """Shows that ``step`` steps of the total are done."""
        text = "  ".join(f"{name} {value:,.4g}" for name, value in (facts or {}).items())
        self._bar.update(self._task, completed=step, facts=text)
        now = time.monotonic()
        if not (self._console.quiet or self._console.is_terminal) and (
            step == self._total or now - self._spoke > self.SECONDS_BETWEEN_LINES
        ):
            self._spoke = now
            parts = (f"{self._description} {step}/{self._total}", text, self._left(step, now - self._started))
            print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def _left(self, step: int, seconds: float) -> str:
        """The remaining time; empty before the first timed step."""
        if step == self._total:
            return f"in {seconds:,.0f} s"
        return f"ETA {seconds / (step - self._first) * (self._total - step):,.0f} s" if step > self._first else ""

    def close(self) -> None:
        self._bar.stop()


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yields the items with a `ProgressBar`, whose first line comes before the first item."""
    bar = ProgressBar(description, total)
    try:
        bar.update(0)
        for done, item in enumerate(items, 1):
            yield item
            bar.update(done)
    finally:
        bar.close()
