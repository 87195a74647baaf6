"""Atomic writes of files and directories, removal of interrupted writes, and reads with one-line errors."""

import contextlib
import errno
import fnmatch
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)
"""Errors of a disk that refuses a write. Python names the file when an opening fails, but not when a write does."""

ORPHAN = re.compile(r"\.(?P<name>.+)\.(?:\d+\.partial|[a-z0-9_]{8}\.(?:new|old))")
"""Names of files (``replacing``) and directories (``replacing_directory``) that are still being written."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to. It replaces ``path`` when the block succeeds, and is removed when the block fails.

    So a reader never sees half a file, even after a crash or on a full disk. Parent directories are made.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "deep" / "numbers.txt"
    >>> with replacing(target) as partial:
    ...     _ = partial.write_text("1 2 3", encoding="utf-8")
    >>> target.read_text(encoding="utf-8"), [entry.name for entry in target.parent.iterdir()]
    ('1 2 3', ['numbers.txt'])

    Raises:
      OSError: the disk refuses the write (full, read-only); names ``path``.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming(path, "not written; what was there before is unchanged"):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_directory(path: str | Path, expected: Sequence[str]) -> Iterator[Path]:
    """Yields an empty directory. It replaces ``path`` when the block succeeds, and is removed when the block fails.

    Args:
      expected: patterns of file names; an earlier directory that holds anything else is not replaced.

    Raises:
      FileExistsError: ``path`` is a file, or a directory with unexpected files.
      OSError: it cannot be written, for instance because the disk is full; the earlier directory is unchanged.
    """
    path = Path(os.path.abspath(path))
    _check_replaceable(path, expected)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since a rename is only atomic within one file system.
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent))
    fresh.chmod(0o755)
    try:
        yield fresh
        _move_directory(fresh, path)
    except (OSError, SafetensorError) as error:  # the latter is how safetensors tells of a full disk
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise OSError(f"{path}: not written, nothing there was changed ({said[0][:160]})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(path: Path, expected: Sequence[str]) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"{path}: is a file; name a directory")
    for entry in sorted(path.iterdir()):
        if entry.is_dir() or not any(fnmatch.fnmatch(entry.name, pattern) for pattern in expected):
            raise FileExistsError(
                f"{path}: holds {entry.name}, no part of a model; name a new or an exported directory"
            )


def _move_directory(fresh: Path, path: Path) -> None:
    if not path.exists():
        os.replace(fresh, path)
        return
    # A directory cannot be renamed onto one with files in it, so the old one steps aside first.
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    os.replace(path, aside)
    try:
        os.replace(fresh, path)
    except OSError:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside)


@contextlib.contextmanager
def naming(path: str | Path, consequence: str) -> Iterator[None]:
    """Turns the error of a disk that refuses a write into one line that names the file and the consequence.

    >>> with naming("runs/metrics.jsonl", "step 7 is not recorded"):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    OSError: runs/metrics.jsonl: step 7 is not recorded (No space left on device)
    """
    try:
        yield
    except OSError as error:
        # An error without strerror names its file already.
        elsewhere = error.filename is not None and Path(error.filename).parent != Path(path).parent
        if error.errno not in REFUSALS or elsewhere or error.strerror is None:
            raise
        named = OSError(f"{path}: {consequence} ({error.strerror.splitlines()[0]})")
        named.errno = error.errno
        raise named from error
    except SafetensorError as error:
        if "I/O error" not in str(error):
            raise
        raise OSError(f"{path}: {consequence} ({str(error).splitlines()[0]})") from error


WRONG = (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, RecursionError)
"""Exceptions that the use of a document raises when a field is missing or has the wrong type."""


@contextlib.contextmanager
def using(paths: str | Path | Sequence[Path], what: str, *more: type[Exception]) -> Iterator[None]:
    """Turns an error in the use of a document (`WRONG`, or ``more``) into a one-line ValueError that names its file.

    Args:
      paths: the file, or several that are used together.
      what: the writer that the document should be of.

    >>> with using("dev.json", "an evaluation"):
    ...     {"rows": 3}["rows"][0]
    Traceback (most recent call last):
    ValueError: dev.json: not what an evaluation writes ('int' object is not subscriptable)
    """
    names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    try:
        yield
    except (*WRONG, *more) as error:
        if isinstance(error, ValueError) and str(error).startswith(tuple(names)):
            raise
        text = " ".join(str(error).split())[:160]
        reason = f"no field {text}" if isinstance(error, KeyError) else text
        raise ValueError(f"{', '.join(names)}: not what {what} writes ({reason})") from error


def append_line(file: IO[bytes], path: str | Path, text: str, consequence: str) -> None:
    """Writes a line to an unbuffered binary file, whole or not at all.

    Raises:
      OSError: the disk refuses the line; names ``path`` and ``consequence``.
    """
    line = text.encode() + b"\n"
    with naming(path, consequence):
        start = file.tell()
        written = file.write(line)
        if written < len(line):  # a disk that fills up writes a part, and raises at the next attempt
            try:
                file.write(line[written:])
            except OSError:
                file.truncate(start)
                raise


def remove_orphans(directory: str | Path, name: str = "") -> None:
    """Removes the unfinished files of killed processes from ``directory``. Only the directory's owner may call this.

    A killed export may have moved the earlier directory aside; it is moved back.

    Args:
      name: removes only unfinished files of this name; empty: all of them.
    """
    for path in sorted(Path(directory).iterdir()):
        found = ORPHAN.fullmatch(path.name)
        if not found or (name and found["name"] != name):
            continue
        target = path.with_name(found["name"])
        if path.name.endswith(".old") and not target.exists():
            logging.info("%s: put back, a killed export had moved it to %s", target, path.name)
            os.replace(path, target)
        elif path.is_dir() and not path.is_symlink():
            logging.info("%s: removed, a killed export left it", path)
            shutil.rmtree(path)
        else:
            logging.info("%s: removed, a killed run left it", path)
            path.unlink()


def write_json(path: str | Path, value: Any) -> Any:
    """Writes ``value`` whole or not at all. Returns it as the file's readers will see it, with lists for tuples."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return json.loads(text)


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises ValueError, naming the file, when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def read_json_lines(path: Path) -> list[Any]:
    """The values in a file of JSON lines; an unfinished last line, which an interruption leaves, is skipped.

    Raises:
      ValueError: another line is not JSON, or the file is not UTF-8; names the file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from error
    values = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise ValueError(f"{path}:{number}: not JSON ({line[:40]!r})") from error
    return values


def fingerprint(files: Iterable[Path], facts: str = "") -> str:
    """A hash of the names and whole contents of files, and of other ``facts`` such as the dtype.

    Several files are read at a time.
    """

    def contents(path: Path) -> bytes:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    digest = hashlib.sha256(facts.encode())
    ordered = sorted(files)
    with ThreadPoolExecutor(min(8, len(ordered) or 1)) as readers:
        for path, content in zip(ordered, readers.map(contents, ordered), strict=True):
            digest.update(path.name.encode())
            digest.update(content)
    return digest.hexdigest()[:32]
