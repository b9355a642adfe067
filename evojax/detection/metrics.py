"""Precision and recall: as DetectNet's authors reckoned them, and over the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evojax.detection.boxes import Detections, Objects, overlaps
from evojax.detection.difficulty import MODERATE, Case, Difficulty, cases, check_lengths


class Score(NamedTuple):
    """Precision and recall; where nothing is to be divided by, 0, as in the original.

    Attributes:
        precision: the share of the detections that are right, 0..1; 0 where there are none.
        recall: the share of the objects that are found, 0..1; 0 where there are none to find.
    """

    precision: float
    recall: float


class Counts(NamedTuple):
    """What became of detections and objects.

    Attributes:
        found: objects found, and so detections that are right.
        wrong: detections of nothing.
        missed: objects not found.
    """

    found: int
    wrong: int
    missed: int

    @property
    def score(self) -> Score:
        """The precision and recall."""
        found, wrong, missed = self
        return Score(found / max(found + wrong, 1), found / max(found + missed, 1))


def total(counts: Sequence[Counts]) -> Counts:
    """The counts of several images together."""
    return Counts(*(sum(column) for column in zip(Counts(0, 0, 0), *counts, strict=True)))


def original(
    detections: Sequence[Detections],
    truth: Sequence[np.ndarray],
    *,
    batch: int = 6,
    overlap: float = 0.7,
) -> Score:
    """Precision and recall as in the papers: reckoned in each batch of images, and averaged.

    Each true box in turn takes the first detection, in the order of `decode`, that no other took
    and that overlaps it enough, not the one that overlaps it most. A detection of a van or in a
    DontCare region is wrong. Batches weigh the same, whatever is in them: this is not the
    precision and recall of the set (see `whole`), and one without detections or objects counts
    as 0 in precision or recall. So even perfect predictions score less than 1: 0.76 and 0.72 on 426
    of KITTI's images in order, where 17 of 71 batches show no car. The last batch may be smaller;
    the original, whose 185 batches of 6 cover 1,108 images, filled it with the first images.

    Source: DetectNet in NVIDIA's fork of Caffe, python/caffe/layers/detectnet/mean_ap.py. Boxes
    are rounded to float16, as there.

    Args:
      detections: of each image, by `decode`.
      truth: the boxes ``(n, 4)`` of each image, by `labelled`.
      batch: how many images there are in a batch.
      overlap: the least intersection over union.

    Raises:
      ValueError: where the lists differ in length or are empty, or batch is below 1.
    """
    check_lengths(list(detections), list(truth))
    if batch < 1 or not len(truth):
        raise ValueError(
            f"{len(truth)} images in batches of {batch}: expected at least one of each."
        )
    counts = [
        _first_fit(found.boxes, boxes, overlap)
        for found, boxes in zip(detections, truth, strict=True)
    ]
    scores = [total(counts[start : start + batch]).score for start in range(0, len(counts), batch)]
    return Score(*(float(mean) for mean in np.mean(scores, axis=0)))


def whole(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    difficulty: Difficulty = MODERATE,
    *,
    kind: str = "Car",
    overlap: float = 0.7,
) -> Score:
    """Precision and recall over all images together, from all that is labelled.

    In the order of confidence, each detection takes the object to be found that it overlaps most,
    of those that none took. To be found are objects of the kind within the difficulty: by default
    KITTI's moderate, at least 25 pixels high, at most partly occluded and at most 30 % outside the
    image. Neither right nor wrong is a detection left over that

    * overlaps an object of the kind beyond the difficulty or of a neighbouring kind (a Van for a
      Car), each of which excuses one detection,
    * lies by more than `overlap` of its own area in one DontCare region, or
    * is less high than the difficulty asks.

    A second detection of an object is wrong.

    Args:
      detections: of each image.
      objects: all that is labelled in each image.
      difficulty: which objects are to be found, in pixels of the images as the boxes have them.
      kind: the kind that is detected.
      overlap: the least intersection over union.

    Raises:
      ValueError: where the lists differ in length.
    """
    images = cases(list(detections), list(objects), difficulty, kind, overlap)
    return total([_best_fit(case, overlap) for case in images]).score


def _first_fit(found: np.ndarray, boxes: np.ndarray, overlap: float) -> Counts:
    """The original's matching: each true box takes the first free detection that fits."""
    rounded = [np.asarray(a, np.float16).astype(np.float64).reshape(-1, 4) for a in (found, boxes)]
    fits = overlaps(*rounded) >= overlap
    free = np.ones(len(fits), bool)
    for column in fits.T:
        takes = np.flatnonzero(column & free)[:1]
        free[takes] = False
    taken = int((~free).sum())
    return Counts(taken, len(free) - taken, fits.shape[1] - taken)


def _best_fit(case: Case, overlap: float) -> Counts:
    """Each detection, the surest first, takes the best free object, those to be found first."""
    free = np.ones(len(case.wanted), bool)
    found = wrong = 0
    for index in np.argsort(-case.confidences, kind="stable"):
        fits = free & (case.overlaps[index] >= overlap)
        wanted = fits & case.wanted
        if fits.any():
            among = wanted if wanted.any() else fits
            free[np.argmax(np.where(among, case.overlaps[index], -1))] = False
            found += int(wanted.any())
        else:
            wrong += int(not (case.small[index] or case.excused[index]))
    return Counts(found, wrong, int(case.wanted.sum()) - found)
