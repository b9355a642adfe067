"""Targets against loops over boxes and cells in NumPy, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evojax.detection import Coverage, Targets, losses, targets
from tests.detection.scenes import shared

pytestmark = pytest.mark.usefixtures("quick_compilation")
HEIGHT, WIDTH, MOST, IMAGES = 80, 160, 5, 3
ORIGINAL = Coverage(least=0)
compiled = jax.jit(jax.vmap(lambda boxes, count: targets(boxes, count, HEIGHT, WIDTH, ORIGINAL)))


def taught(*images):
    """The targets of up to three images, each a list of boxes."""
    boxes = np.full((IMAGES, MOST, 4), 7, np.float32)
    counts = np.array([len(image) for image in images] + [0] * (IMAGES - len(images)))
    for index, image in enumerate(images):
        boxes[index, : len(image)] = np.reshape(image, (-1, 4))
    every = jax.device_get(compiled(boxes, counts))
    return [Targets(*(part[index] for part in every)) for index in range(len(images))]


def looped(boxes):
    """Box after box painted over the cells, by the original's rules."""
    shape = HEIGHT // 16, WIDTH // 16
    out = Targets(*(np.zeros((*shape, *more)) for more in [(), (4,), (2,), ()]))
    for left, top, right, bottom in boxes.astype(float):
        width, height = right - left, bottom - top
        if width <= 0 or height <= 0:
            continue
        w, h = min(width, max(20, 0.4 * width)), min(height, max(20, 0.4 * height))
        x, y = (left + right) / 2, (top + bottom) / 2
        middle = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        for row in range(shape[0]):
            for column in range(shape[1]):
                cell = 16 * column, 16 * row, 16 * column + 16, 16 * row + 16
                if shared(middle, cell) / 256 > 1.2e-7:
                    out.coverage[row, column] = 1
                    out.offsets[row, column] = np.array([left, top, right, bottom]) - 2 * cell[:2]
                    out.size[row, column] = 1 / width, 1 / height
                    out.weight[row, column] = 256 / (w * h)
    return out


# Halves of whole numbers, beyond the borders and inside out now and then: no rounding.
sides = st.integers(-40, 240).map(lambda n: n / 2)
boxes_of_one = st.lists(st.tuples(sides, sides, sides, sides), min_size=MOST, max_size=MOST)


@settings(max_examples=40, deadline=None)
@given(boxes_of_one, st.integers(0, MOST), st.booleans())
def test_targets_are_those_of_loops(boxes, count, ordered):
    boxes = np.array(boxes, np.float32)
    if ordered:
        boxes[:, 2:], boxes[:, :2] = boxes[:, 2:] + 40, np.minimum(boxes[:, :2], boxes[:, 2:])
    equal = np.repeat(boxes[:1], MOST, 0)
    tiny = np.concatenate([boxes[:, :2], boxes[:, :2] + 0.5], -1)
    images = [image[:count] for image in (boxes, equal, tiny)]
    for got, image in zip(taught(*images), images, strict=True):
        for ours, theirs in zip(got, looped(image), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_car_by_hand_and_the_nearer_in_front_of_it():
    # 100 x 50 at (32, 16): 40 x 20 of it cover, from (62, 31) to (102, 51): columns 3 to 6 and
    # rows 1 to 3.
    far, near = [32, 16, 132, 66], [80, 32, 90, 40]
    image, hidden = taught([far, near], [near, far])
    expected = np.zeros((5, 10))
    expected[1:4, 3:7] = 1
    np.testing.assert_array_equal(image.coverage, expected)
    np.testing.assert_array_equal(image.offsets[1, 3], [-16, 0, 84, 50])
    np.testing.assert_allclose(image.size[1, 3], [1 / 100, 1 / 50])
    np.testing.assert_allclose(image.weight[1, 3], 256 / 800)
    # The near one, 10 x 8, is below the least length: all of it covers.
    np.testing.assert_array_equal(image.offsets[2, 5], [0, 0, 10, 8])
    np.testing.assert_allclose(image.weight[2, 5], 256 / 80)
    np.testing.assert_array_equal(hidden.offsets[2, 5], [-48, -16, 52, 34])


def test_what_is_left_of_a_car_at_the_edge_is_not_taught():
    box = np.array([[0, 16, 4, 56]], np.float32)
    just = targets(box, 1, HEIGHT, WIDTH)
    assert just.coverage.sum() == 2
    # Of four pixels' width no loss is out of proportion: 3.2 / 4 a pixel's error.
    np.testing.assert_allclose((just.weight[2, 0], just.size[2, 0, 0]), (256 / 80, 1 / 4))
    for side in (2, 3):
        sliver = box.copy()
        sliver[0, side] = box[0, side - 2] + 3.9
        assert not targets(sliver, 1, HEIGHT, WIDTH).coverage.any()
        assert targets(sliver, 1, HEIGHT, WIDTH, ORIGINAL).coverage.any()


def test_no_boxes_and_boxes_that_are_none_teach_that_nothing_is_there():
    odd = [[np.nan, 0, 50, 50], [0, 0, np.inf, 50], [50, 0, 10, 50], [9, 9, 9, 50]]
    room = jax.jit(lambda boxes: targets(boxes, 0, HEIGHT, WIDTH))(np.zeros((0, 4)))
    for image in (*taught(odd, []), room):
        assert all(not np.any(part) for part in image)


def test_neither_types_nor_ranks_are_mixed_silently():
    def lost(boxes, counts, predictions):
        taught = jax.vmap(lambda b, n: targets(b, n, HEIGHT, WIDTH))(boxes, counts)
        return taught, losses(predictions, taught)

    cells = IMAGES, HEIGHT // 16, WIDTH // 16
    inputs = jnp.zeros((IMAGES, MOST, 4)), jnp.zeros(IMAGES, jnp.int32), jnp.zeros((*cells, 5))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        made = jax.eval_shape(lost, *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}


def test_bad_input_says_what_is_wrong():
    for height, width in ((375, 1248), (384, 1242), (0, 1248), (384, 0)):
        says = f"{height} x {width} .*multiples of the stride, 16: pad"
        with pytest.raises(ValueError, match=says):
            targets(jnp.zeros((1, 4)), 1, height, width)
    for shape in ((4,), (1, 5)):
        with pytest.raises(ValueError, match=r"shape \(.*\); expected \(M, 4\)"):
            targets(jnp.zeros(shape), 1, 16, 16)
    for wrong in ({"stride": 0}, {"shrink": 0}, {"shrink": 1.1}, {"smallest": -1}, {"least": -1}):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            Coverage(**wrong)
    assert Coverage(shrink=1, smallest=0, least=0).shrink == 1
