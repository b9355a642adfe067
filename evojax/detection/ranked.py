"""KITTI's average precision, by the rules of its official evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evojax.detection.boxes import Detections, Objects
from evojax.detection.difficulty import MODERATE, Case, Difficulty, cases
from evojax.detection.metrics import Counts, total

POINTS = 40


class AveragePrecision(NamedTuple):
    """The mean of precision over recall, 0..1.

    Attributes:
        forty: over the recalls 1/40, 2/40 .. 1, KITTI's since 2019.
        eleven: over 0, 1/10 .. 1, KITTI's before.
    """

    forty: float
    eleven: float


def average_precision(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    difficulty: Difficulty = MODERATE,
    *,
    kind: str = "Car",
    overlap: float = 0.7,
) -> AveragePrecision:
    """KITTI's average precision of 2-D boxes.

    In the labels' order, each object takes the surest detection that overlaps it; the confidences
    of those that are right give up to 41 thresholds, about 1/40 of the objects apart. At each,
    detections below it are left out, and each object takes the detection that overlaps it most.
    The precision at a recall is the highest from there on; where none reaches it, 0. Objects
    beyond the difficulty and of a neighbouring kind take detections too, which then count as
    neither right nor wrong, as do detections below the difficulty's height and those in DontCare
    regions (see `whole`). Unlike `whole`, an object not to be found can take a detection from one
    that is.

    So the official code has it, with what follows: fewer than 41 right detections make fewer
    thresholds, and the average is low whatever is detected (a single car, found, gives 0 and
    1/11). Use it for sets of hundreds of objects. Nothing to be found gives 0.

    Source: KITTI's development kit, evaluate_object.cpp; with 40 points, A. Simonelli et al.,
    Disentangling Monocular 3D Object Detection, 2019.

    Args:
      detections: of each image, confidences on one scale.
      objects: all that is labelled in each image.
      difficulty: `EASY`, `MODERATE` or `HARD`, `scaled` where the images are.
      kind: the kind that is detected.
      overlap: what intersection over union must exceed.

    Raises:
      ValueError: where the lists differ in length.
    """
    images = cases(list(detections), list(objects), difficulty, kind, overlap)
    right = [confidence for case in images for confidence in _right(case, overlap)]
    thresholds = _thresholds(right, sum(int(case.wanted.sum()) for case in images))
    precisions = {
        threshold: total([_counts(case, threshold, overlap) for case in images]).score.precision
        for threshold in set(thresholds)
    }
    curve = np.zeros(POINTS + 1)
    curve[: len(thresholds)] = [precisions[threshold] for threshold in thresholds]
    curve = np.maximum.accumulate(curve[::-1])[::-1]
    return AveragePrecision(float(curve[1:].mean()), float(curve[::4].mean()))


def _right(case: Case, overlap: float) -> list[float]:
    """The confidences of the detections that are right, where objects take the surest."""
    free = np.ones(len(case.small), bool)
    right = []
    for wanted, column in zip(case.wanted, case.overlaps.T, strict=True):
        fits = free & (column > overlap)
        if fits.any():
            best = np.argmax(np.where(fits, case.confidences, -np.inf))
            free[best] = False
            if wanted and not case.small[best]:
                right.append(float(case.confidences[best]))
    return right


def _thresholds(confidences: list[float], count: int) -> list[float]:
    """Those of the confidences at which the recall of `count` objects comes nearest to k/40.

    Where two come as near, the rounding of k/40 decides: it is added up, as in the official code.
    """
    thresholds: list[float] = []
    recall = 0.0
    ordered = sorted(confidences, reverse=True)
    for index, confidence in enumerate(ordered, start=1):
        last = index == len(ordered)
        if last or (index + 1) / count - recall >= recall - index / count:
            thresholds.append(confidence)
            recall += 1 / POINTS
    return thresholds


def _counts(case: Case, threshold: float, overlap: float) -> Counts:
    """What becomes of the detections from a threshold on, where objects take the best fit."""
    free = case.confidences >= threshold
    found = missed = 0
    for wanted, column in zip(case.wanted, case.overlaps.T, strict=True):
        fits = free & (column > overlap)
        if fits.any():
            high = fits & ~case.small
            # Of those below the least height, the first: the official code looks no further.
            best = np.argmax(np.where(high, column, -1) if high.any() else fits)
            free[best] = False
            found += int(wanted and not case.small[best])
        else:
            missed += int(wanted)
    return Counts(found, int((free & ~case.small & ~case.excused).sum()), missed)
