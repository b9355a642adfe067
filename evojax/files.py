"""Files that are written whole or not at all, and paths as people type them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

Options = TypeVar("Options")


def replace(path: Path, content: bytes | str) -> Path:
    """Makes `content` the file at `path`, creating its folder, in one step and onto the disk.

    Args:
        path: of the file.
        content: its new bytes, or text to encode as UTF-8.

    Returns:
        The path.

    Raises:
        OSError: It cannot be written; a former file at `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    return path


def nearest(path: Path) -> Path:
    """The part of a path that is there already: itself, or the closest folder above it."""
    return next(part for part in (path, *path.parents) if part.exists())


def open_to_writing(folder: Path) -> bool:
    """Whether it is a folder in which this user may make files."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def expanded(path: str | Path) -> Path:
    """The path with a leading ~ as the home folder; as it stands where nobody has such a home."""
    return Path(os.path.expanduser(path))


def with_home(options: Options) -> Options:
    """The same options, a dataclass, every path and every tuple of paths in them `expanded`.

    Not every shell does that with ``--out=~/run``.
    """
    given: Any = options  # A dataclass, which has no type of its own.
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    paths = {name: expanded(value) for name, value in values.items() if isinstance(value, Path)}
    several = {
        name: tuple(map(expanded, value))
        for name, value in values.items()
        if isinstance(value, tuple) and all(isinstance(each, Path) for each in value)
    }
    return dataclasses.replace(given, **paths, **several)
