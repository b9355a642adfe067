"""What studies share: many runs, each in a folder of its own, done by one or several processes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from evojax.learning import Model, NonFiniteLoss


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


def finished(out: Path) -> dict[str, Any] | None:
    """The lineage of a run that has ended; None where there is none, or it is to go on.

    Raises:
        ValueError: the record is damaged.
    """
    if not (out / "lineage.json").exists():
        return None
    lineage = read_lineage(out)
    return None if lineage["status"].startswith(("running", "interrupted")) else lineage


def guarded(work: Callable[[], int]) -> int:
    """What `work` returns, or the exit status of its error, which is told without a traceback."""
    keep_programs()
    try:
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


def command() -> str:
    """How this process was started."""
    script = os.path.relpath(sys.argv[0]) if sys.argv else ""
    return shlex.join(["python", script, *sys.argv[1:]])


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return name.replace(",", "").replace(" ", "_")
