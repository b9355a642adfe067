"""What scripts share: flags, and many runs, each in a folder of its own, by several processes."""

from __future__ import annotations

import _thread
import os
import re
import shlex
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import tyro

from evojax import report
from evojax.compilation import keep_programs
from evojax.data import Dataset
from evojax.evolution import (
    CheckpointError,
    DataLost,
    RunFolderInUse,
    Settings,
    evolve,
    read_lineage,
)
from evojax.evolution.lineage import configuration
from evojax.evolution.run_folder import check_resumable
from evojax.files import nearest, open_to_writing, with_home
from evojax.learning import Model, NonFiniteLoss

Options = TypeVar("Options")


def parsed(
    options: type[Options],
    description: str | None,
    *config: Any,  # noqa: ANN401 (tyro's)
    default: Options | None = None,
) -> Options:
    """What the command line says, its paths with the home folder where they begin with ~.

    Args:
        options: a dataclass, a flag for each field.
        description: what ``--help`` begins with, as a script's docstring.
        config: of tyro.
        default: what the flags default to, where not to the fields' defaults.
    """
    how: dict[str, Any] = {} if default is None else {"default": default}
    words = _wrapped(description or "")
    return with_home(tyro.cli(options, description=words, config=config, **how))


def _wrapped(description: str) -> str:
    """Its paragraphs broken to the terminal's width; what is indented stays as it is.

    Each line is indented by one more, for tyro joins lines that begin with a letter.
    """
    width = shutil.get_terminal_size().columns - 2
    paragraphs = re.split(r"\n{2,}", description.strip())
    broken = [
        p if p.startswith(" ") else textwrap.fill(p, width, break_on_hyphens=False)
        for p in paragraphs
    ]
    return textwrap.indent("\n\n".join(broken), " ")


def run(out: Path, settings: Settings, model: Model, dataset: Dataset, experiment: str) -> None:
    """Evolves one lineage, unless it is finished or another process is at it."""
    print(f"{out}", flush=True)
    try:
        with report.progress() as watch:
            evolve(
                settings, model, dataset, out,
                experiment=experiment, command=command(), watch=watch,
            )  # fmt: skip
    except RunFolderInUse:
        print("another process is at it", flush=True)


def check_runs(runs: Iterable[tuple[Path, Settings]], experiment: str) -> None:
    """Checks that `run` can begin or continue in each folder, as far as is known without the data.

    Raises:
        RunFolderError: a folder cannot be used, is damaged or holds a run of other settings.
    """
    for out, settings in runs:
        check_resumable(out, configuration(settings, experiment, ""))


def finished(out: Path) -> dict[str, Any] | None:
    """The lineage of a run that has ended; None where there is none, or it is to go on.

    Raises:
        ValueError: the record is damaged.
    """
    if not (out / "lineage.json").exists():
        return None
    lineage = read_lineage(out)
    return None if lineage["status"].startswith(("running", "interrupted")) else lineage


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises an interruption again that was swallowed, as those in callbacks of the collector are.

    Python can only print what is raised there, and JAX has such a callback.
    """
    before = sys.unraisablehook

    def tell(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # Not at once: that would be in the callback still.
            threading.Timer(0.1, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = tell
    try:
        yield
    finally:
        sys.unraisablehook = before


def guarded(work: Callable[[], int]) -> int:
    """What `work` returns, or the exit status of its error, which is told without a traceback."""
    keep_programs()
    try:
        with interruptible():
            return work()
    except (CheckpointError, DataLost, NonFiniteLoss, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nInterrupted. To continue, run again:\n  {command()}", file=sys.stderr)
        return 130


def check_different(flag: str, values: Sequence[object]) -> None:
    """Checks a flag of several values.

    Raises:
        ValueError: there is none, or one comes twice.
    """
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{flag} must be one or more different ones; got {values}")


def check_writable(flag: str, folder: Path) -> None:
    """Checks that a result can be written, before there is one.

    Raises:
        ValueError: it is no folder, or no folder of this user's.
    """
    there = nearest(folder.absolute())
    if not open_to_writing(there):
        raise ValueError(f"{flag} {folder}: {there} is no folder to write to. Name another one.")


def command() -> str:
    """How this process was started."""
    script = os.path.relpath(sys.argv[0]) if sys.argv else ""
    return shlex.join(["python", script, *sys.argv[1:]])


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return name.replace(",", "").replace(" ", "_")
