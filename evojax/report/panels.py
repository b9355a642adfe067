"""Several plots in one picture, two beside each other, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from evojax.report.style import (
    TEXT,
    Label,
    Theme,
    canvas,
    error,
    error_axis,
    heading,
    labels_beside,
    log_ticks,
    panel,
)

# Inches: of one plot, and around it.
WIDE, TALL = 3.3, 2.35
LEFT, BOTTOM, TOP, ACROSS, BETWEEN = 0.85, 0.72, 1.05, 0.95, 0.72
NARROWEST = 6.5
"""Inches that the title and the note beneath it need."""

CHANCE = 90.0
"""Error of guessing among ten classes, per cent."""


class Look(NamedTuple):
    """How a series is drawn; `face` fills its markers."""

    color: str
    marker: str
    line: str
    face: str


def panels(
    theme: Theme, title: str, note: str, count: int, right: float
) -> tuple[Figure, list[Axes]]:
    """A picture of `count` plots in rows of two, `right` inches kept free beside them."""
    rows, columns = -(-count // 2), min(count, 2)
    height = TOP + rows * TALL + (rows - 1) * BETWEEN + BOTTOM
    width = LEFT + columns * WIDE + (columns - 1) * ACROSS + right
    figure = canvas(theme, height, max(width, NARROWEST))
    heading(figure, theme, title, note)
    plots = []
    for index in range(count):
        row, column = divmod(index, 2)
        left = LEFT + column * (WIDE + ACROSS)
        bottom = height - TOP - (row + 1) * TALL - row * BETWEEN
        plots.append(panel(figure, theme, (left, bottom, WIDE, TALL)))
    return figure, plots


def caption(axes: Axes, theme: Theme, words: str) -> None:
    """What one of several plots shows, above it."""
    axes.set_title(words, loc="left", color=theme.ink, fontsize=TEXT, pad=8)


def legend(axes: Axes, labels: Sequence[Label]) -> None:
    """Labels beside the axes from the top on, in their order."""
    top = axes.get_ylim()[1]
    labels_beside(axes, [replace(label, height=top) for label in labels])


def draw(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], look: Look, band: Sequence[float] = ()
) -> None:
    """A series with its markers; `band` are the lower heights of a band around it, then the upper.

    A series without a line is one of marks only.
    """
    if band:
        low, high = band[: len(ys)], band[len(ys) :]
        axes.fill_between(xs, low, high, color=look.color, alpha=0.15, linewidth=0)
    axes.plot(
        xs, ys, color=look.color, marker=look.marker, linestyle=look.line, linewidth=1.5,
        markersize=5, markerfacecolor=look.face,
    )  # fmt: skip


def accuracy_axis(axes: Axes, accuracies: Iterable[float], room: int = 9) -> None:
    """The y axis of accuracies (fractions, drawn as `style.error`)."""
    errors = list(map(error, accuracies))
    error_axis(axes, min(errors) / 1.3, 1.12 * max(errors), room)
    if max(errors) > 0.95 * CHANCE:
        axes.yaxis.set_major_locator(FixedLocator([*axes.yaxis.get_ticklocs(), CHANCE]))


def byte_axis(axes: Axes, which: Literal["x", "y"], sizes: Iterable[float]) -> None:
    """A logarithmic axis of storage sizes."""
    sizes = list(sizes)
    low, high = min(sizes) / 1.25, max(sizes) * 1.25
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(log_ticks(low, high, room=6)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _bytes(value)))


def from_the_start(axes: Axes, last: float, first: float) -> None:
    """A linear x axis from the first value to the last, with few round ticks."""
    margin = 0.04 * max(last - first, 1.0)
    axes.set_xlim(first - margin, max(last, first + 1) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _bytes(value: float) -> str:
    """A round number of bytes."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"
