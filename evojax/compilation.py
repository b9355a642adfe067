"""Compiled programs that outlive the process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import jax

FOLDER = "jax_compilation_cache_dir"


def keep_programs() -> None:
    """Has JAX keep compiled programs on disk, so that the next process need not compile them anew.

    In the folder ``evojax`` of the user's caches, ``XDG_CACHE_HOME`` or ``~/.cache``, unless a
    folder is set already (``JAX_COMPILATION_CACHE_DIR``). ``JAX_ENABLE_COMPILATION_CACHE=false``
    keeps nothing. A program that is found there is the one that would be compiled: JAX tells them
    apart by the computation, the versions and the device.
    """
    if jax.config.values[FOLDER] is not None:
        return
    # Where nothing can be kept, all goes on without; nobody may have such a home, a RuntimeError.
    with suppress(OSError, RuntimeError):
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evojax"
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update(FOLDER, str(folder))
