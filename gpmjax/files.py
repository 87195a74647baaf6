"""Files that appear whole or not at all."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` when the block ends well and vanishes when it does not.

    A reader, a crash or a full disk therefore never meets half a file. Parent directories are made.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "deep" / "numbers.txt"
    >>> with replacing(target) as partial:
    ...     _ = partial.write_text("1 2 3")
    >>> target.read_text(), [entry.name for entry in target.parent.iterdir()]
    ('1 2 3', ['numbers.txt'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> Any:
    """Writes ``value`` whole or not at all; returns it as a reader of the file will see it (lists for tuples)."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return json.loads(text)


def fingerprint(files: Iterable[Path], facts: str = "") -> str:
    """A name for files, by their names and contents, and for whatever else (dtype, …) changes what is made of them."""
    digest = hashlib.sha256(facts.encode())
    for path in sorted(files):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]
