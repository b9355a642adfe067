"""Methods beside each other: one table and one picture of accuracy at equal sizes.

A benchmark writes what it measured as JSON (`publish`); `read` gives it back, so that another
benchmark can set its own methods beside it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from evojax.files import replace
from evojax.report import text
from evojax.report.style import (
    LIGHT,
    MARKERS,
    Label,
    Picture,
    Theme,
    canvas,
    error,
    error_axis,
    heading,
    labels_beside,
    name_axes,
    ordered_color,
    plot_area,
    png,
    short,
)
from evojax.report.tables import Column, Table

# Beyond a network that is so much smaller than asked for, the table says how small it is.
NEAR = 1.02


class Measure(NamedTuple):
    """What sizes are measured by: a field of the runs, and what pictures call it."""

    key: str
    name: str
    definition: str


SYNAPSES = Measure(
    "architectural_efficiency",
    "architectural efficiency",
    "architectural efficiency (synapses: ancestor / offspring)",
)
MACS = Measure(
    "mac_reduction",
    "reduction of multiply-accumulates",
    "multiply-accumulates: ancestor / compacted offspring",
)


class Run(NamedTuple):
    """One lineage: its seed, and every generation's size as a ratio (`Measure`) and accuracy."""

    seed: int
    efficiencies: tuple[float, ...]
    accuracies: tuple[float, ...]


class Method(NamedTuple):
    """What is compared: a name and its runs, one a seed."""

    name: str
    runs: tuple[Run, ...]


class Spread(NamedTuple):
    """A method at one size, over the seeds that got there.

    Attributes:
        efficiency: mean architectural efficiency of the networks.
        accuracy: mean, a fraction.
        deviation: sample standard deviation of the accuracies; 0 of a single one.
        seeds: how many.
        worst: the lowest accuracy.
        best: the highest.
    """

    efficiency: float
    accuracy: float
    deviation: float
    seeds: int
    worst: float
    best: float


def at(method: Method, size: float) -> Spread | None:
    """The first network of each run whose architectural efficiency is at least `size`.

    None where no run has one.
    """
    found = []
    for run in method.runs:
        rows = zip(run.efficiencies, run.accuracies, strict=True)
        found += [row for row in rows if round(row[0], 2) >= size][:1]
    if not found:
        return None
    efficiencies, accuracies = zip(*found, strict=True)
    return Spread(
        statistics.fmean(efficiencies),
        statistics.fmean(accuracies),
        deviation(accuracies),
        len(found),
        min(accuracies),
        max(accuracies),
    )


