"""KITTI's object labels: one text file an image, one object a line."""

from __future__ import annotations

import math

import numpy as np

from evojax.data.dataset import DataError
from evojax.detection.boxes import Objects

KINDS = (
    "Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare",
)  # fmt: skip
_COLUMNS = 15
_TOO_LARGE = 1e6  # for pixels, metres and radians alike
_HOW = (
    "expected kind, truncated, occluded, alpha, left, top, right, bottom, height, width, length, "
    "x, y, z, rotation"
)


class SceneError(DataError):
    """An image or its labels cannot be used, for a reason under which such scenes are counted.

    Attributes:
      reason: a few words, the same for all scenes with this fault, e.g. ``"unknown kind"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def parse_labels(text: str, file: str, shape: tuple[int, int]) -> Objects:
    """Reads the labels of one image.

    A line has 15 columns, as in the readme of KITTI's object development kit: kind, truncated
    (0..1; labels from its tracking sequences have the steps 0, 1 and 2), occluded (0..3), alpha,
    box (left, top, right, bottom in pixels, 0-based), dimensions (3), location (3: the third is the
    distance) and rotation. DontCare lines, whose other columns are -1, -10 and -1000, may be
    absent. A 16th column would be a detection's score: such files are results, not labels, and are
    refused.

    Args:
      text: the file's content; an image in which nothing is labelled has none.
      file: what messages call it.
      shape: the image's height and width in pixels, in which boxes must lie.

    Returns:
      The objects in the order of their lines, which KITTI's average precision depends on.

    Raises:
      SceneError: naming the file and the line that is broken, has a number that is none or is out
        of its range, an unknown kind, or a box that is inside out or not inside the image.

    Example:
      >>> from evojax.data.kitti import parse_labels
      >>> line = "Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.5 2.4 58.5 1.57"
      >>> parse_labels(line, "000001.txt", (375, 1242)).boxes.tolist()
      [[387.6300048828125, 181.5399932861328, 423.80999755859375, 203.1199951171875]]
    """
    kinds, rows = [], []
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split()
        if columns:
            kind, row = _parse(columns, f"{file}, line {number}", shape)
            kinds.append(kind)
            rows.append(row)
    table = np.array(rows, np.float64).reshape(-1, _COLUMNS - 1)
    return Objects(
        np.array(kinds, np.str_),
        table[:, 3:7].astype(np.float32),
        table[:, 0].astype(np.float32),
        table[:, 1].astype(np.int32),
        table[:, 12].astype(np.float32),
    )


def check_box(box: list[float], where: str, shape: tuple[int, int]) -> None:
    """Refuses a box (left, top, right, bottom) that is inside out or leaves the image.

    Raises:
      SceneError: beginning with `where`.
    """
    left, top, right, bottom = box
    height, width = shape
    what = f"{where}: the box {left:g}, {top:g}, {right:g}, {bottom:g} (left, top, right, bottom)"
    if left >= right or top >= bottom:
        raise SceneError(
            "box inside out",
            f"{what} is inside out or empty; expected left < right and top < bottom.",
        )
    if left < 0 or top < 0 or right > width or bottom > height:
        raise SceneError(
            "box outside the image",
            f"{what} is not inside its image, which is {width} x {height} pixels.",
        )


def _parse(columns: list[str], where: str, shape: tuple[int, int]) -> tuple[str, list[float]]:
    if len(columns) != _COLUMNS:
        hint = " A 16th is a score: are these results, not labels?" if len(columns) == 16 else ""
        raise SceneError(
            "broken line",
            f"{where} has {len(columns)} columns, not {_COLUMNS}; {_HOW}.{hint}",
        )
    kind = columns[0]
    if kind not in KINDS:
        raise SceneError(
            "unknown kind", f"{where}: the kind is {kind!r}; expected one of {', '.join(KINDS)}."
        )
    numbers = [_number(column, where) for column in columns[1:]]
    truncated, occluded = numbers[:2]
    if not (0 <= truncated <= 1 or truncated in (-1, 2)):
        raise _wrong(where, f"truncated is {truncated:g}; expected 0..1, or -1 for DontCare")
    if occluded not in (-1, 0, 1, 2, 3):
        raise _wrong(where, f"occluded is {occluded:g}; expected 0, 1, 2 or 3, or -1 for DontCare")
    check_box(np.array(numbers[3:7], np.float32).tolist(), where, shape)  # As it is kept.
    return kind, numbers


def _number(text: str, where: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not abs(number) < _TOO_LARGE:
        raise _wrong(where, f"{text!r:.60} is not a number, or too large a one")
    return number


def _wrong(where: str, what: str) -> SceneError:
    return SceneError("wrong number", f"{where}: {what}; {_HOW}.")
