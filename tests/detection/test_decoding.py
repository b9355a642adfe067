"""Decoding against the published algorithm of OpenCV's grouping, and by hand."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evojax.detection import Decoding, decode, labelled, original, targets

ROWS, COLUMNS = 6, 12
SMALL = Decoding(visible=80)  # 5 of the 6 rows


def grouped(boxes, least, eps):
    """cv::groupRectangles in plain Python, for boxes (a, b, c, d) as it takes them."""

    def similar(p, q):
        near = eps * (min(p[2], q[2]) + min(p[3], q[3])) / 2
        return all(
            abs(p[i] - q[i]) <= near and abs(p[i] + p[i + 2] - q[i] - q[i + 2]) <= near
            for i in (0, 1)
        )

    def mean(side):  # in float32, rounded to even
        return round(float(np.float32(sum(side)) * (np.float32(1) / np.float32(len(side)))))

    clusters = []
    for box in boxes:
        joined = [cluster for cluster in clusters if any(similar(box, other) for other in cluster)]
        # Those that the box connects become one, in the place of the first.
        if joined:
            joined[0].extend([*(box for other in joined[1:] for box in other), box])
            clusters = [c for c in clusters if not any(c is other for other in joined[1:])]
        else:
            clusters.append([box])
    means = [[mean(side) for side in zip(*c, strict=True)] for c in clusters]
    strong = [i for i, c in enumerate(clusters) if len(c) > least]

    def inside(i, j):
        a, b, c, d = means[i]
        e, f, g, h = means[j]
        dx, dy = round(g * eps), round(h * eps)
        within = a >= e - dx and b >= f - dy and a + c <= e + g + dx and b + d <= f + h + dy
        n, m = len(clusters[i]), len(clusters[j])
        return within and (m > max(3, n) or n < 3)

    kept = [i for i in strong if not any(inside(i, j) for j in strong if j != i)]
    return [(means[i], len(clusters[i])) for i in kept]


def predicted(boxes, coverage=1.0):
    """A prediction whose cells, row by row, propose these boxes."""
    out = np.zeros((ROWS, COLUMNS, 5), np.float32)
    for index, box in enumerate(boxes):
        row, column = divmod(index, COLUMNS)
        out[row, column, 0] = coverage
        out[row, column, 1:] = np.array(box) - 16 * np.array([column, row, column, row])
    return out


def rows(found):
    return [(box.tolist(), math.exp(c)) for box, c in zip(*found, strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, ROWS * COLUMNS), st.sampled_from([1, 2, 3]))
def test_decoding_groups_as_published(seed, count, votes):
    random = np.random.default_rng(seed)
    objects = random.integers(0, 1000, (5, 4)) // [1, 4, 1, 4]
    objects[:, 2:] += objects[:, :2] // 2
    objects[1] = objects[0] + random.integers(-12, 13, 4)  # One near or inside another.
    boxes = objects[random.integers(5, size=count)] + random.normal(0, 3, (count, 4))
    prediction = predicted(boxes)
    places = [
        tuple(round(float(value) + 16 * k) for value, k in zip(cell[1:], (x, y, x, y), strict=True))
        for y, line in enumerate(prediction[:5])
        for x, cell in enumerate(line)
        if cell[0]
    ]
    expected = [(b, n) for b, n in grouped(places, votes, 0.02) if b[3] - b[1] >= 22]
    found = rows(decode(prediction, Decoding(visible=80, votes=votes)))
    assert [box for box, _ in found] == [box for box, _ in expected]
    np.testing.assert_allclose([n for _, n in found], [n for _, n in expected], rtol=1e-5)


def test_four_boxes_make_a_detection_and_three_none():
    box = [100, 50, 160, 90]
    found = decode(predicted([box] * 4), SMALL)
    np.testing.assert_array_equal(found.boxes, [box])
    np.testing.assert_allclose(found.confidences, [math.log(4)], rtol=1e-6)
    assert found.boxes.dtype == found.confidences.dtype == np.float32
    assert not len(decode(predicted([box] * 3), SMALL).boxes)
    assert len(decode(predicted([box] * 4, coverage=0.6), SMALL).boxes) == 1
    assert not len(decode(predicted([box] * 4, coverage=0.59), SMALL).boxes)


def test_tolerance_grows_to_the_right_and_down_as_in_the_original():
    # (500 + 100) * 0.02 / 2 = 6 pixels: a shift by 3 moves left + right by 6, one by 4 by 8.
    def pair(shift):
        box = np.array([400, 50, 500, 100])
        return decode(predicted([box] * 4 + [box + [shift, 0, shift, 0]] * 4), SMALL)

    assert np.exp(pair(3).confidences).round().tolist() == [8]
    assert np.exp(pair(4).confidences).round().tolist() == [4, 4]


@pytest.mark.parametrize(
    ("votes", "first", "second", "left"),
    [(3, 4, 5, [5]), (3, 4, 4, [4, 4]), (1, 2, 3, [3]), (1, 2, 2, []), (1, 3, 3, [3, 3])],
)
def test_which_clusters_drop_a_neighbour(votes, first, second, left):
    box = np.array([400, 50, 500, 100])
    prediction = predicted([box] * first + [box + [4, 0, 4, 0]] * second)
    found = decode(prediction, Decoding(visible=80, votes=votes))
    assert np.exp(found.confidences).round().tolist() == left


def test_low_boxes_and_the_lowest_rows_are_passed_over():
    assert not len(decode(predicted([[100, 50, 160, 71]] * 4), SMALL).boxes)
    assert len(decode(predicted([[100, 50, 160, 72]] * 4), SMALL).boxes) == 1
    upside = predicted([[100, 72, 160, 50]] * 4)
    assert not len(decode(upside, SMALL).boxes)
    lowest = np.roll(predicted([[100, 50, 160, 90]] * 4), 5, axis=0)
    assert not len(decode(lowest, SMALL).boxes)
    assert len(decode(lowest, Decoding()).boxes) == 1
    mirrored = decode(predicted([[160, 50, 100, 90]] * 4), SMALL)
    np.testing.assert_array_equal(mirrored.boxes, [[160, 50, 100, 90]])


def test_a_network_that_diverged_detects_nothing():
    for value in (np.nan, np.inf):
        assert not len(decode(np.full((6, 12, 5), value)).boxes)
    prediction = predicted([[100, 50, 160, 90]] * 8)
    prediction[0, :3, 1] = np.nan, np.inf, -np.inf
    prediction[0, 3, 0] = np.nan
    assert np.exp(decode(prediction).confidences).round().tolist() == [4]
    far = decode(np.full((24, 78, 5), [1, -1e30, -1e30, 1e30, 1e30]))
    np.testing.assert_array_equal(far.boxes, [[-32768, -32768, 32768, 32768]])


def test_the_surest_are_kept_in_their_order():
    boxes = [[200 * n, 10, 200 * n + 100, 60] for n in range(1, 4)]
    prediction = predicted([boxes[0]] * 5 + [boxes[1]] * 4 + [boxes[2]] * 6)
    np.testing.assert_array_equal(decode(prediction, Decoding(most=2)).boxes, [boxes[0], boxes[2]])


def test_smaller_images_find_the_same_objects():
    half = Decoding().scaled(0.5)
    assert half == Decoding(votes=1, shortest=11, visible=176)
    assert Decoding() == Decoding(16, 0.6, 3, 0.02, 22, 50, 352)
    # Votes as the area; of 22 rows the whole ones of 14.67.
    two_thirds = Decoding(votes=30).scaled(2 / 3)
    assert two_thirds == Decoding(votes=13, shortest=two_thirds.shortest, visible=224)
    assert two_thirds.shortest == pytest.approx(44 / 3)
    assert Decoding().scaled(1 / 6).votes == 1
    assert Decoding().scaled(1) == Decoding()
    for wrong in ("votes=0", "stride=0", "most=0", "visible=0", "similarity=-1"):
        name, value = wrong.split("=")
        with pytest.raises(ValueError, match=f"{wrong}.*at least 1"):
            Decoding(**{name: int(value)})
    for name in ("threshold", "similarity", "shortest"):
        with pytest.raises(ValueError, match=f"{name}=nan.*that are numbers"):
            Decoding(**{name: float("nan")})
    with pytest.raises(ValueError, match=r"\(6, 12, 4\); expected \(h, w, 5\)"):
        decode(np.zeros((6, 12, 4)))


def test_the_truth_is_what_cells_show():
    one, two, low = [600.3, 30, 700.3, 90], [10, 20, 30, 40], [10, 60, 60, 95]
    grid = predicted([one, two, one, two])
    grid[5, 3, 0], grid[5, 3, 1:] = 1, np.array(low) - [48, 80, 48, 80]
    got = labelled(grid[..., 0], grid[..., 1:], SMALL)
    # 600.3 and 700.3 in float16, whose steps are halves there.
    np.testing.assert_array_equal(got, [[600.5, 30, 700.5, 90], two])
    assert labelled(np.zeros((6, 12)), grid[..., 1:]).shape == (0, 4)


def test_a_car_whose_cells_round_its_side_otherwise_is_there_twice():
    # As in the original, which drops what is there twice before it rounds to float16: offsets of
    # float32 give a side of 1.13 in other last bits from each of three columns of cells.
    box = np.array([[1.13, 20, 90, 70]], np.float32)
    taught = jax.jit(targets, static_argnums=(2, 3))(box, 1, 96, 192)
    truth = labelled(taught.coverage, taught.offsets)
    assert len(truth) == 3
    assert len(np.unique(truth, axis=0)) == 1
    perfect = np.concatenate([taught.coverage[..., None], taught.offsets], -1)
    assert original([decode(perfect)], [truth]) == pytest.approx((1, 1 / 3))


@pytest.mark.parametrize("scale", [1, 0.5])
def test_what_is_taught_is_found(scale):
    boxes = np.array([[700.2, 180, 740, 205.5], [300, 170.4, 420, 260], [360, 180, 600.3, 340]])
    height, width = int(384 * scale), int(1248 * scale)
    compiled = jax.jit(targets, static_argnums=(2, 3))
    taught = compiled((boxes * scale).astype(np.float32), 3, height, width)
    perfect = np.concatenate([taught.coverage[..., None], taught.offsets], -1)
    decoding = Decoding().scaled(scale)
    truth = labelled(taught.coverage, taught.offsets, decoding)
    assert len(truth) == 3
    assert original([decode(perfect, decoding)], [truth]) == (1, 1)
