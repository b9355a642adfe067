"""Where reports and progress are printed: a terminal or a pipe, whatever it can show."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console, RenderableType


def console(*whole: RenderableType) -> Console:
    """What prints on standard output, in characters that it has, while somebody reads it.

    Args:
        whole: what loses no column, whatever the width: a narrow terminal folds its lines.
    """
    made = Console(file=Quiet(sys.stdout))  # type: ignore[arg-type]
    boundless = made.options.update(max_width=1_000)
    widths = [made.measure(part, options=boundless).maximum for part in whole]
    made.width = max([made.width, *widths])
    return made


class Quiet:
    """A text file whose failures to write are ignored: a closed pipe must not end a run."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def write(self, content: str) -> int:
        """Writes `content`, with ? for what the file's encoding lacks."""
        try:
            if self._file is not None:
                try:
                    self._file.write(content)
                except UnicodeEncodeError:
                    self._file.write(content.encode("ascii", "replace").decode("ascii"))
        except (OSError, ValueError):
            self._file = None
        return len(content)

    def flush(self) -> None:
        """Flushes."""
        try:
            if self._file is not None:
                self._file.flush()
        except (OSError, ValueError):
            self._file = None

    def is_terminal(self) -> bool:
        """Whether it is a terminal that can move its cursor."""
        return self.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._file is not None and self._file.isatty()
        except (OSError, ValueError):
            return False

    @property
    def encoding(self) -> str:
        """The file's encoding, by which rich chooses its characters."""
        return getattr(self._file, "encoding", None) or "utf-8"
