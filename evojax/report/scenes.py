"""What a detector finds in street scenes, generation by generation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from PIL import Image

from evojax.evolution.record import Lineage, Record
from evojax.report import text
from evojax.report.style import LIGHT, TEXT, WIDTH, Picture, Theme, canvas, heading, png

MOST_ROWS = 4
LABELLED, DETECTED = "#ffffff", "#ffb000"
"""Seen on any street, whatever the page: white dashes, and orange, both with a dark edge."""

_SIDE, _GAP, _TOP, _ROW, _BOTTOM = 0.16, 0.08, 0.78, 0.3, 0.12  # inches


def scenes(lineage: Lineage, images: Mapping[str, np.ndarray], theme: Theme = LIGHT) -> Picture:
    """The example scenes with labelled and detected boxes: a row of them for each generation.

    At most four generations, the first and last among them.

    Args:
        lineage: of a detector; its dataset has "examples" and its generations "detections", boxes
            (left, top, right, bottom in pixels) by the image's identifier.
        images: (H, W, 3) uint8 by identifier, all of one shape.
        theme: Colours.

    Raises:
        ValueError: `images` is empty or has one that the lineage has no boxes of.
    """
    labelled = lineage["dataset"].get("examples") or {}
    if not images or not images.keys() <= labelled.keys():
        raise ValueError(
            f"scenes: expected images of {sorted(labelled)}, the lineage's; got {sorted(images)}"
        )
    records = lineage["generations"]
    places = np.linspace(0, len(records) - 1, min(len(records), MOST_ROWS))
    shown = [records[place] for place in sorted({round(place) for place in places.tolist()})]
    height, width = next(iter(images.values())).shape[:2]
    wide = WIDTH * 1.5
    each = (wide - 2 * _SIDE - (len(images) - 1) * _GAP) / len(images)
    tall = each * height / width
    figure = canvas(theme, _TOP + len(shown) * (_ROW + tall) + _BOTTOM, wide)
    heading(
        figure, theme, "What the detector finds in test images",
        "white, dashed: a labelled car; orange: a detection",
    )  # fmt: skip
    for row, record in enumerate(shown):
        top = _TOP + row * (_ROW + tall)
        _words(figure, theme, top, record)
        for column, (name, image) in enumerate(images.items()):
            box = (_SIDE + column * (each + _GAP), top + _ROW, each, tall)
            axes = _placed(figure, box)
            axes.imshow(image, aspect="auto", interpolation="antialiased")
            _boxes(axes, labelled[name], LABELLED, (0, (2.5, 1.5)), 1.2)
            _boxes(axes, record.get("detections", {}).get(name, []), DETECTED, "-", 1.6)
    return Picture("scenes", _in_few_colours(png(figure)), _alt(shown, images, labelled))


def _in_few_colours(picture: bytes) -> bytes:
    """Photographs as PNG are large: with 256 colours of their own they take a quarter."""
    out = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(out, "PNG", optimize=True)
    return out.getvalue()


def _words(figure: Figure, theme: Theme, top: float, record: Record) -> None:
    wide, tall = figure.get_size_inches()
    words = (
        f"generation {record['generation']}, "
        f"A-E {text.times(record['architectural_efficiency'])}: precision "
        f"{text.percent(record['precision'], 1)} %, recall {text.percent(record['recall'], 1)} %"
    )
    figure.text(_SIDE / wide, 1 - (top + _ROW - 0.07) / tall, words, color=theme.ink, fontsize=TEXT)


def _placed(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes without anything around them; left, top, width and height in inches."""
    wide, tall = figure.get_size_inches()
    left, top, width, height = box
    axes = figure.add_axes(
        (left / wide, 1 - (top + height) / tall, width / wide, height / tall), frameon=False
    )
    axes.set_axis_off()
    return axes


def _boxes(
    axes: Axes,
    boxes: Sequence[Sequence[float]],
    color: str,
    line: str | tuple,
    width: float,
) -> None:
    for left, top, right, bottom in boxes:
        # Pixels' centres lie on whole numbers here, their edges in boxes.
        patch = Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top,
            fill=False, edgecolor=color, linewidth=width, linestyle=line,
        )  # fmt: skip
        patch.set_path_effects([withStroke(linewidth=width + 1.2, foreground="#000000"), Normal()])
        axes.add_patch(patch)


def _alt(
    shown: Sequence[Record], images: Mapping[str, np.ndarray], labelled: Mapping[str, Sequence]
) -> str:
    cars = sum(len(labelled[name]) for name in images)
    found = "; ".join(
        f"generation {record['generation']}: "
        f"{sum(len(record.get('detections', {}).get(name, [])) for name in images)} detections"
        for record in shown
    )
    return f"{len(images)} test images with {cars} labelled cars. {found}."
