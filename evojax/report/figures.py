"""The pictures of a run: accuracy against efficiency, the survival of its layers, its kernels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from evojax.evolution.record import Lineage
from evojax.report import text
from evojax.report.kernels import kernels
from evojax.report.lineage import measures
from evojax.report.paper import Published
from evojax.report.style import (
    DARK,
    LIGHT,
    MARKERS,
    Label,
    Picture,
    Theme,
    canvas,
    labels_beside,
    name_axes,
    plot_area,
    png,
    ratio_axis,
    short,
)

__all__ = ["DARK", "LIGHT", "Picture", "Theme", "accuracy", "kernels", "survival"]

WINDOW = 5.0  # points below the ancestor that the accuracy picture shows of the main series
MOST_LABELS = 24  # layers that have room for a label
PAPER = "paper"

Rows = Sequence[tuple[float, float]]  # (architectural efficiency, per cent) of each generation
Series = Sequence[tuple[str, str, Sequence[Rows]]]  # (label, measure, rows of each seed)


def accuracy(
    lineages: Mapping[str, Sequence[Lineage]],
    paper: Published | None = None,
    theme: Theme = LIGHT,
) -> Picture:
    """Accuracy (per cent, linear) against architectural efficiency (logarithmic).

    Args:
        lineages: For each label its runs, the seeds of one setting: a line joins their means,
            generation by generation, in a band from the worst to the best. The first label is the
            one the picture is about: drawn strongest, and it sets the scale. What falls out of the
            scale leaves the picture at the bottom; its label says where to.
        paper: The published points, drawn beside.
        theme: Colours.

    Raises:
        ValueError: A label has no lineage, or there is no label.
    """
    if not lineages or not all(lineages.values()):
        raise ValueError("accuracy: expected at least one lineage for each label, got none")
    main = next(iter(lineages.values()))
    names = measures(main[0])
    series = _series(lineages, names, paper)
    bottom, top = _heights(main, names, series)
    labels = _end_labels(series, list(lineages), names, theme, bottom)
    figure = canvas(theme, 4.9)
    title = " and ".join(names).capitalize() + " against architectural efficiency"
    axes = plot_area(figure, theme, title, right=0.15 + max(label.width for label in labels))
    axes.set_ylim(bottom, top)
    ratio_axis(axes, 0.9, max(1.12 * max(ratio for ratio, _ in _all(series)), 10.0))
    for label, name, runs in reversed(series):
        color, marker, line = _style(theme, list(lineages), names, label, name)
        strong = label in (PAPER, next(iter(lineages)))
        ratios, heights = zip(*_means(runs), strict=True)
        if len(runs) > 1:
            steps = [[height for _, height in step] for step in _steps(runs)]
            low, high = [min(step) for step in steps], [max(step) for step in steps]
            axes.fill_between(ratios, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(
            ratios, heights, color=color, linestyle=line, linewidth=2.2 if strong else 1.5,
            marker=marker, markersize=6 if strong else 4.5, markeredgewidth=1.5,
            markerfacecolor=theme.page if label == PAPER else color, zorder=2 + 0.1 * strong,
        )  # fmt: skip
    labels_beside(axes, labels, spacing=3.0 if len(labels) < 8 else 1.45)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g} %"))
    name_axes(
        axes,
        theme,
        "architectural efficiency (synapses: ancestor / offspring)",
        f"{' and '.join(names)} on the test set",
    )
    return Picture("accuracy", png(figure), _accuracy_alt(title, series))


def survival(lineage: Lineage, theme: Theme = LIGHT) -> Picture:
    """Share of the ancestor's synapses alive in each layer (logarithmic) over the generations.

    Up to twelve layers have a colour and a marker each; more are coloured by depth, and as many
    are labelled as there is room for, from the one that kept most to the one that kept least.
    """
    numbers = [record["generation"] for record in lineage["generations"]]
    shares = _shares(lineage)
    alive = [share for row in shares.values() for share in row if share > 0] or [100.0]
    floor = min(min(alive) * 0.8, 50.0)
    labels, lines = [], []
    chosen = _labelled([row[-1] for row in shares.values()])
    for index, (name, row) in enumerate(shares.items()):
        color, marker = _layer_style(theme, index, len(shares))
        heights = [max(share, floor) for share in row]
        lines.append((heights, color, marker))
        if index in chosen:
            end = f"{row[-1]:.3g} %" if row[-1] else "none"
            labels.append(Label(f"{short(name)}  {end}", color, heights[-1], leader=True))
    figure = canvas(theme, 4.9 if len(labels) <= 14 else 6.6)
    title = "Synapses alive, by layer"
    axes = plot_area(figure, theme, title, right=0.15 + max(label.width for label in labels))
    _share_axis(axes, floor)
    axes.set_xlim(numbers[0] - 0.15, max(numbers[-1], numbers[0] + 1) + 0.15)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    few = len(lines) <= len(MARKERS)
    for heights, color, marker in lines:
        axes.plot(
            numbers, heights, color=color, linewidth=2 if few else 1.2, clip_on=False,
            marker=marker if few or len(numbers) == 1 else "", markersize=5,
        )  # fmt: skip
    labels_beside(axes, labels)
    name_axes(axes, theme, "generation", "share of the ancestor's synapses")
    return Picture("survival", png(figure), _survival_alt(title, shares, numbers[-1]))


def _series(
    lineages: Mapping[str, Sequence[Lineage]], names: Sequence[str], paper: Published | None
) -> Series:
    """The main label's runs first, the paper's points next, then all others."""
    ours = []
    for label, group in lineages.items():
        for name in names:
            runs = [
                [(r["architectural_efficiency"], 100 * r[name]) for r in one["generations"]]
                for one in group
                if name in measures(one)
            ]
            ours += [(label, name, runs)] if runs else []
    theirs = [
        (
            PAPER,
            name,
            [[(p.architectural_efficiency, 100 * getattr(p, name)) for p in paper.points]],
        )
        for name in names
        if paper and getattr(paper.points[0], name) is not None
    ]
    return [*ours[: len(names)], *theirs, *ours[len(names) :]]


def _all(series: Series) -> list[tuple[float, float]]:
    """The rows of all runs."""
    return [row for *_, runs in series for rows in runs for row in rows]


def _steps(runs: Sequence[Rows]) -> list[Rows]:
    """Of each generation the rows of the seeds that got there."""
    last = max(map(len, runs))
    return [[rows[index] for rows in runs if index < len(rows)] for index in range(last)]


def _means(runs: Sequence[Rows]) -> Rows:
    """Of each generation the mean over the seeds that got there."""
    return [_mean(step) for step in _steps(runs)]


def _mean(rows: Rows) -> tuple[float, float]:
    ratios, heights = zip(*rows, strict=True)
    return statistics.fmean(ratios), statistics.fmean(heights)


def _heights(main: Sequence[Lineage], names: Sequence[str], series: Series) -> tuple[float, float]:
    """The per cents to show: all published points, and ours while near the ancestor."""
    ours = [rows for *_, runs in series[: len(names)] for rows in runs]
    near = [height for rows in ours for _, height in rows if height >= rows[0][1] - WINDOW]
    near += [height for _, height in _all([one for one in series if one[0] == PAPER])]
    lowest = min(near) if len(set(near)) > 1 else max(near) - WINDOW
    highest = max(height for _, height in _all(series))
    lowest = min(lowest, highest - max(0.5, 6 * _standard_error(main[0], highest)))
    margin = 0.06 * (highest - lowest)
    return max(lowest - margin, 0.0), highest + margin


def _standard_error(lineage: Lineage, height: float) -> float:
    """Of a per cent measured on the test set: a scale much finer would magnify chance."""
    images = lineage["dataset"].get("test")
    return math.sqrt(max(height * (100 - height), 0.0) / images) if images else 0.0


def _end_labels(
    series: Series, order: Sequence[str], names: Sequence[str], theme: Theme, bottom: float
) -> list[Label]:
    """One label for each label and measure: where it ends, over its seeds on average.

    An arrow marks what has left the picture at the bottom.
    """
    labels = []
    for label, name, runs in series:
        color, marker, line = _style(theme, order, names, label, name)
        ratio, height = _mean([rows[-1] for rows in runs])
        words = short(label) if len(names) == 1 else f"{short(label)}, {name}"
        if len(series) < 8:
            arrow = "↓ " if height < bottom else ""
            words += f"\n{arrow}{height:.2f} % at {text.short_times(ratio)}"
        face = theme.page if label == PAPER else color
        bold = label == order[0]
        labels.append(Label(words, color, height, marker, line, bold=bold, face=face))
    return labels


def _style(
    theme: Theme, order: Sequence[str], names: Sequence[str], label: str, name: str
) -> tuple[str, str, str]:
    """Colour and marker by label, line by measure: the first measure is the solid one."""
    first = name == names[0]
    if label == PAPER:
        return theme.muted, "D", ":" if first else "-."
    index = list(order).index(label)
    color = theme.series[index % len(theme.series)]
    return color, MARKERS[index % len(MARKERS)], "-" if first else "--"


def _shares(lineage: Lineage) -> dict[str, list[float]]:
    """Per cent of the ancestor's synapses alive, for each layer a list over the generations."""
    records = lineage["generations"]
    return {
        layer["name"]: [
            100 * record["layers"][index]["synapses"] / max(layer["synapses"], 1)
            for record in records
        ]
        for index, layer in enumerate(records[0]["layers"])
    }


