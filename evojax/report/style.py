"""The look that all pictures share: themes, colours, axes, labels that do not overlap.

The first colours are Okabe and Ito's, told apart by colour-blind readers too; every series has a
marker of its own besides. Nothing here touches matplotlib's global state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

DPI = 150
WIDTH = 8.0  # inches: 1200 pixels
TEXT = 11.0  # points
MARKERS = "osD^vPX<>ph*"
LEAST_ERROR = 0.02  # per cent; a logarithmic axis has no place for 0
FINE = (1, 1.5, 2, 3, 5, 7)
COARSE = (1, 2, 5)


@dataclass(frozen=True)
class Theme:
    """Colours of a picture on a light or a dark page."""

    name: str
    page: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    pruned: str
    dead: str


LIGHT = Theme(
    "light",
    page="#ffffff",
    ink="#1f2328",
    muted="#59636e",
    grid="#e3e7eb",
    series=(
        "#0072b2",
        "#d55e00",
        "#009e73",
        "#b0467f",
        "#8a6d00",
        "#8b1a1a",
        "#6e4b9e",
        "#555555",
        "#1fa8c9",
        "#7ba800",
        "#e85fb5",
        "#b3845a",
    ),
    pruned="#b3bac3",
    dead="#b3bac3",
)
DARK = Theme(
    "dark",
    page="#14181d",
    ink="#e6eaef",
    muted="#9aa5b1",
    grid="#2a3038",
    series=(
        "#56b4e9",
        "#f08c3a",
        "#2cc295",
        "#e08bb9",
        "#e0c341",
        "#e0504a",
        "#a58ae0",
        "#b9b9b9",
        "#86f0f0",
        "#8fc832",
        "#ff5fd8",
        "#b98a5e",
    ),
    pruned="#3d4650",
    dead="#56616d",
)


@dataclass(frozen=True)
class Picture:
    """A drawn picture: a file name without ending, the PNG, and its words for who cannot see it."""

    name: str
    png: bytes
    alt: str


def canvas(theme: Theme, height: float, width: float = WIDTH) -> Figure:
    """An empty figure of `width` x `height` inches that draws with Agg, without a display."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.page)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG; without the metadata that would make two drawings differ."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={})
    return out.getvalue()


def plot_area(
    figure: Figure, theme: Theme, title: str, right: float, top: float = 0.62, left: float = 0.95
) -> Axes:
    """Axes with a title flush left and `right` inches kept free for labels beside them.

    `top` inches are the title's; with 0.85 a long line below it stays clear of the labels. `left`
    inches are the y axis's; with 1.1 its name stays clear of ticks such as "99.98 %".
    """
    width, height = figure.get_size_inches()
    bottom = 0.72
    heading(figure, theme, title)
    return panel(figure, theme, (left, bottom, width - left - right, height - bottom - top))


def panel(figure: Figure, theme: Theme, box: tuple[float, float, float, float]) -> Axes:
    """Axes in a box: left, bottom, width and height in inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, tall = box
    axes = figure.add_axes((left / width, bottom / height, wide / width, tall / height))
    axes.set_facecolor(theme.page)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.muted)
    axes.tick_params(length=0, colors=theme.muted, labelsize=TEXT, pad=6)
    return axes


def heading(figure: Figure, theme: Theme, title: str, below: str = "") -> None:
    """The figure's title, flush left at the top, and a line below it."""
    width, height = figure.get_size_inches()
    style: dict[str, Any] = {"color": theme.ink, "fontsize": 13, "weight": "bold", "va": "top"}
    figure.text(0.16 / width, 1 - 0.17 / height, title, **style)
    style = {"color": theme.muted, "fontsize": TEXT, "va": "top"}
    figure.text(0.16 / width, 1 - 0.43 / height, below, **style)


def short(name: str, most: int = 22) -> str:
    """The end of a name that is too long to stand in a picture."""
    return name if len(name) <= most else "…" + name[1 - most :]


def name_axes(axes: Axes, theme: Theme, x: str, y: str) -> None:
    """Names both axes, with units in the names."""
    axes.set_xlabel(x, color=theme.muted, fontsize=TEXT, labelpad=8)
    axes.set_ylabel(y, color=theme.muted, fontsize=TEXT, labelpad=8)


def ratio_axis(axes: Axes, least: float, most: float) -> None:
    """A logarithmic x axis of efficiencies with round ticks (1x, 2x, 5x ...) between its limits."""
    axes.set_xscale("log")
    axes.set_xlim(least, most)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(least, most)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}×"))


