"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
