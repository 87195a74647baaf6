"""Locks that give a work directory or an output file one owner at a time.

Without a lock, two runs that write to one place would both succeed, and one would overwrite the other. So a run holds a
lock file, which names its owner, while it runs. The operating system releases the lock when the process ends in any
way, so the next run can take over from a killed one.

    WORKDIR/.lock         lock of a work directory
    DIR/.NAME.lock        lock of an output file DIR/NAME
"""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpmjax.files import remove_orphans

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems without locks, such as some network and object stores."""


class InUse(OSError):
    """Another process owns the directory or file; the message names its host and its process id."""


@contextlib.contextmanager
def owned_directory(directory: str | Path) -> Iterator[None]:
    """Makes ``directory``, owns it during the block, and removes the unfinished files of killed runs from it.

    Raises:
      InUse: another process owns ``directory``.
      OSError: ``directory`` is a file, or cannot be written; one line.
    """
    directory = Path(directory)
    _make(directory, str(directory))
    with _lock(directory / ".lock", str(directory)):
        remove_orphans(directory)
        yield


@contextlib.contextmanager
def owned_output(path: str | Path | None, suffixes: tuple[str, ...] = ("",), flag: str = "--out") -> Iterator[None]:
    """Makes the directory of the file ``path`` and owns the file during the block. None and "" name no file.

    Raises:
      InUse: another process owns ``path``.
      ValueError: the name ends in none of ``suffixes``.
      OSError: ``path`` is a directory, or cannot be written; one line that names ``flag``.
    """
    if not path:
        yield
        return
    path, label = Path(path), f"{flag}={path}"
    if not path.name.endswith(suffixes):
        raise ValueError(f"{label}: must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise IsADirectoryError(f"{label}: is a directory; name a file")
    _make(path.parent, label)
    with _lock(path.with_name(f".{path.name}.lock"), label):
        remove_orphans(path.parent, path.name)
        yield


def check_output_directory(path: str | Path, flag: str = "--out") -> None:
    """Makes the directory ``path`` and checks that files can be written there.

    Raises:
      OSError: ``path`` is a file, or cannot be written; one line that names ``flag``.
    """
    label, probe = f"{flag}={path}", Path(path) / f".{os.getpid()}.lock"
    _make(Path(path), label)
    os.close(_open(probe, label, os.O_CREAT))
    probe.unlink()


def _make(directory: Path, label: str) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next((part for part in (directory, *directory.parents) if part.is_file()), directory)
        raise NotADirectoryError(f"{label}: {file} is a file, no directory") from error
    except OSError as error:
        raise OSError(f"{label}: the directory {directory} cannot be made ({error.strerror})") from error


@contextlib.contextmanager
def _lock(lock: Path, label: str) -> Iterator[None]:
    descriptor = _acquire(lock, label)
    try:
        earlier = _read(descriptor)
        if earlier:
            logging.info(
                "%s: taken over from process %s on %s, which has ended", label, earlier["pid"], earlier["host"]
            )
        with contextlib.suppress(OSError):  # on a full disk the lock works without a name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_me()).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()  # before the release, so that no process holds a lock on a file without a name
        os.close(descriptor)


def _acquire(lock: Path, label: str) -> int:
    while True:
        descriptor = _open(lock, label, os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _read(descriptor)
            os.close(descriptor)
            if error.errno in UNSUPPORTED:
                return _acquire_by_name(lock, label)
            raise InUse(_in_use(label, owner)) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                return descriptor
        os.close(descriptor)  # the last owner removed the file after it was opened here


def _acquire_by_name(lock: Path, label: str) -> int:
    """On file systems without locks, the file itself is the lock, as long as the process that it names is alive."""
    descriptor = _open(lock, label, 0)
    owner = _read(descriptor)
    os.close(descriptor)
    if owner and not _has_ended(owner):
        raise InUse(f"{_in_use(label, owner)}; if that process has ended, delete {lock}")
    lock.unlink(missing_ok=True)
    try:
        return _open(lock, label, os.O_CREAT | os.O_EXCL)
    except FileExistsError as error:
        raise InUse(_in_use(label, None)) from error


def _open(path: Path, label: str, flags: int) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o644)
    except FileExistsError:
        raise
    except OSError as error:
        raise type(error)(f"{label}: cannot be written ({error.strerror})") from error


def _me() -> dict[str, Any]:
    now = datetime.datetime.now().astimezone()
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": now.isoformat(sep=" ", timespec="seconds")}


def _read(descriptor: int) -> dict[str, Any] | None:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return owner if isinstance(owner, dict) and {"host", "pid", "since"} <= owner.keys() else None
    except (OSError, ValueError):
        return None


def _has_ended(owner: dict[str, Any]) -> bool:
    """True if the process is known to have ended; processes of other hosts are unknown."""
    if owner["host"] != socket.gethostname():
        return False
    if owner["pid"] == os.getpid():
        return True  # the id of a process in an earlier container
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


def _in_use(label: str, owner: dict[str, Any] | None) -> str:
    who = f"process {owner['pid']} on {owner['host']} since {owner['since']}" if owner else "another process"
    return f"{label}: in use by {who}; wait until it ends, or name another place"
