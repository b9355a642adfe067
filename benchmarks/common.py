"""What the benchmarks share: flags, taking turns, and the table and the file of a result."""

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from evojax.deploy import timing
from evojax.evolution.lineage import surroundings
from evojax.files import replace
from evojax.study import check_writable, command, parsed


def launch(main: Callable[[Any], None], options: type, description: str | None) -> None:
    """Runs a benchmark as the command line says; tells what is wrong without a traceback."""
    try:
        chosen: Any = parsed(options, description)
        check_writable("--out", chosen.out.parent)
        main(chosen)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def check(
    options: Any,  # noqa: ANN401 (a dataclass)
    networks: Collection[str] | None = None,
    **least: int,
) -> None:
    """Checks flags before anything is measured.

    Args:
        options: what was asked for.
        networks: those that can be asked for, where they can.
        least: of other flags, numbers or several of them, how large each must be at least.

    Raises:
        ValueError: a network is unknown, or there is none; a number is too small.
    """
    if networks is not None:
        unknown = [name for name in options.networks if name not in networks]
        if unknown or not options.networks:
            got = ", ".join(unknown) or "none"
            raise ValueError(f"--networks must be of {', '.join(networks)}; got {got}")
    for name, smallest in least.items():
        value = getattr(options, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or min(numbers) < smallest:
            got = ", ".join(map(str, numbers)) or "none"
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be at least {smallest}; got {got}")


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
    shown = Table(*(Column(heading, overflow="fold") for heading in headings), title=title)
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
