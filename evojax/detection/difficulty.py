"""Which objects are to be found, and which detections count: KITTI's rules.

Source: the development kit of KITTI's object benchmark (evaluate_object.cpp, cleanData); A. Geiger,
P. Lenz and R. Urtasun, Are we ready for Autonomous Driving? The KITTI Vision Benchmark Suite, 2012.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from evojax.detection.boxes import Detections, Objects, areas, intersections, overlaps

# Kinds so much alike that detecting one for the other is neither right nor wrong.
NEIGHBOURS = {"Car": ("Van",), "Pedestrian": ("Person_sitting",)}
DONT_CARE = "DontCare"


@dataclass(frozen=True)
class Difficulty:
    """Which objects are to be found; finding another of the kind is neither right nor wrong.

    Attributes:
        height: the least height of the box, pixels; of detections, too. A box of just this height
            is to be found; versions of the kit differ in that.
        occluded: the most occlusion, on KITTI's scale of 0 to 3.
        truncated: the largest share that lies outside the image.
    """

    height: float
    occluded: int
    truncated: float

    def scaled(self, scale: float) -> Difficulty:
        """The same objects' difficulty where the images' sides are `scale` times as long."""
        return replace(self, height=self.height * scale)


EASY = Difficulty(40.0, 0, 0.15)
MODERATE = Difficulty(25.0, 1, 0.30)
HARD = Difficulty(25.0, 2, 0.50)


class Case(NamedTuple):
    """One image's detections (n) beside those of its m objects that matter for a kind.

    Attributes:
        confidences: ``(n,)``.
        overlaps: ``(n, m)``: intersection over union.
        wanted: ``(m,)`` bool: is to be found. The others are of a neighbouring kind or too
            difficult: a detection of one is neither right nor wrong.
        small: ``(n,)`` bool: below the least height, so never wrong. (In KITTI's average precision
            right for no object, either.)
        excused: ``(n,)`` bool: lies in a region without labels, where it is not wrong.
    """

    confidences: np.ndarray
    overlaps: np.ndarray
    wanted: np.ndarray
    small: np.ndarray
    excused: np.ndarray


def cases(
    detections: list[Detections],
    objects: list[Objects],
    difficulty: Difficulty,
    kind: str,
    overlap: float,
) -> list[Case]:
    """The cases of a set of images.

    Args:
      detections: one an image.
      objects: one an image.
      difficulty: which objects are to be found.
      kind: of what is detected.
      overlap: a detection is excused where more than this share of its area lies in one DontCare
        region.

    Raises:
      ValueError: where the lists differ in length.
    """
    check_lengths(detections, objects)
    return [
        _case(found, labels, difficulty, kind, overlap)
        for found, labels in zip(detections, objects, strict=True)
    ]


def check_lengths(detections: list[Detections], truth: list) -> None:
    """Raises a ValueError where there is not one entry of the truth for each of the detections."""
    if len(detections) != len(truth):
        raise ValueError(
            f"there are detections of {len(detections)} images and labels of {len(truth)}; "
            "expected one of each an image."
        )


def _case(
    found: Detections, labels: Objects, difficulty: Difficulty, kind: str, overlap: float
) -> Case:
    boxes = np.asarray(labels.boxes, np.float64).reshape(-1, 4)
    own = labels.kinds == kind
    matters = own | np.isin(labels.kinds, NEIGHBOURS.get(kind, ()))
    wanted = (
        own
        & (boxes[:, 3] - boxes[:, 1] >= difficulty.height)
        & (labels.occluded <= difficulty.occluded)
        # Compared in float32, so that a label of 0.3 is within 0.3.
        & (np.asarray(labels.truncated, np.float32) <= difficulty.truncated)
    )
    detected = np.asarray(found.boxes, np.float64).reshape(-1, 4)
    inside = intersections(detected, boxes[labels.kinds == DONT_CARE])
    return Case(
        np.asarray(found.confidences, np.float64),
        overlaps(detected, boxes[matters]),
        wanted[matters],
        np.abs(detected[:, 3] - detected[:, 1]) < difficulty.height,
        np.any(inside > overlap * areas(detected)[:, None], axis=-1),
    )