def error_axis(axes: Axes, low: float, high: float, room: int = 9) -> None:
    """A y axis of accuracies, logarithmic in the error, so that 98 and 99 % are told apart.

    Args:
        axes: whose values are errors in per cent (`error`).
        low: the least error, at the top.
        high: the largest.
        room: most ticks.
    """
    high = min(high, 100.0)
    low = min(low, high / 2.5)  # A finer scale would magnify chance.
    axes.set_yscale("log")
    axes.set_ylim(high, low)
    for steps in (FINE, COARSE, (1,)):
        every = [step * 10.0**power for power in range(-2, 2) for step in steps]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) <= room:
            break
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 - value:.4g} %"))


def error(fraction: float) -> float:
    """An accuracy's error in per cent, as far as a picture can show it."""
    return min(max(100 * (1 - fraction), LEAST_ERROR), 100.0)


def ordered_color(theme: Theme, index: int, count: int) -> str:
    """The colour of one of `count` steps on a scale."""
    # One end of plasma vanishes on a white page, the other on a black one.
    low, high = (0.0, 0.78) if theme.name == "light" else (0.25, 1.0)
    return to_hex(colormaps["plasma"](low + (high - low) * index / max(count - 1, 1)))


def log_ticks(least: float, most: float, room: int = 8) -> list[float]:
    """Round numbers between the limits: the finest of three series that has room."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10**power for power in range(12) for step in steps]
        ticks = [tick for tick in ticks if least <= tick <= most]
        if len(ticks) <= room:
            break
    return ticks


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the `wanted` ones, in their order, at least `gap` apart, in [low, high].

    Of equal ones the first is the highest. Where that many do not fit between `low` and `high`,
    they are spread evenly.
    """
    count = len(wanted)
    if count > 1 and gap * (count - 1) > high - low:
        gap = (high - low) / (count - 1)
    order = sorted(range(count), key=lambda index: (wanted[index], -index))
    # Least squares under minimal distances: pool neighbours that collide around their mean.
    pools: list[list[float]] = []
    for place, index in enumerate(order):
        pools.append([wanted[index] - place * gap, 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, weight = pools.pop()
            total = weight + pools[-1][1]
            pools[-1] = [(pools[-1][0] * pools[-1][1] + mean * weight) / total, total]
    places = [mean for mean, weight in pools for _ in range(round(weight))]
    result = [0.0] * count
    for place, (index, base) in enumerate(zip(order, places, strict=True)):
        result[index] = min(max(base, low), high - gap * (count - 1)) + place * gap
    return result


@dataclass(frozen=True)
class Label:
    """A label beside the axes: its text, its colour, and the height (data units) it speaks of.

    `marker` and `line` are drawn before the text like a legend's; a `leader` joins it to the
    axes' right edge at that height instead. `face` fills the marker (default: `color`).
    """

    text: str
    color: str
    height: float
    marker: str = ""
    line: str = "-"
    leader: bool = False
    bold: bool = False
    face: str = ""

    @property
    def width(self) -> float:
        """How wide the label is, in inches, with what stands before its text."""
        font = FontProperties(weight="bold" if self.bold else "normal")
        paths = [TextPath((0, 0), line, TEXT, prop=font) for line in self.text.split("\n")]
        return (0.28 if self.leader else 0.54) + max(p.get_extents().x1 for p in paths) / 72


def labels_beside(axes: Axes, labels: Sequence[Label], spacing: float = 1.45) -> None:
    """Writes the labels to the right of the axes, near their heights, without overlap."""
    box = axes.get_window_extent()
    wide, tall = box.width / DPI, box.height / DPI
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = []
    for label in labels:
        share = to_axes.transform((axes.get_xlim()[1], label.height))[1]
        wanted.append(min(max(float(share), 0.0), 1.0) * tall)
    places = apart(wanted, TEXT / 72 * spacing, 0.0, tall)
    for label, start, place in zip(labels, wanted, places, strict=True):
        y = place / tall
        style: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        if label.leader:
            xs, ys = [1 + 0.04 / wide, 1 + 0.22 / wide], [start / tall, y]
            axes.plot(xs, ys, color=label.color, linewidth=0.8, **style)
            text_at = 1 + 0.28 / wide
        else:
            xs = [1 + 0.14 / wide, 1 + 0.29 / wide, 1 + 0.44 / wide]
            axes.plot(xs, [y] * 3, color=label.color, linestyle=label.line, linewidth=2, **style)
            mark: dict[str, Any] = {"marker": label.marker, "markersize": 6, "markeredgewidth": 1.5}
            face = label.face or label.color
            axes.plot(xs[1:2], [y], color=label.color, markerfacecolor=face, **mark, **style)
            text_at = 1 + 0.54 / wide
        style |= {"va": "center", "weight": "bold" if label.bold else "normal"}
        axes.text(
            text_at, y, label.text, color=label.color, fontsize=TEXT, linespacing=1.15, **style
        )
