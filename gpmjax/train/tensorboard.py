"""Writes TensorBoard's event files in the calling thread.

tensorboardX's SummaryWriter hands events to its own thread through a queue. On a full disk that thread dies, the queue
fills up, and the run waits for ever. Here the caller gets the error.
"""

import contextlib
import logging
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

SECONDS_BETWEEN_FLUSHES = 30.0


class TensorBoard:
    """Scalars by step under ``directory``. When the disk does not take them, it warns once and writes no more.

    Args:
      purge_step: events of this step and later ones, which an earlier run left, are not shown.
    """

    def __init__(self, directory: Path, purge_step: int):
        self._directory, self._flushed = Path(directory), time.monotonic()
        self._writer: RecordWriter | None = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
            self._writer = RecordWriter(str(self._directory / name))
            self._add(Event(file_version="brain.Event:2"))
            self._add(Event(step=purge_step, file_version="brain.Event:2"))
            self._add(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        except OSError as error:
            self._give_up(error)

    def write(self, step: int, values: Iterable[tuple[str, float]]) -> None:
        """All of a step's scalars, as one event."""
        if self._writer is None:
            return
        found = [value for name, number in values for value in scalar(name, number).value]
        try:
            self._add(Event(step=step, summary=Summary(value=found)))
            if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
                self._writer.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        except OSError as error:
            self._give_up(error)

    def _add(self, event: Event) -> None:
        assert self._writer is not None
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())

    def _give_up(self, error: OSError) -> None:
        logging.warning(
            "%s: cannot be written (%s); the run goes on without TensorBoard", self._directory, error.strerror or error
        )
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):  # what is still in its buffer
                writer.close()
