"""The third paper's figures: accuracy, storage size and similarity of networks of several parents.

Chung et al. 2018, Figures 1 and 2, and what they left open: the similarity within a generation, and
the number of parents. Colours are steps of the surviving share R; a diamond and a solid line are
gene tagging, a circle and a dashed line none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from evojax.files import replace
from evojax.report.cells import Cell, Groups, Terms, grouped, read, spread, table
from evojax.report.comparison import as_json
from evojax.report.panels import (
    Look,
    accuracy_axis,
    byte_axis,
    caption,
    draw,
    from_the_start,
    legend,
    panels,
)
from evojax.report.style import (
    LIGHT,
    Label,
    Picture,
    Theme,
    canvas,
    error,
    heading,
    labels_beside,
    name_axes,
    ordered_color,
    plot_area,
    png,
)
from evojax.report.tables import Table

Values = Callable[[Cell], Sequence[float]]

ACCURACY = "test accuracy"
STORAGE = "storage size"
TITLES = {True: "with gene tagging", False: "without gene tagging", None: "one parent"}
SHORT = {True: ", tagged", False: ", untagged", None: ""}


def publish(folder: Path, content: Mapping[str, Any]) -> Table:
    """Writes polyploid.json, its table included, and the pictures beside it.

    Args:
        folder: where to; it is made if need be.
        content: what was measured; "cells" is a list of `cells.entry`.

    Returns:
        The table.

    Raises:
        OSError: A file cannot be written.
    """
    target = folder / "polyploid.json"
    replace(target, as_json(content))
    cells = read(target)
    shown = table(cells)
    replace(target, as_json({**content, "table": shown.as_lists()}))
    dataset = content["dataset"]
    what = f"LeNet on {dataset['name']}, {dataset['train']:,} training images"
    for picture in pictures(cells, what):
        replace(folder / f"{picture.name}.png", picture.png)
    return shown


def pictures(cells: Sequence[Cell], what: str, theme: Theme = LIGHT) -> list[Picture]:
    """All figures: of the largest number of parents, and where there are several, one of all.

    Args:
        cells: at least one.
        what: which networks and which data, for the line under the titles.
        theme: colours of the page.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not cells:
        raise ValueError("pictures: expected at least one cell")
    groups = grouped(cells)
    counts = sorted({terms.parents for terms in groups})
    most = {terms: group for terms, group in groups.items() if terms.parents == counts[-1]}
    seeds = max(map(len, groups.values()))
    over = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "1 seed"
    mated = f"{what}; {_parents(counts[-1])}"
    drawn = [
        over_generations(most, f"{mated}; {over}", theme),
        over_time(most, f"{mated}; {over}", theme),
        storage(most, f"{mated}; a mark a generation and seed", theme),
        similarity(most, f"{mated}; {over}", theme),
    ]
    return [*drawn, parents(groups, f"{what}; {over}", theme)] if len(counts) > 1 else drawn


def over_generations(groups: Groups, note: str, theme: Theme) -> Picture:
    """Accuracy and storage size against the generation: with tagging above, without below."""
    return _over(groups, ("generations", "by generation", "generation"), _numbers, note, theme)


def over_time(groups: Groups, note: str, theme: Theme) -> Picture:
    """The same against computing time, in multiples of the ancestor's own (Figure 1)."""
    words = ("time", "by computing time", "computing time / the ancestor's own")
    return _over(groups, words, lambda cell: cell.relative_time, note, theme)


