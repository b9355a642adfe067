"""Random scenes for hypothesis, and boxes' overlap in plain Python."""

import numpy as np
from hypothesis import strategies as st

from evojax.detection import Detections, Objects

KINDS = ["Car", "Car", "Car", "Van", "Truck", "DontCare"]


def shared(a, b):
    """The area two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def area(a):
    return (a[2] - a[0]) * (a[3] - a[1]) if a[2] > a[0] and a[3] > a[1] else 0.0


def iou(a, b):
    return shared(a, b) / (area(a) + area(b) - shared(a, b)) if shared(a, b) else 0.0


def objects(*rows):
    """Labels from rows of (kind, box, occluded, truncated)."""
    kinds, boxes, occluded, truncated = zip(*rows, strict=True) if rows else ((),) * 4
    return Objects(
        np.array(kinds, np.str_),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(truncated, np.float32),
        np.array(occluded, np.int32),
        np.arange(len(kinds), dtype=np.float32),
    )


def detections(*rows):
    """Detections from rows of (box, confidence)."""
    boxes, confidences = zip(*rows, strict=True) if rows else ((), ())
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(confidences, np.float32))


@st.composite
def scenes(draw):
    """One image's objects, some nearly in the same place and of heights about KITTI's limits, and
    detections, most of them near an object and some inside out.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, found = draw(st.integers(0, 6)), draw(st.integers(0, 12))

    def box():
        left, top = random.integers(0, 60, 2)
        width, height = random.choice([24, 40, 60]), random.choice([24, 25, 26, 39, 41, 60])
        return np.array([left, top, left + width, top + height])

    # Steps of 1 make equal boxes and ties.
    def near(place):
        return place + random.integers(-2, 3, 4)

    boxes = []
    for _ in range(count):
        again = boxes and random.random() < 0.4
        boxes.append(near(boxes[random.integers(len(boxes))]) if again else box())
    rows = [
        (random.choice(KINDS), box, random.integers(0, 4), random.choice([0, 0.1, 0.3, 0.4, 0.6]))
        for box in boxes
    ]
    hits = []
    for _ in range(found):
        hit = near(boxes[random.integers(count)]) if count and random.random() < 0.9 else box()
        hit = hit[[2, 1, 0, 3]] if random.random() < 0.05 else hit
        # Confidences repeat, as logarithms of votes do.
        hits.append((hit, np.log(random.integers(2, 9))))
    return objects(*rows), detections(*hits)
