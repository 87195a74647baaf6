"""A cache of compiled XLA programs on disk, so that a second run of the same shapes does not compile again."""

import os
from pathlib import Path

import jax

LEAST_SECONDS = 1.0
"""Programs that compile faster than this are not cached."""


def keep_compiled(directory: str | Path) -> None:
    """Caches the programs compiled from now on in ``directory``, and reads them from there.

    Raises:
      ValueError: this process has several CPU devices. Loading a program for them from a cache kills the process
        (jaxlib 0.10.2) without an exception.
      OSError: the directory cannot be made or written to.
    """
    if jax.default_backend() == "cpu" and jax.local_device_count() > 1:
        raise ValueError(
            f"compilation cache {directory}: must be off with {jax.local_device_count()} CPU devices; "
            f"it works with one, and with accelerators"
        )
    path = Path(directory).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(f"compilation cache {path}: cannot be written to")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
