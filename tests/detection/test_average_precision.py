"""KITTI's average precision against its rules in plain Python, and by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evojax.detection import (
    EASY,
    HARD,
    MODERATE,
    average_precision,
    no_detections,
    no_objects,
)
from tests.detection.scenes import area, detections, iou, objects, scenes, shared

BOX = [0, 0, 50, 50]


def looped(found, labels, difficulty):
    """The official evaluation, image by image, object by object, detection by detection."""
    limit = difficulty.height, difficulty.occluded, np.float32(difficulty.truncated)

    def role(kind, box, cut, hidden):
        if kind == "Van":
            return "other"
        within = box[3] - box[1] >= limit[0] and hidden <= limit[1] and cut <= limit[2]
        return {"Car": "wanted" if within else "other"}.get(kind)

    def match(hits, truth, threshold):
        used, right, missed = set(), [], 0
        low = [abs(box[3] - box[1]) < limit[0] for box in hits.boxes]
        for kind, box, cut, hidden, _ in zip(*truth, strict=True):
            part = role(kind, box, cut, hidden)
            fits = [
                j
                for j, hit in enumerate(hits.boxes)
                if part and j not in used and iou(hit, box) > 0.7
                if threshold is None or hits.confidences[j] >= threshold
            ]
            if threshold is None:
                fits.sort(key=lambda j: -hits.confidences[j])
            else:  # High ones by their overlap, then low ones as they come.
                fits.sort(key=lambda j: (low[j], 0 if low[j] else -iou(hits.boxes[j], box)))
            if fits:
                used.add(fits[0])
                if part == "wanted" and not low[fits[0]]:
                    right.append(hits.confidences[fits[0]])
            elif part == "wanted":
                missed += 1
        regions = [b for k, b in zip(truth.kinds, truth.boxes, strict=True) if k == "DontCare"]
        false = sum(
            j not in used and not low[j] and hits.confidences[j] >= (threshold or 0)
            and not any(shared(box, region) > 0.7 * area(box) for region in regions)
            for j, box in enumerate(hits.boxes)
        )  # fmt: skip
        return right, false, missed

    images = list(zip(found, labels, strict=True))
    count = sum(
        role(*row[:4]) == "wanted" for _, truth in images for row in zip(*truth, strict=True)
    )
    scores = sorted((c for image in images for c in match(*image, None)[0]), reverse=True)
    curve, step, recall = np.zeros(41), 0, 0.0
    for i, score in enumerate(scores):
        here, after = (i + 1) / count, (i + 2) / count
        if i + 1 < len(scores) and after - recall < recall - here:
            continue
        results = [match(*image, score) for image in images]
        right, false = sum(len(r) for r, _, _ in results), sum(f for _, f, _ in results)
        curve[step] = right / (right + false) if right else 0
        step, recall = step + 1, recall + 1 / 40
    best = [max(curve[i:]) for i in range(41)]
    return sum(best[1:]) / 40, sum(best[::4]) / 11


@settings(max_examples=60, deadline=None)
@given(st.lists(scenes(), min_size=1, max_size=6), st.sampled_from([EASY, MODERATE, HARD]))
def test_average_precision_is_that_of_loops(images, difficulty):
    labels, found = zip(*images * 5, strict=True)
    got = average_precision(found, labels, difficulty)
    np.testing.assert_allclose(got, looped(found, labels, difficulty), atol=1e-12)


def cars(count, found, *, false=()):
    """As many images of one car each, the first ones found, and what is found besides."""
    labels = [objects(("Car", BOX, 0, 0))] * count
    hits = [detections((BOX, 100 - n)) if n < found else no_detections() for n in range(count)]
    return [*hits, detections(*false)], [*labels, no_objects()]


def test_average_precision_by_hand():
    assert average_precision(*cars(80, 80)) == (1, 1)
    # Half of them: recalls up to 20 / 40, of the eleven 0 to 5 / 10.
    assert average_precision(*cars(80, 40)) == pytest.approx((20 / 40, 6 / 11))
    # One false before all others: at best, 40 of 41 are right.
    false = [([0, 0, 90, 90], 200)]
    ours = average_precision(*cars(80, 40, false=false))
    assert ours == pytest.approx((20 / 40 * 40 / 41, 6 / 11 * 40 / 41))
    # Behind them, it takes nothing.
    assert average_precision(*cars(80, 40, false=[([0, 0, 90, 90], 1)])) == pytest.approx(
        (20 / 40, 6 / 11)
    )
    # Few objects make few thresholds: so the official code has it.
    assert average_precision(*cars(1, 1)) == pytest.approx((0, 1 / 11))
    assert average_precision(*cars(40, 40)) == pytest.approx((39 / 40, 10 / 11))


def test_of_two_recalls_as_near_the_rounding_of_added_fortieths_chooses():
    # 16 and 17 of 44 cars are as near to 15/40, which adds up to more: 16 make no threshold.
    *_, added = itertools.accumulate([1 / 40] * 15)  # Not sum, which Python 3.12 made exact.
    assert added > 15 / 40
    assert average_precision(*cars(44, 17)).forty == 15 / 40


def test_an_object_takes_what_overlaps_it_most():
    # The surest fits both cars, the second only the first, exactly: none is wrong.
    first, second, between = [0, 0, 100, 100], [20, 0, 120, 100], [10, 0, 110, 100]
    found, labels = cars(80, 80)
    found[-1] = detections((between, 200), (first, 150))
    labels[-1] = objects(("Car", first, 0, 0), ("Car", second, 0, 0))
    assert average_precision(found, labels) == (1, 1)


def test_a_detection_below_the_least_height_is_no_threshold():
    found, labels = cars(19, 19)
    found[-1] = detections(([0, 0, 50, 24], 200))
    labels[-1] = objects(("Car", [0, 0, 50, 25], 0, 0))
    # 20 cars, of which 19 are found at recalls 1/20 apart: a threshold each.
    assert average_precision(found, labels).forty == 18 / 40
    # Nor does the car take what is wrong beside it.
    found[-1] = detections(([200, 0, 250, 50], 200), ([0, 0, 50, 24], 200))
    assert average_precision(found, labels).forty == pytest.approx(18 / 40 * 19 / 20)


def test_an_overlap_of_just_seven_tenths_is_not_enough():
    found, labels = cars(80, 40)
    found[40:80] = [detections(([0, 0, 35, 50], 200))] * 40
    assert average_precision(found, labels).forty == 20 / 40 * 1 / 2


def test_nothing_to_find_or_found_is_zero():
    region = objects(("DontCare", [0, 0, 100, 100], -1, -1))
    for labels in (no_objects(), region, objects(("Van", BOX, 0, 0))):
        assert average_precision([detections((BOX, 1))], [labels]) == (0, 0)
    assert average_precision([no_detections()], [objects(("Car", BOX, 0, 0))]) == (0, 0)
    assert average_precision([], []) == (0, 0)
    with pytest.raises(ValueError, match="detections of 0 images and labels of 1"):
        average_precision([], [region])


def test_difficulties_want_different_cars():
    boxes = {height: [100 * n, 0, 100 * n + 50, height] for n, height in enumerate((60, 30, 20))}
    labels = objects(
        ("Car", boxes[60], 0, 0.15), ("Car", boxes[30], 1, 0.3), ("Car", boxes[20], 0, 0)
    )
    found = detections((boxes[60], 3))
    eleven = {
        level: average_precision([found] * 80, [labels] * 80, level).eleven
        for level in (EASY, MODERATE, HARD)
    }
    assert eleven == pytest.approx({EASY: 1, MODERATE: 6 / 11, HARD: 6 / 11})