def _over(
    groups: Groups, words: tuple[str, str, str], xs: Values, note: str, theme: Theme
) -> Picture:
    name, by, x = words
    rows = _kinds(groups)
    labels = [_share_label(share, groups, theme) for share in _shares(groups)]
    right = _right(labels)
    title = f"Accuracy and storage size {by}"
    figure, plots = panels(theme, title, note, 2 * len(rows), right)
    cells = _cells(groups)
    for row, tagging in enumerate(rows):
        accuracy, size = plots[2 * row : 2 * row + 2]
        accuracy_axis(accuracy, _all(cells, "accuracy"), room=6)
        byte_axis(size, "y", _all(cells, "bytes_sparse"))
        for axes, what in ((accuracy, ACCURACY), (size, STORAGE)):
            from_the_start(axes, max(max(xs(cell)) for cell in cells), first=xs(cells[0])[0])
            name_axes(axes, theme, x if row == len(rows) - 1 else "", "")
            caption(axes, theme, f"{what}, {TITLES[tagging]}")
        for terms, group in groups.items():
            if terms.tagging is tagging:
                look = _look(terms, groups, theme)
                _series(accuracy, group, xs, lambda cell: cell.accuracy, look, error)
                _series(size, group, xs, lambda cell: cell.bytes_sparse, look, float)
        legend(size, labels)
    return Picture(name, png(figure), f"{title}. {_ends(groups)}")


def storage(groups: Groups, note: str, theme: Theme) -> Picture:
    """Accuracy against storage size, a mark for every generation of every cell (Figure 2)."""
    labels = [_share_label(share, groups, theme) for share in _shares(groups)]
    labels += [_kind_label(kind, theme, line="") for kind in _kinds(groups)]
    right = _right(labels)
    figure = canvas(theme, 5.6, width=6.2 + right)
    title = "Accuracy against storage size"
    axes = plot_area(figure, theme, title, right, top=0.85)
    heading(figure, theme, "", note)
    cells = _cells(groups)
    accuracy_axis(axes, _all(cells, "accuracy"))
    byte_axis(axes, "x", _all(cells, "bytes_sparse"))
    for terms, group in groups.items():
        look = _look(terms, groups, theme)._replace(line="")
        for cell in group:
            draw(axes, cell.bytes_sparse, list(map(error, cell.accuracy)), look)
    name_axes(axes, theme, f"{STORAGE}, mean of a generation's networks", ACCURACY)
    axes.yaxis.labelpad = 2
    legend(axes, labels)
    return Picture("storage", png(figure), f"{title}. {_ends(groups)}")


def similarity(groups: Groups, note: str, theme: Theme) -> Picture:
    """How alike the networks of a generation are, generation by generation."""
    looks = {terms: _look(terms, groups, theme) for terms in groups}
    labels = []
    for terms, group in groups.items():
        look, last = looks[terms], 100 * spread(group, lambda cell: cell.similarity)[0][-1]
        words = f"R {100 * terms.share:g} %{SHORT[terms.tagging]}"
        labels.append(Label(words, look.color, last, look.marker, look.line, face=look.face))
    right = _right(labels)
    figure = canvas(theme, 5.6, width=6.2 + right)
    title = "Similarity within a generation"
    axes = plot_area(figure, theme, title, right, top=0.85)
    heading(figure, theme, "", note)
    axes.set_ylim(0, 102)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    from_the_start(axes, max(len(cell.similarity) for cell in _cells(groups)), first=1)
    for terms, group in groups.items():
        _series(axes, group, _numbers, lambda cell: cell.similarity, looks[terms], _percent)
    name_axes(axes, theme, "generation", "clusters shared by two networks / living in either")
    labels_beside(axes, labels)
    alt = "; ".join(f"{label.text}: {label.height:.0f} %" for label in labels)
    return Picture("similarity", png(figure), f"{title}. In the last: {alt}.")


