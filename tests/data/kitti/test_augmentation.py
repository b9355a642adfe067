"""Augmentation: what is coloured stays under its box, and colours change as HSV says."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest

from evojax.data import DataError
from evojax.data.kitti import Augmentation, augment
from evojax.data.kitti.augmentation import (
    ORIGINAL,
    crop,
    desaturate,
    flip,
    random_crop,
    scale,
    turn_hue,
)

GREEN, BLUE = (0, 200, 0), (0, 0, 200)
BOXES = np.float32([[20, 10, 60, 40], [100, 30, 180, 90]])


def street() -> np.ndarray:
    image = np.full((96, 208, 3), 40, np.uint8)
    for (left, top, right, bottom), colour in zip(BOXES.astype(int), (GREEN, BLUE), strict=True):
        image[top:bottom, left:right] = colour
    return image


def seen(image: np.ndarray, channel: int) -> list[float]:
    """The box around what is rather green (1) or blue (2) and little else."""
    strong = (image[..., channel] > 110) & (image[..., 0] < 100)
    strong &= image[..., 3 - channel] < 100
    rows, columns = strong.any(1).nonzero()[0], strong.any(0).nonzero()[0]
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_flip():
    image, boxes = flip(street(), BOXES)
    np.testing.assert_array_equal(image, street()[:, ::-1])
    np.testing.assert_array_equal(boxes, [[148, 10, 188, 40], [28, 30, 108, 90]])
    assert seen(image, 1) == boxes[0].tolist() and seen(image, 2) == boxes[1].tolist()
    again = flip(image, boxes)
    np.testing.assert_array_equal(again[1], BOXES)


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.0, 1.2])
def test_scale(factor):
    image, boxes = scale(street(), BOXES, factor)
    assert image.shape == (round(96 * factor), round(208 * factor), 3)
    np.testing.assert_allclose(boxes, BOXES * factor, rtol=0.01)
    assert (image.max() > 200) == (factor != 1)  # Cubic interpolation overshoots.
    for channel, box in ((1, boxes[0]), (2, boxes[1])):
        np.testing.assert_allclose(seen(image, channel), box, atol=0.75)


@pytest.mark.parametrize("corner", [(0, 0), (-7, 5), (12, -9), (40, 90), (-90, -200), (-15, 45)])
def test_crop(corner):
    image, boxes = crop(street(), BOXES, corner, (96, 208))
    top, left = corner
    wide = np.pad(street(), ((96, 96), (208, 208), (0, 0)), constant_values=127)
    np.testing.assert_array_equal(image, wide[96 + top :, 208 + left :][:96, :208])
    expected = []
    for box in BOXES - [left, top, left, top]:
        box = np.clip(box, 0, [208, 96, 208, 96])
        if box[2] > box[0] and box[3] > box[1]:
            expected.append(box)
    np.testing.assert_array_equal(boxes, np.reshape(expected, (-1, 4)))
    assert boxes.dtype == np.float32


def test_crop_drops_what_lies_outside():
    assert len(crop(street(), BOXES, (0, 60), (96, 208))[1]) == 1  # the first box ends there
    assert len(crop(street(), BOXES, (39, 59), (96, 208))[1]) == 2  # a pixel of it is left
    assert not len(crop(street(), BOXES, (96, 0), (96, 208))[1])


@pytest.mark.parametrize("size, low, high", [((96, 208), -8, 8), ((106, 218), -8, 18)])
def test_random_crops_reach_half_the_shift_beyond_the_image(size, low, high):
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = np.arange(size[0])[:, None] + 20
    image[..., 1] = np.arange(size[1]) + 20
    rng = np.random.default_rng(0)
    tops, lefts = set(), set()
    for _ in range(500):
        window, _ = random_crop(rng, image, BOXES, (96, 208), 16)
        row, column, _ = window[48, 104].astype(int) - 20
        tops.add(int(row) - 48)
        lefts.add(int(column) - 104)
    assert tops == lefts == set(range(low, high + 1))


def test_a_small_image_moves_inside_the_window():
    image = np.zeros((80, 180, 3), np.uint8)
    rng = np.random.default_rng(0)
    places = []
    for _ in range(300):
        window, _ = random_crop(rng, image, BOXES, (96, 208), 8)
        inside = (window == 0).all(-1)
        places.append(inside.any(0).nonzero()[0][[0, -1]])
    first, last = np.transpose(places)
    assert (last - first == 179).all() and set(first) == set(range(4, 25))


@pytest.mark.parametrize("degrees", [-30, -11, 0, 45, 180])
def test_hues_turn(degrees):
    colours = np.random.default_rng(0).integers(0, 256, (1, 400, 3), dtype=np.uint8)
    colours = colours[:, np.ptp(colours, -1)[0] > 60]
    turned = turn_hue(colours, degrees)
    for before, after in zip(colours[0] / 255, turned[0], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((hue + degrees / 360) % 1, saturation, value)
        np.testing.assert_allclose(
            after, np.multiply(expected, 255), atol=10
        )  # two roundings to 1.4 degrees
    np.testing.assert_array_equal(turn_hue(colours, degrees + 360), turned)
    greys = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    np.testing.assert_array_equal(turn_hue(greys, degrees), greys)


@pytest.mark.parametrize("share", [0, 0.3, 0.8, 1])
def test_colours_become_paler(share):
    colours = np.random.default_rng(0).integers(0, 256, (1, 400, 3), dtype=np.uint8)
    for before, after in zip(colours[0] / 255, desaturate(colours, share)[0], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb(hue, saturation * (1 - share), value)
        np.testing.assert_allclose(after, np.multiply(expected, 255), atol=1)


def test_boxes_stay_on_what_they_were_around():
    mild = replace(ORIGINAL, hue=15, desaturation=0.2, shift=96)  # of 1248: 16 pixels of 208
    changed = set()
    for seed in range(60):
        image, boxes = augment(np.random.default_rng(seed), street(), BOXES, mild)
        assert image.shape == street().shape and image.dtype == np.uint8
        assert boxes.dtype == np.float32 and len(boxes) == 2
        for channel, box in ((1, boxes[0]), (2, boxes[1])):
            np.testing.assert_allclose(seen(image, channel), box, atol=1.25)
        changed.add(image.tobytes())
    assert len(changed) == 60


def test_a_function_of_its_generator_that_leaves_its_input():
    image, boxes = street(), BOXES.copy()
    first, again, other = (
        augment(np.random.default_rng(seed), image, boxes, ORIGINAL) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()
    np.testing.assert_array_equal(image, street())
    np.testing.assert_array_equal(boxes, BOXES)


def test_probabilities():
    """Each kind of change alone, as often as it says; without any the image stays."""
    none = Augmentation(*[0, 30, 0, 0.8, 0, 0, 0.8, 1.2, 0])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(augment(rng, street(), BOXES, none)[0], street())
    for name, probability in {"flip": 0.5, "scale": 0.4, "hue": 0.8, "desaturation": 0.8}.items():
        name += "_probability"
        how = replace(none, **{name: probability})
        count = sum((augment(rng, street(), BOXES, how)[0] != street()).any() for _ in range(400))
        assert abs(count - 400 * probability) < 45, name


def test_changes_are_drawn_from_the_original_s_ranges():
    assert Augmentation(0.8, 30, 0.8, 0.8, 0.5, 0.4, 0.8, 1.2, 32) == ORIGINAL
    ranges = []

    class Drawn:
        def random(self):
            return 0.0

        def uniform(self, low, high):
            ranges.append((low, high))
            return high

    image, _ = augment(Drawn(), street(), BOXES, ORIGINAL)
    assert ranges == [(-30, 30), (0, 0.8), (0.8, 1.2)]
    # Of 32 pixels at full width, half at a sixth of it: 2.67.
    assert (image[:3] == 127).all() and (image[3, 3:] != 127).all()


def test_an_image_without_boxes():
    boxes = augment(np.random.default_rng(0), street(), np.zeros((0, 4), np.float32), ORIGINAL)[1]
    assert boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"desaturation": float("nan")}, "desaturation is nan"),
        ({"scale_low": 1.3}, "scale_low is 1.3 and scale_high 1.2; expected"),
        ({"scale_low": 0.09}, "0.1 <= scale_low"),
        ({"scale_high": 10.1}, "scale_high <= 10"),
    ],
)
def test_refuses(wrong, says):
    with pytest.raises(DataError, match=says):
        Augmentation(**wrong)


def test_scales_may_be_equal_and_reach_from_a_tenth_to_ten_times():
    for low, high in ((1, 1), (0.1, 10)):
        assert Augmentation(scale_low=low, scale_high=high).scale_high == high


@pytest.mark.parametrize(
    "name, high",
    [
        ("hue_probability", 1), ("hue", 180), ("desaturation_probability", 1),
        ("desaturation", 1), ("flip_probability", 1), ("scale_probability", 1), ("shift", 256),
    ],
)  # fmt: skip
def test_refuses_what_is_out_of_its_range(name, high):
    assert getattr(Augmentation(**{name: high}), name) == high
    for wrong in (-1, high + 1):
        with pytest.raises(DataError, match=f"{name} is {wrong}; expected 0..{high}"):
            Augmentation(**{name: wrong})
