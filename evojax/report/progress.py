"""What a run shows while it runs: a live display on a terminal, plain lines elsewhere.

For example:

    with progress() as watch:
        evolve(..., watch=watch)

Showing progress never breaks a run: output that cannot be written is given up silently.
"""

from __future__ import annotations

import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evojax.evolution.events import (
    EpochFinished,
    Event,
    GenerationFinished,
    GenerationStarted,
    RunContinued,
    RunFinished,
    RunStarted,
    Watch,
)
from evojax.evolution.record import Record, learnt_nothing, scored
from evojax.report import text
from evojax.report.terminal import Quiet


@contextmanager
def progress(file: TextIO | None = None) -> Iterator[Watch]:
    """Gives a function that shows the events of a run (evojax.evolution.events) on `file`.

    On a terminal: the finished generations, and below them what is being trained, how well, and
    how long it will take. Where `file` is no terminal, or TERM is dumb: one line for each event,
    written at once.

    Args:
        file: Where to write, standard output if None.
    """
    out = Quiet(sys.stdout if file is None else file)
    with _on_terminal(out) if out.is_terminal() else _in_lines(out) as show:
        yield _dispatcher(show)


NOTHING_LEARNT = (
    "note: on test images the ancestor is at 0 %: its offspring cannot be worse, and their sizes "
    "say nothing. Train it longer (--epochs) or on more data."
)


class _Show:
    """Common to both displays: the state of the run, and an estimate of the time left."""

    def __init__(self) -> None:
        self.epochs_left = 0
        self.epochs_done = 0
        self.seconds: deque[float] = deque(maxlen=9)
        self.compiling = 0.0  # what the latest epoch took that compiled as well
        self.begun = self.siblings = 0

    def run_started(self, event: RunStarted) -> None: ...

    def run_continued(self, event: RunContinued) -> None: ...

    def generation_started(self, event: GenerationStarted) -> None:
        self.epochs_left = event.total_epochs
        self.begun, self.siblings = self.begun + 1, event.offspring

    def epoch_finished(self, event: EpochFinished) -> None:
        self.epochs_left = max(self.epochs_left - 1, 0)
        self.epochs_done += 1
        # After the ancestor's program that of several networks at once, where there are several.
        new_program = self.begun == 1 or (self.begun == 2 and self.siblings > 1)
        if event.epoch == 1 and new_program:
            self.compiling = event.seconds
        else:
            self.seconds.append(event.seconds)

    def generation_finished(self, event: GenerationFinished) -> None: ...

    def run_finished(self, event: RunFinished) -> None: ...

    def time_left(self) -> str:
        """Measured seconds per epoch times what is left of the whole run, in words.

        Epochs that compiled count only while there is no other.
        """
        if not self.epochs_left:
            return "all trained"
        if self.seconds:
            return f"{_roughly(statistics.median(self.seconds) * self.epochs_left)} left"
        if self.compiling:
            return f"{_roughly(self.compiling * self.epochs_left)} left, compilation counted"
        return "time left not known yet"


class _Lines(_Show):
    """One plain line for each event."""

    def __init__(self, out: Quiet) -> None:
        super().__init__()
        self.out = out
        self.offspring = 1

    def run_started(self, event: RunStarted) -> None:
        self._say(_data(event))
        self._say(_needs(event))

    def run_continued(self, event: RunContinued) -> None:
        self._say(_whence(event))

    def generation_started(self, event: GenerationStarted) -> None:
        super().generation_started(event)
        self.offspring = event.offspring
        many = f"{event.offspring} offspring of " if event.offspring > 1 else ""
        self._say(
            f"generation {event.generation} of {event.generations}: {many}"
            f"{text.count(event.synapses)} synapses, {_epochs(event.epochs)}"
        )

    def epoch_finished(self, event: EpochFinished) -> None:
        super().epoch_finished(event)
        which = f", offspring {event.offspring}" if self.offspring > 1 else ""
        self._say(
            f"generation {event.generation}{which}, epoch {event.epoch} of {event.epochs}: "
            f"{', '.join(_shown(event))}, {text.duration(event.seconds)}, {self.time_left()}"
        )

    def generation_finished(self, event: GenerationFinished) -> None:
        record = event.record
        scores = ", ".join(f"test {name} {text.percent(record[name])} %" for name in scored(record))
        self._say(
            f"generation {record['generation']} finished: "
            f"A-E {text.times(record['architectural_efficiency'])}, {scores}, "
            f"{text.count(record['synapses'])} synapses, "
            f"C-E {text.times(record['cluster_efficiency'])}, "
            f"trained for {text.duration(record.get('train_seconds'))}"
        )
        if _in_vain(record):
            self._say(NOTHING_LEARNT)

    def run_finished(self, event: RunFinished) -> None:
        self._say(f"{event.status}; written to {event.out}")

    def _say(self, line: str) -> None:
        self.out.write(line + "\n")
        self.out.flush()


