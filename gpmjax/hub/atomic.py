"""Directories that appear whole or not at all."""

import contextlib
import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from gpmjax.hub.lines import one_line

MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.md")
"""What a model directory may hold; one with anything else in it is not replaced."""


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yields an empty directory beside ``target`` that takes its place at the end, or vanishes when anything fails.

    Raises:
        FileExistsError: ``target`` holds files that are no part of a model, so replacing it would lose them.
        OSError: it cannot be written, for instance because the disk is full; what was there before is untouched.
    """
    target = Path(os.path.abspath(target))
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since a rename is only atomic within one file system.
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent))
    fresh.chmod(0o755)
    try:
        yield fresh
        _replace(fresh, target)
    except (OSError, SafetensorError) as error:  # the latter is how safetensors tells of a full disk
        raise OSError(f"{target}: not written, nothing there was changed ({one_line(error)})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"{target}: is a file; name a directory")
    for entry in sorted(target.iterdir()):
        if entry.is_dir() or not any(fnmatch.fnmatch(entry.name, pattern) for pattern in MODEL_FILES):
            raise FileExistsError(
                f"{target}: holds {entry.name}, no part of a model; name a new or an exported directory"
            )


def _replace(fresh: Path, target: Path) -> None:
    if not target.exists():
        os.replace(fresh, target)
        return
    # A directory cannot be renamed onto one with files in it, so the old one steps aside first.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    os.replace(target, aside)
    try:
        os.replace(fresh, target)
    except OSError:
        os.replace(aside, target)
        raise
    shutil.rmtree(aside)
