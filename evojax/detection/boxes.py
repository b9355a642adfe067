"""Boxes of objects in an image: what is labelled, what is detected, and how far two overlap.

A box is its left, top, right and bottom side in pixels, as in KITTI's labels: continuous places
counted from the image's top left corner, so that a box is ``right - left`` wide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Objects(NamedTuple):
    """All that is labelled in one image; NumPy arrays over the n objects, in their labels' order.

    Attributes:
        kinds: ``(n,)`` str, such as ``Car``, ``Van`` and ``DontCare`` (a region left unlabelled).
        boxes: ``(n, 4)`` float32: left, top, right, bottom, pixels.
        truncated: ``(n,)`` float32: the share of the object that lies outside the image, 0..1;
            -1 for DontCare.
        occluded: ``(n,)`` int32: 0 visible, 1 partly and 2 largely occluded, 3 unknown; -1 for
            DontCare.
        distance: ``(n,)`` float32: from the camera along its axis, metres; -1000 for DontCare.
    """

    kinds: np.ndarray
    boxes: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray
    distance: np.ndarray


class Detections(NamedTuple):
    """All that is detected in one image; NumPy arrays over the n detections.

    Attributes:
        boxes: ``(n, 4)`` float32: left, top, right, bottom, pixels.
        confidences: ``(n,)`` float32, larger where surer, on any scale.
    """

    boxes: np.ndarray
    confidences: np.ndarray


def no_objects() -> Objects:
    """The labels of an image in which nothing is labelled."""
    none = np.zeros(0, np.float32)
    return Objects(
        np.zeros(0, np.str_), np.zeros((0, 4), np.float32), none, np.zeros(0, np.int32), none
    )


def no_detections() -> Detections:
    """The detections in an image in which nothing is detected."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def far_to_near(objects: Objects, kind: str = "Car", smallest: float = 0.0) -> np.ndarray:
    """The boxes of one kind, the farthest first: the order in which nearer ones overwrite others.

    Args:
      objects: all that is labelled in the image.
      kind: the kind to keep.
      smallest: boxes with a side shorter than this many pixels are left out, as are those without
        area. NVIDIA's DIGITS, from which DetectNet was trained, left out those below 25 in testing
        and none in training.

    Returns:
      ``(n, 4)`` float32; objects at the same distance stay in their order, and those whose
      distance is not a number count as the farthest.
    """
    boxes = np.asarray(objects.boxes, np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = (objects.kinds == kind) & (sides > 0).all(-1) & (sides >= smallest).all(-1)
    distance = np.where(np.isnan(objects.distance), np.inf, objects.distance)
    return boxes[kept][np.argsort(-distance[kept], kind="stable")]


def areas(boxes: np.ndarray) -> np.ndarray:
    """Areas ``(...)`` of boxes ``(..., 4)`` in square pixels; 0 where a box is inside out."""
    boxes = np.asarray(boxes, np.float64)
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.maximum(width, 0) * np.maximum(height, 0)


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas ``(n, m)`` that the boxes a ``(n, 4)`` share with the boxes b ``(m, 4)``, float64.

    A box that is inside out has no area, and shares none.
    """
    first, second = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    opposite = np.minimum(first[:, None, 2:], second[None, :, 2:])
    # Inside out along an axis, a box's opposite side lies before its corner: nothing is shared.
    return np.maximum(opposite - corner, 0).prod(-1)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union ``(n, m)`` of boxes a ``(n, 4)`` and b ``(m, 4)``, float64, 0..1.

    0 where both have no area.

    Example:
      >>> import numpy as np
      >>> from evojax.detection import overlaps
      >>> overlaps(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [2, 0, 4, 2]])).round(3)
      array([[0.333, 0.   ]])
    """
    shared = intersections(a, b)
    union = areas(a).reshape(-1, 1) + areas(b).reshape(1, -1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