class _Screen(_Show):
    """A table of the finished generations that grows, and a live part below it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.started: GenerationStarted | None = None
        self.epoch: EpochFinished | None = None
        self.spinner = Spinner("dots", style="cyan")
        self.headed = False

    def run_started(self, event: RunStarted) -> None:
        self.console.print(Text(f"{_data(event)}\n{_needs(event)}"))

    def run_continued(self, event: RunContinued) -> None:
        self.console.print(Text(_whence(event)))

    def generation_started(self, event: GenerationStarted) -> None:
        super().generation_started(event)
        self.started, self.epoch = event, None

    def epoch_finished(self, event: EpochFinished) -> None:
        super().epoch_finished(event)
        self.epoch = event

    def generation_finished(self, event: GenerationFinished) -> None:
        record = event.record
        names = scored(record)
        if not self.headed:
            heads = ("Gen.", "A-E", *(f"{name.capitalize()} %" for name in names))
            self._row((*heads, "Synapses", "C-E", "Training"), "bold")
            self.headed = True
        self._row(
            (
                str(record["generation"]),
                text.times(record["architectural_efficiency"]),
                *(text.percent(record[name]) for name in names),
                text.count(record["synapses"]),
                text.times(record["cluster_efficiency"]),
                text.duration(record.get("train_seconds")),
            )
        )
        if _in_vain(record):
            self.console.print(Text(NOTHING_LEARNT))

    def run_finished(self, event: RunFinished) -> None:
        self.started = None
        self.console.print(Text(f"{event.status}; written to {event.out}"))

    def render(self) -> RenderableType:
        """The live part: called by rich a few times a second."""
        # Another thread calls this: take both once, so that they fit together.
        started, epoch = self.started, self.epoch
        if started is None:
            return Text()
        total = max(self.epochs_done + self.epochs_left, 1)
        head = Text(f"generation {started.generation} of {started.generations}", style="bold")
        head.append(" · ".join(["", *_place(started, epoch)]), style="not bold")
        line = Table.grid(padding=(0, 1))
        line.add_row(self.spinner, head)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        share = f"{100 * self.epochs_done // total} %"
        bar.add_row(ProgressBar(total, self.epochs_done), f"{share}, {self.time_left()}")
        return Group(line, Text(f"  {_fit(epoch)}", style="dim"), bar)

    def _row(self, cells: tuple[str, ...], style: str = "") -> None:
        widths = (4, 10, *(11 for _ in cells[2:-3]), 12, 9, 12)
        line = " ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        self.console.print(Text(line, style=style), no_wrap=True, overflow="ellipsis")


@contextmanager
def _in_lines(out: Quiet) -> Iterator[_Show]:
    yield _Lines(out)


@contextmanager
def _on_terminal(out: Quiet) -> Iterator[_Show]:
    console = Console(file=out, force_terminal=True)  # type: ignore[arg-type]
    screen = _Screen(console)
    with Live(get_renderable=screen.render, console=console, refresh_per_second=5, transient=True):
        yield screen


def _dispatcher(show: _Show) -> Watch:
    actions: dict[type, Callable[[Any], None]] = {
        RunStarted: show.run_started,
        RunContinued: show.run_continued,
        GenerationStarted: show.generation_started,
        EpochFinished: show.epoch_finished,
        GenerationFinished: show.generation_finished,
        RunFinished: show.run_finished,
    }

    def watch(event: Event) -> None:
        action = actions.get(type(event))
        if action is not None:
            action(event)

    return watch


def _data(event: RunStarted) -> str:
    """What is learned from, and where it lies, as far as the task tells."""
    kinds = (("train", "training images"), ("holdout", "held out"), ("test", "test images"))
    data = event.dataset
    counts = [f"{text.count(data[key])} {words}" for key, words in kinds if data.get(key)]
    source = [f"from {event.source}"] if event.source else []
    reasons = [f"{reason}: {text.count(n)}" for reason, n in data.get("skipped", {}).items()]
    left_out = f"; left out are {', '.join(reasons)}" if reasons else ""
    return f"{data.get('name', 'data')}: {', '.join([*counts, *source])}{left_out}"


def _needs(event: RunStarted) -> str:
    """What training takes."""
    memory = event.memory
    return (
        f"{text.count(memory.parameters)} parameters; training takes about "
        f"{text.size(memory.total)} of memory on the device ({text.size(memory.network)} for the "
        f"network, {text.size(memory.activations)} for a batch, {text.size(memory.images)} for the "
        "images" + (f"; {memory.members} networks at once on each)" if memory.members > 1 else ")")
    )


def _in_vain(record: Record) -> bool:
    """Whether an ancestor learnt nothing."""
    return record["generation"] == 1 and learnt_nothing(record)


def _whence(event: RunContinued) -> str:
    """Where a run goes on."""
    return f"{event.out} goes on after generation {event.generation}"


def _place(started: GenerationStarted, epoch: EpochFinished | None) -> list[str]:
    """Where the training is."""
    offspring, done = (epoch.offspring, epoch.epoch) if epoch else (1, 0)
    if done == started.epochs and offspring < started.offspring:
        offspring, done = offspring + 1, 0
    which = [f"offspring {offspring} of {started.offspring}"] * (started.offspring > 1)
    now = f"epoch {min(done + 1, started.epochs)} of {started.epochs}"
    return [*which, now, f"{text.count(started.synapses)} synapses"]


def _fit(epoch: EpochFinished | None) -> str:
    """How well the latest epoch went."""
    if epoch is None:
        return "compiling and training the first epoch"
    return " · ".join(_shown(epoch))


def _shown(epoch: EpochFinished) -> list[str]:
    """What an epoch showed, in words."""
    loss = f"loss {epoch.loss:.4f}"
    if epoch.accuracy is None:
        return [loss]
    return [loss, f"training accuracy {text.percent(epoch.accuracy)} %"]


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _roughly(seconds: float) -> str:
    """A time as precise as an estimate deserves: "about 40 s", "about 2 h 10 min"."""
    if seconds < 57.5:
        return f"about {max(5 * round(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min"
    tens = round(minutes / 10)
    return f"about {tens // 6} h {tens % 6 * 10} min"
