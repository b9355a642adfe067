"""What the benchmarks share: taking turns, and the table and the file of a result."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evojax.deploy import timing
from evojax.evolution.lineage import surroundings
from evojax.files import replace
from evojax.study import command


def timed(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def take_turns(
    contestants: Mapping[str, Callable[[], object]], turns: int
) -> dict[str, list[float]]:
    """Seconds a call of each contestant, in every turn, after a warm-up.

    A turn is as many calls as take about a tenth of a second, at least one: a single call of less
    than a millisecond, after a pause, is mostly the time that a sleeping processor takes to wake.

    Args:
        contestants: functions that return when they are done; what they return is let go at once.
        turns: how often each is timed.
    """

    def alone(run: Callable[[], object]) -> Callable[[None], None]:
        def call(_: None) -> None:
            run()

        return call

    times = timing.take_turns(list(map(alone, contestants.values())), None, turns=turns)
    return dict(zip(contestants, times, strict=True))


def write(
    benchmark: str,
    table: Sequence[Sequence[str]],
    options: Any,  # noqa: ANN401 (a dataclass with the field `out`)
    result: Any,  # noqa: ANN401
    versions: Mapping[str, Any],
    title: str | None = None,
    **more: Any,  # noqa: ANN401
) -> None:
    """Prints a result's table, and writes it as JSON to `options.out`: what, how, and where.

    Args:
        benchmark: its name.
        table: headings, then rows, as a README shows them.
        options: what was asked for.
        result: all figures.
        versions: of other software that was measured.
        title: of the printed table.
        more: further entries.
    """
    headings, *rows = table
    shown = Table(*headings, title=title)
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)
    asked = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    content = {
        "benchmark": benchmark,
        "command": command(),
        "table": table,
        "options": asked,
        "environment": surroundings() | versions,
        **more,
        "result": result,
    }
    replace(options.out, json.dumps(content, indent=1) + "\n")
    print(f"written: {options.out}")
