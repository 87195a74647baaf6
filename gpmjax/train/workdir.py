"""A run owns its work directory: one run at a time, and no half-written files of the run before."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gpmjax.distributed import any_host, is_first_host
from gpmjax.files import remove_orphans
from gpmjax.owner import owned_directory

UNSEARCHED = ("checkpoints", "model", "policy", "tensorboard")
"""Directories without files of ``files.replacing``: Orbax removes its own leftovers, and exports appear whole."""


@contextlib.contextmanager
def owned_workdir(workdir: Path) -> Iterator[None]:
    """Owns ``workdir`` during the block, on behalf of all hosts; the first host holds the lock.

    Raises:
      OSError: another run owns it, or it cannot be written; on every host.
    """
    with contextlib.ExitStack() as held:
        refusal = None
        if is_first_host():
            try:
                held.enter_context(owned_directory(workdir))
                _remove_all_orphans(workdir)
            except OSError as error:
                refusal = error
        if np.any(np.asarray(any_host(refusal is not None))):
            raise refusal or OSError(f"{workdir}: the first host cannot own this work directory; its error says why")
        yield


def _remove_all_orphans(directory: Path) -> None:
    """Removes orphans below ``directory`` too, except in directories of other runs, which have their own locks."""
    for below in sorted(path for path in directory.iterdir() if path.is_dir() and not path.is_symlink()):
        if below.name not in UNSEARCHED and not below.name.startswith(".") and not (below / ".lock").exists():
            remove_orphans(below)
            _remove_all_orphans(below)