def parents(groups: Groups, note: str, theme: Theme) -> Picture:
    """Accuracy against storage size for several numbers of parents, a plot for every R."""
    counts = sorted({terms.parents for terms in groups})
    colors = dict(zip(counts, theme.series * len(counts), strict=False))
    labels = [Label(_parents(count), color, 0.0) for count, color in colors.items()]
    labels += [_kind_label(kind, theme) for kind in _kinds(groups) if kind is not None]
    title = "Accuracy against storage size, by the number of parents"
    shares = _shares(groups)
    figure, plots = panels(theme, title, note, len(shares), _right(labels))
    cells = _cells(groups)
    for index, (axes, share) in enumerate(zip(plots, shares, strict=True)):
        accuracy_axis(axes, _all(cells, "accuracy"), room=6)
        byte_axis(axes, "x", _all(cells, "bytes_sparse"))
        caption(axes, theme, f"{ACCURACY}, R {100 * share:g} %")
        name_axes(axes, theme, STORAGE if index >= len(shares) - 2 else "", "")
        for terms, group in groups.items():
            if terms.share == share:
                look = _look(terms, groups, theme, colors[terms.parents])
                sizes: Values = lambda cell: cell.bytes_sparse  # noqa: E731
                _series(axes, group, sizes, lambda cell: cell.accuracy, look, error)
    legend(plots[min(1, len(plots) - 1)], labels)
    return Picture("parents", png(figure), f"{title}. {_ends(groups)}")


def _series(
    axes: Axes,
    cells: Sequence[Cell],
    xs: Values,
    ys: Values,
    look: Look,
    to: Callable[[float], float],
) -> None:
    """Means over the seeds, as the axis has them, in a band of one standard deviation."""
    means, deviations = spread(cells, ys)
    ends = (
        to(max(mean + sign * deviation, 0.1 * mean))
        for sign in (-1, 1)
        for mean, deviation in zip(means, deviations, strict=True)
    )
    draw(axes, spread(cells, xs)[0], list(map(to, means)), look, list(ends))


def _look(terms: Terms, groups: Groups, theme: Theme, color: str = "") -> Look:
    marker, line = {True: ("D", "-"), False: ("o", "--"), None: ("s", "-")}[terms.tagging]
    color = color or _color(terms.share, groups, theme)
    return Look(color, marker, line, theme.page if terms.tagging is False else color)


def _color(share: float, groups: Groups, theme: Theme) -> str:
    shares = _shares(groups)
    return ordered_color(theme, shares.index(share), len(shares))


def _share_label(share: float, groups: Groups, theme: Theme) -> Label:
    return Label(f"R {100 * share:g} %", _color(share, groups, theme), 0.0)


def _kind_label(kind: bool | None, theme: Theme, line: str | None = None) -> Label:
    """What the markers mean, whatever their colour."""
    look = _look(Terms(0.0, kind, 0), {}, theme, theme.muted)
    dash = look.line if line is None else line
    return Label(TITLES[kind], look.color, 0.0, look.marker, dash, face=look.face)


def _parents(count: int) -> str:
    return f"{count} parent{'s' * (count > 1)}"


def _right(labels: Sequence[Label]) -> float:
    return 0.15 + max(label.width for label in labels)


def _kinds(groups: Groups) -> list[bool | None]:
    return [kind for kind in TITLES if any(terms.tagging is kind for terms in groups)]


def _shares(groups: Groups) -> list[float]:
    return sorted({terms.share for terms in groups})


def _cells(groups: Groups) -> list[Cell]:
    return [cell for group in groups.values() for cell in group]


def _all(cells: Sequence[Cell], name: str) -> list[float]:
    return [value for cell in cells for value in getattr(cell, name)]


def _numbers(cell: Cell) -> range:
    return range(1, 1 + len(cell.accuracy))


def _percent(fraction: float) -> float:
    return 100 * fraction


def _ends(groups: Groups) -> str:
    """The last generations in words."""
    lines = []
    for terms, group in groups.items():
        last = spread(group, lambda cell: cell.accuracy)[0][-1]
        name = f"R {100 * terms.share:g} %, {_parents(terms.parents)}{SHORT[terms.tagging]}"
        lines.append(f"{name}: {100 * last:.2f} %")
    return f"Accuracy of the last generation: {'; '.join(lines)}."