def _share_axis(axes: Axes, floor: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(floor, 112)
    ticks = [step * 10.0**power for power in range(-6, 3) for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if floor <= tick < 101]
    if len(ticks) > 9:
        ticks = [tick for tick in ticks if abs(math.log10(tick) - round(math.log10(tick))) < 1e-9]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g} %"))


def _labelled(ends: Sequence[float]) -> set[int]:
    """Which layers are labelled: all where they fit, else evenly from most to least alive."""
    if len(ends) <= MOST_LABELS:
        return set(range(len(ends)))
    by_end = sorted(range(len(ends)), key=lambda index: ends[index])
    step = (len(ends) - 1) / (MOST_LABELS - 1)
    return {by_end[round(place * step)] for place in range(MOST_LABELS)}


def _layer_style(theme: Theme, index: int, count: int) -> tuple[str, str]:
    if count <= len(MARKERS):
        return theme.series[index], MARKERS[index]
    # One end of viridis vanishes on a white page, the other on a black one.
    low, high = (0.0, 0.85) if theme.name == "light" else (0.25, 1.0)
    return to_hex(colormaps["viridis"](low + (high - low) * index / (count - 1))), "o"


def _accuracy_alt(title: str, series: Series) -> str:
    ends = []
    for label, name, runs in series:
        begin, (ratio, height) = _mean([rows[0] for rows in runs])[1], _mean([r[-1] for r in runs])
        ends.append(
            f"{label}{'' if name == 'accuracy' else ', ' + name}: {begin:.2f} % at the start, "
            f"{height:.2f} % at {text.times(ratio)}"
        )
    return f"{title}. " + "; ".join(ends) + "."


def _survival_alt(title: str, shares: Mapping[str, Sequence[float]], last: int) -> str:
    ends = sorted(shares, key=lambda name: -shares[name][-1])
    if len(ends) > 8:  # More would be read out for minutes.
        ends = [*ends[:4], *ends[-4:]]
        title += f" (the four of {len(shares)} that kept most and the four that kept least)"
    words = "; ".join(f"{name} {shares[name][-1]:.3g} %" for name in ends)
    return f"{title}. Left in generation {last}: {words}."
