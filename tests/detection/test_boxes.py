"""Overlaps against plain Python, and the order of boxes."""

import numpy as np
from hypothesis import given, settings

from evojax.detection import areas, far_to_near, intersections, no_detections, no_objects, overlaps
from tests.detection.scenes import area, iou, objects, scenes, shared


@settings(max_examples=30, deadline=None)
@given(scenes())
def test_overlaps_are_those_of_plain_python(scene):
    labels, found = scene
    a, b = found.boxes, labels.boxes
    expected = np.array([[iou(x, y) for y in b] for x in a]).reshape(len(a), len(b))
    np.testing.assert_allclose(overlaps(a, b), expected, atol=1e-12)
    np.testing.assert_allclose(areas(a), [area(x) for x in a])
    expected = np.array([[shared(x, y) for y in b] for x in a]).reshape(len(a), len(b))
    np.testing.assert_array_equal(intersections(a, b), expected)


def test_what_has_no_area_overlaps_nothing():
    odd = np.array([[5, 5, 5, 9], [8, 0, 2, 9], [2, 9, 8, 0], [8, 9, 2, 0]], np.float32)
    assert not areas(odd).any()
    odd[1, 0] = np.nan
    assert not overlaps(odd, np.array([[0, 0, 10, 10], [5, 5, 5, 9]])).any()
    assert overlaps(no_detections().boxes, no_objects().boxes).shape == (0, 0)


def test_boxes_of_a_kind_come_from_far_to_near():
    labels = objects(
        ("Car", [0, 0, 30, 30], 0, 0),
        ("Van", [1, 0, 30, 30], 0, 0),
        ("Car", [2, 0, 30, 30], 0, 0),
        ("Car", [300, 0, 330, 30], 0, 0),
        ("Car", [4, 0, 30, 24], 0, 0),
        ("Car", [5, 0, 30, 25], 0, 0),
        ("Car", [6, 0, 6.25, 30], 0, 0),
        ("Car", [9, 0, 5, 30], 0, 0),
        ("Car", [9, 0, 9, 30], 0, 0),
    )._replace(distance=np.array([10, 50, 10, np.nan, 70, 5, 4, 1, 1], np.float32))
    assert far_to_near(labels)[:, 0].tolist() == [300, 4, 0, 2, 5, 6]
    assert far_to_near(labels, smallest=25)[:, 0].tolist() == [300, 0, 2, 5]
    assert far_to_near(labels, "Van")[:, 0].tolist() == [1]
    assert far_to_near(no_objects()).shape == far_to_near(labels, "Tram").shape == (0, 4)
