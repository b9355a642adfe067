"""Precision and recall against loops in plain Python, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evojax.detection import (
    EASY,
    HARD,
    MODERATE,
    Detections,
    far_to_near,
    no_detections,
    no_objects,
    original,
    whole,
)
from tests.detection.scenes import area, detections, iou, objects, scenes, shared

sets = st.lists(scenes(), min_size=1, max_size=7)


def ratio(a, b):
    return a / b if b else 0.0


def looped_original(found, truth, batch):
    scores = []
    for start in range(0, len(found), batch):
        right = false = missed = 0
        for image in range(start, min(start + batch, len(found))):
            used = set()
            for box in truth[image]:
                for j, hit in enumerate(found[image].boxes):
                    if j not in used and iou(hit, box) >= 0.7:
                        used.add(j)
                        break
                else:
                    missed += 1
            right += len(used)
            false += len(found[image].boxes) - len(used)
        scores.append((ratio(right, right + false), ratio(right, right + missed)))
    return np.mean(scores, axis=0)


def looped_whole(found, labels, difficulty):
    right = false = missed = 0
    for hits, truth in zip(found, labels, strict=True):
        wanted, excusing, regions = [], [], []
        for kind, box, cut, hidden, _ in zip(*truth, strict=True):
            hard = box[3] - box[1] < difficulty.height or hidden > difficulty.occluded
            hard = hard or cut > np.float32(difficulty.truncated)
            if kind == "Car" and not hard:
                wanted.append(box)
            elif kind in ("Car", "Van"):
                excusing.append(box)
            elif kind == "DontCare":
                regions.append(box)
        for hit, _ in sorted(zip(*hits, strict=True), key=lambda pair: -pair[1]):
            for pool in (wanted, excusing):
                best = max(range(len(pool)), key=lambda i: iou(hit, pool[i]), default=None)
                if best is not None and iou(hit, pool[best]) >= 0.7:
                    pool.pop(best)
                    right += pool is wanted
                    break
            else:
                low = abs(hit[3] - hit[1]) < difficulty.height
                away = all(shared(hit, region) <= 0.7 * area(hit) for region in regions)
                false += not low and away
        missed += len(wanted)
    return ratio(right, right + false), ratio(right, right + missed)


@settings(max_examples=25, deadline=None)
@given(sets, st.integers(1, 3))
def test_the_original_is_that_of_loops(images, batch):
    labels, found = zip(*images, strict=True)
    truth = [far_to_near(label) for label in labels]
    np.testing.assert_allclose(
        original(found, truth, batch=batch), looped_original(found, truth, batch)
    )


@settings(max_examples=80, deadline=None)
@given(sets, st.sampled_from([EASY, MODERATE, HARD]))
def test_the_whole_set_is_that_of_loops(images, difficulty):
    labels, found = zip(*images, strict=True)
    np.testing.assert_allclose(
        whole(found, labels, difficulty), looped_whole(found, labels, difficulty)
    )


A, B, C = [0, 0, 50, 50], [100, 0, 150, 50], [200, 0, 250, 50]


def test_the_original_averages_over_batches():
    found = [detections((A, 1), (C, 1)), no_detections(), detections((A, 1))]
    truth = [np.array([A, B]), np.zeros((0, 4)), np.array([A])]
    # Two images: 1 right, 1 wrong, 1 missed. Then one: 1 right.
    assert original(found, truth, batch=2) == (0.75, 0.75)
    # All together: 2 right, 1 wrong, 1 missed.
    assert original(found, truth) == pytest.approx((2 / 3, 2 / 3))
    # The second alone has nothing: 0.
    assert original(found, truth, batch=1) == (0.5, 0.5)
    # Six images make a batch: six that are right, and one missed.
    sure = [*[detections((A, 1))] * 6, no_detections()]
    assert original(sure, [np.array([A])] * 7) == (0.5, 0.5)


def test_the_original_takes_the_first_that_fits():
    truth = np.array([[0, 0, 100, 100], [20, 0, 120, 100]])
    # The first detection overlaps both by 90 / 110, the second is the first true box itself, which
    # overlaps the other by only 80 / 120.
    found = detections(([10, 0, 110, 100], 1), ([0, 0, 100, 100], 1))
    assert original([found], [truth]) == (0.5, 0.5)
    labels = objects(*(("Car", box, 0, 0) for box in truth))
    assert whole([found], [labels]) == (0.5, 0.5)
    assert whole([found._replace(confidences=np.array([1, 2]))], [labels]) == (1, 1)


def test_the_original_rounds_to_float16():
    found, truth = detections(([1024, 0, 1034, 30], 1)), np.array([[1024, 0, 1038.4, 30]])
    assert original([found], [truth]) == (1, 1)  # 10 / 14, where 10 / 14.4 is below 0.7


def test_the_least_overlap_is_enough():
    found = detections(([0, 0, 35, 50], 1))  # 35 / 50
    assert whole([found], [objects(("Car", A, 0, 0))]) == (1, 1)
    assert original([found], [np.array([A])]) == (1, 1)


def test_what_is_neither_right_nor_wrong():
    low, hidden, truck, region = [0, 100, 50, 120], [100, 100, 150, 150], [200, 100, 250, 150], 300
    labels = objects(
        ("Car", A, 0, 0),
        ("Car", B, 0, 0.3),
        ("Car", low, 0, 0),
        ("Car", hidden, 2, 0),
        ("Van", C, 0, 0),
        ("Truck", truck, 0, 0),
        ("DontCare", [region, 0, region + 100, 100], -1, -1),
    )
    found = detections(
        (A, 9),  # right
        (A, 8),  # wrong: a second time
        (low, 7),
        (hidden, 6),
        (C, 5),
        (C, 4),  # wrong: the van excuses one
        (truck, 3),  # wrong
        ([region + 10, 10, region + 60, 60], 2),
        ([region + 80, 10, region + 120, 60], 2),  # wrong: half of it
        ([400, 100, 450, 124], 1),  # too low to be wrong
    )
    assert whole([found], [labels]) == (1 / 5, 1 / 2)
    assert whole([found], [labels], HARD) == (2 / 6, 2 / 3)
    assert whole([found], [labels], kind="Truck") == (1 / 7, 1)
    # The six that are wrong: A twice, the hidden car, C twice, and half outside the region.
    # Half the size is half the difficulty.
    half = [labels._replace(boxes=labels.boxes / 2)]
    smaller = [found._replace(boxes=found.boxes / 2)]
    assert whole(smaller, half, MODERATE.scaled(0.5)) == (1 / 5, 1 / 2)


@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize(
    "level, height, hidden, cut", [(EASY, 40, 0, 0.15), (MODERATE, 25, 1, 0.3), (HARD, 25, 2, 0.5)]
)
def test_a_car_at_kittis_limits_is_to_be_found_and_one_beyond_is_not(
    level, height, hidden, cut, scale
):
    box, low = [0, 0, 50, height], [0, 0, 50, height - 0.1]
    labels = objects(
        ("Car", low, hidden, cut),
        ("Car", box, hidden + 1, cut),
        ("Car", box, hidden, cut + 0.01),
        ("Car", box, hidden, cut),
    )
    labels = labels._replace(boxes=labels.boxes * scale)
    found = detections((np.multiply(box, scale), 1))
    assert whole([found], [labels], level.scaled(scale)) == (1, 1)


def test_nothing_to_find_or_found_is_zero():
    region = objects(("DontCare", [0, 0, 100, 100], -1, -1))
    for labels, found in [
        (no_objects(), no_detections()),
        (region, no_detections()),
        (region, detections((A, 1))),
        (objects(("Car", A, 0, 0)), no_detections()),
        (no_objects(), detections((A, 1))),
        (objects(("Car", A, 0, 0)), Detections(np.full((1, 4), np.nan), np.ones(1))),
        (objects(("Car", A, 0, 0)), detections(([50, 0, 0, 50], 1))),
    ]:
        assert whole([found], [labels]) == (0, 0)
        assert original([found], [far_to_near(labels)]) == (0, 0)
    assert whole([], []) == (0, 0)


def test_bad_input_says_what_is_wrong():
    for measure in (whole, original):
        with pytest.raises(ValueError, match="detections of 1 images and labels of 0"):
            measure([no_detections()], [])
    with pytest.raises(ValueError, match="0 images in batches of 6"):
        original([], [])
    with pytest.raises(ValueError, match="1 images in batches of 0"):
        original([no_detections()], [np.array([A])], batch=0)