def deviation(values: Sequence[float]) -> float:
    """Their standard deviation, as of a sample; 0 of a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def read(path: Path, measure: Measure = SYNAPSES) -> tuple[Method, ...]:
    """The methods of a benchmark's JSON, as `publish` wrote it.

    Raises:
        ValueError: The file is missing or holds something else.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["methods"]
        return tuple(
            Method(
                entry["name"],
                tuple(
                    Run(
                        run["seed"],
                        tuple(map(float, run[measure.key])),
                        tuple(map(float, run["accuracy"])),
                    )
                    for run in entry["runs"]
                ),
            )
            for entry in entries
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the JSON of a comparison: {error!r}") from error


def publish(
    folder: Path,
    content: Mapping[str, Any],
    sizes: Sequence[float],
    *,
    note: str = "",
    beside: Sequence[Method] = (),
    lead: bool = False,
    ordered: bool = False,
    measure: Measure = SYNAPSES,
) -> Table:
    """Writes BENCHMARK.json, its table included, and the picture BENCHMARK.png.

    Args:
        folder: where to; it is made if need be.
        content: what the benchmark measured. "benchmark" is its name; "methods" a list of
            {"name", "runs": [{"seed", "architectural_efficiency": [...], "accuracy": [...]}]}.
        sizes: architectural efficiencies that the table shows; the first network of each run is
            shown as well.
        note: a line under the picture's title.
        beside: methods measured elsewhere, shown before these.
        lead: whether the table ends with the first method's lead over all others.
        ordered: whether the methods are steps on a scale, and are coloured so.
        measure: what sizes are measured by, in place of architectural efficiency.

    Returns:
        The table.

    Raises:
        OSError: A file cannot be written.
    """
    name = content["benchmark"]
    target = folder / f"{name}.json"
    replace(target, as_json(content))
    methods = (*beside, *read(target, measure))
    shown = table(methods, sizes, lead=lead)
    replace(target, as_json({**content, "table": shown.as_lists()}))
    picture = accuracy(methods, note=note, ordered=ordered, measure=measure)
    replace(folder / f"{name}.png", picture.png)
    return shown


def table(methods: Sequence[Method], sizes: Sequence[float], *, lead: bool = False) -> Table:
    """A row for each method, a column for the ancestor and for each size.

    A cell is the mean accuracy over the seeds in per cent and its standard deviation; it says so
    where a network is notably smaller than the column asks for, or where not all seeds got there.

    Args:
        methods: at least one.
        sizes: architectural efficiencies.
        lead: adds a row with the first method's lead over the best of the others, in points.
    """
    sizes = [1.0, *sizes]
    columns = [
        Column("test accuracy, % ± standard deviation", "method"),
        Column("seeds", "seeds", text.count),
        *(Column(f"{size:g}×", f"{size:g}", shown_as_is) for size in sizes),
    ]
    rows: list[tuple[Any, ...]] = [
        (method.name, len(method.runs), *(cell(method, size) for size in sizes))
        for method in methods
    ]
    if lead:
        leads = (_lead(methods, size) for size in sizes)
        rows.append((f"lead of {methods[0].name}, points", None, *leads))
    return Table("Accuracy at equal size", tuple(columns), tuple(rows), totals=lead)


def accuracy(
    methods: Sequence[Method],
    *,
    note: str = "",
    ordered: bool = False,
    theme: Theme = LIGHT,
    measure: Measure = SYNAPSES,
) -> Picture:
    """Accuracy against size, both logarithmic (in the error), a line a method.

    A line joins the means over the seeds, generation by generation; the band around it reaches
    from the worst seed to the best. The first method is drawn strongest.

    Args:
        methods: at least one, each with a run.
        note: a line under the title.
        ordered: steps on a scale: coloured so, and none is drawn stronger than the others.
        theme: colours of the page.
        measure: what sizes are measured by.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not methods or not all(method.runs for method in methods):
        raise ValueError("accuracy: expected methods with at least one run each")
    lines = [_line(method) for method in methods]
    styles = [_style(theme, index, len(methods), ordered) for index in range(len(methods))]
    labels = []
    for index, (method, line, (color, marker, dash)) in enumerate(
        zip(methods, lines, styles, strict=True)
    ):
        words = f"{short(method.name, 36)}  {text.percent(line[-1].accuracy)} %"
        if line[-1].efficiency < 0.9 * max(row[-1].efficiency for row in lines):
            words += f" at {text.short_times(line[-1].efficiency)}"
        height = error(line[-1].accuracy)
        labels.append(Label(words, color, height, marker, dash, bold=index == 0 and not ordered))
    right = 0.15 + max(label.width for label in labels)
    # The labels' width comes on top, so that long names do not squeeze the plot.
    figure = canvas(theme, 5.6, width=6.4 + right)
    title = f"Test accuracy against {measure.name}"
    axes = plot_area(figure, theme, title, right, top=0.85, left=1.1)
    heading(figure, theme, "", note)
    _axes(axes, lines)
    for index, (line, (color, marker, dash)) in enumerate(zip(lines, styles, strict=True)):
        xs = [spread.efficiency for spread in line]
        low, high = [error(s.best) for s in line], [error(s.worst) for s in line]
        axes.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(
            xs, [error(s.accuracy) for s in line], color=color, linestyle=dash, marker=marker,
            markersize=5, linewidth=2.6 if index == 0 and not ordered else 1.5,
            zorder=2.5 if index == 0 else 2,
        )  # fmt: skip
    labels_beside(axes, labels)
    name_axes(
        axes,
        theme,
        measure.definition,
        "accuracy on the test set (logarithmic in the error)",
    )
    ends = "; ".join(label.text for label in labels)
    return Picture("comparison", png(figure), f"{title}. At the smallest size: {ends}.")


def _line(method: Method) -> list[Spread]:
    """The method's spread at every generation, over the runs that got there."""
    line = []
    for index in range(max(len(run.accuracies) for run in method.runs)):
        runs = [run for run in method.runs if index < len(run.accuracies)]
        step = [
            Run(run.seed, run.efficiencies[index : index + 1], run.accuracies[index : index + 1])
            for run in runs
        ]
        spread = at(Method(method.name, tuple(step)), 0.0)
        line += [spread] if spread else []
    return line


def _axes(axes: Axes, lines: Sequence[Sequence[Spread]]) -> None:
    """Both logarithmic; the upper one in the error, so that 98 and 99 % are told apart."""
    most = max(spread.efficiency for line in lines for spread in line)
    axes.set_xscale("log")
    axes.set_xlim(0.93, 1.07 * max(most, 2.0))
    powers = [2.0**power for power in range(40) if 2.0**power <= 1.01 * max(most, 2.0)]
    axes.xaxis.set_major_locator(FixedLocator(powers[:: 1 + len(powers) // 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}×"))
    spreads = [spread for line in lines for spread in line]
    low = min(error(spread.best) for spread in spreads) / 1.1
    high = 1.12 * max(error(spread.worst) for spread in spreads)
    error_axis(axes, low, high)
    axes.xaxis.set_minor_locator(NullLocator())


def _style(theme: Theme, index: int, count: int, ordered: bool) -> tuple[str, str, str]:
    """Colour, marker and line: dashed where the colours come round again."""
    marker = MARKERS[index % len(MARKERS)]
    if not ordered:
        rounds, place = divmod(index, len(theme.series))
        color = theme.series[(place + 3 * rounds) % len(theme.series)]
        return color, marker, "--" if rounds else "-"
    return ordered_color(theme, index, count), marker, "-"


def cell(method: Method, size: float) -> str | None:
    """A method's accuracy at a size as a table shows it; None where no run got there."""
    found = at(method, size)
    if found is None:
        return None
    words = text.percent(found.accuracy)
    if found.seeds > 1:
        words += f" ± {text.percent(found.deviation)}"
    if found.efficiency > NEAR * size:
        words += f" at {text.short_times(found.efficiency)}"
    if found.seeds < len(method.runs):
        words += f", {found.seeds} of {len(method.runs)} seeds"
    return words


def _lead(methods: Sequence[Method], size: float) -> str | None:
    first, *others = (at(method, size) for method in methods)
    reached = [other.accuracy for other in others if other]
    return f"{100 * (first.accuracy - max(reached)):+.2f}" if first and reached else None


def as_json(content: Mapping[str, Any]) -> bytes:
    """What a result's file holds."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def shown_as_is(cell: str) -> str:
    """Not `str` itself: these are figures, set flush right."""
    return cell
