"""From what a grid network predicts to detections: thresholding, and grouping by OpenCV.

Source: DetectNet in NVIDIA's fork of Caffe, python/caffe/layers/detectnet/clustering.py, with
param_str '1248,352,16,0.6,3,0.02,22,1'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from evojax.detection.boxes import Detections, no_detections

# Coordinates beyond are clipped: the sums over a cluster stay within OpenCV's 32 bits.
FARTHEST = 2.0**15


@dataclass(frozen=True)
class Decoding:
    """How predictions become detections; the defaults are DetectNet's, for images 1248 x 384.

    Attributes:
        stride: the side of a cell, pixels.
        threshold: the coverage from which on a cell proposes its box.
        votes: a cluster of boxes becomes a detection where it has more of them than this.
        similarity: how far apart boxes of one cluster lie, see `decode`.
        shortest: detections of less height, pixels, are dropped.
        most: the number of detections that are kept in an image.
        visible: the height of the upper part of the image that is looked at, pixels. KITTI's
            images are up to 376 high, padded to 384; the original looks at 352.
    """

    stride: int = 16
    threshold: float = 0.6
    votes: int = 3
    similarity: float = 0.02
    shortest: float = 22.0
    most: int = 50
    visible: int = 352

    def __post_init__(self) -> None:
        # Asked so that what is no number fails, too.
        numbers = math.isfinite(self.threshold) and math.isfinite(self.shortest)
        counts = min(self.stride, self.votes, self.most, self.visible) >= 1
        if not (counts and numbers and 0 <= self.similarity < math.inf):
            raise ValueError(
                f"{self}: expected stride, votes, most and visible of at least 1, a similarity of "
                "at least 0, and a threshold and a shortest height that are numbers."
            )

    def scaled(self, scale: float) -> Decoding:
        """The same for images whose sides are `scale` times as long, 1/2 for 624 x 192.

        So that the same objects are found, or not: the shortest height scales with the image, the
        votes of a cluster with its area (in cells, and no less than 1), and of the rows of cells
        the same share is visible. The stride is the network's, and similarity is relative. With
        perfect predictions of 426 of KITTI's images, `original` gives a recall of 0.71 at full size
        and, at half, of 0.73 with 1 vote, but of 0.64 with 3.
        """
        rows = int(self.visible * scale / self.stride + 1e-6)
        return replace(
            self,
            votes=max(round(self.votes * scale**2), 1),
            shortest=self.shortest * scale,
            visible=rows * self.stride,
        )


def decode(prediction: np.ndarray, decoding: Decoding = Decoding()) -> Detections:
    """The detections in one image.

    Each visible cell whose coverage reaches the threshold proposes its box, rounded to whole
    pixels; boxes that are similar, directly or through others, form a cluster; a cluster with
    more than `votes` boxes is a detection: its mean box, with the logarithm of its votes as
    confidence. OpenCV's ``groupRectangles`` does this, and drops a cluster that lies within
    another, or similarity * right or bottom beyond it, of more than 3 votes and more than its own.
    A cluster of 2, which counts only where `votes` is 1, any other drops: two that lie so within
    each other are both lost.

    The original gives it left, top, right and bottom where it expects left, top, width and height,
    and so does this function: two boxes are similar where left, top, left + right and
    top + bottom each differ by no more than similarity * (the lesser right + the lesser bottom)
    / 2. So tolerance grows towards the right and bottom of the image, 12 pixels at (1000, 200),
    and is many times what it would be with widths and heights: the settings only work so.

    Boxes that are not finite are passed over, so that a network which diverged detects nothing. A
    box whose left is right of its right stays, and is a false positive, as in the original; one
    upside down is dropped as too short. The original stops with an error where there are more than
    `most` detections; here those with most votes stay.

    Args:
      prediction: ``(h, w, 5)``: coverage, and left, top, right, bottom in pixels from the cell's
        top left corner.
      decoding: the settings.

    Returns:
      Detections in the order of the clusters' first cells, row by row, which the original's
      matching depends on. Boxes are whole numbers.

    Raises:
      ValueError: where the prediction has another shape.
      ImportError: where OpenCV is missing.
    """
    prediction = np.asarray(prediction)
    if prediction.ndim != 3 or prediction.shape[-1] != 5:
        raise ValueError(f"the prediction has shape {prediction.shape}; expected (h, w, 5).")
    coverage = np.asarray(prediction[..., 0], np.float32)
    proposed = _boxes(coverage >= np.float32(decoding.threshold), prediction[..., 1:], decoding)
    proposed = proposed[np.isfinite(proposed).all(-1)]
    proposed = np.rint(np.clip(proposed, -FARTHEST, FARTHEST)).astype(int)
    boxes, votes = _group(proposed, decoding)
    high = boxes[:, 3] - boxes[:, 1] >= decoding.shortest
    boxes, votes = boxes[high], votes[high]
    kept = np.sort(np.argsort(-votes, kind="stable")[: decoding.most])
    return Detections(boxes[kept].astype(np.float32), np.log(votes[kept], dtype=np.float32))


def labelled(
    coverage: np.ndarray,
    offsets: np.ndarray,
    decoding: Decoding = Decoding(),
) -> np.ndarray:
    """The boxes that the original's precision and recall take for the truth of one image.

    Read back from the targets: an object that nearer ones hide wholly, or that covers no visible
    cell, is not to be found.

    Args:
      coverage: ``(h, w)``, of `Targets`.
      offsets: ``(h, w, 4)``, of `Targets`.
      decoding: the settings, of which stride and visible are used.

    Returns:
      ``(n, 4)`` float32, in the order of their first cells, row by row. (The original's order is
      that of a hash table.) Each box is there once, and is then rounded to float16 (to half a pixel
      from 512 on, to a whole one from 1024 on). In this order, as in the original: an object whose
      cells give one of its sides in different last bits of float32 is there more than once, and can
      be found but once. With perfect predictions of 426 of KITTI's images recall is 0.71 so, and
      would be 0.72 with each object once.
    """
    boxes = _boxes(np.asarray(coverage) > 0, np.asarray(offsets), decoding)
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)].astype(np.float16).astype(np.float32)


def _boxes(chosen: np.ndarray, offsets: np.ndarray, decoding: Decoding) -> np.ndarray:
    """``(n, 4)`` float64: the boxes of the chosen cells in view, in pixels of the image."""
    row, column = np.nonzero(chosen[: decoding.visible // decoding.stride])
    corner = decoding.stride * np.stack([column, row, column, row], -1)
    return np.asarray(offsets[row, column], np.float64) + corner


def _group(boxes: np.ndarray, decoding: Decoding) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``(n, 4)`` and votes ``(n,)`` of the clusters."""
    try:
        from cv2 import groupRectangles
    except ImportError as error:
        raise ImportError(
            "grouping boxes needs OpenCV's groupRectangles, which version 5 no longer has: "
            "pip install 'evojax-synthesis[detection]'."
        ) from error
    if not len(boxes):
        return no_detections().boxes, np.zeros(0, int)
    grouped, votes = groupRectangles(boxes.tolist(), decoding.votes, decoding.similarity)
    return np.reshape(grouped, (-1, 4)).astype(int), np.reshape(votes, -1).astype(int)
