"""The original's augmentation of street scenes: boxes follow what is in them.

Every function is pure: random numbers come from the generator it is given. Images are uint8, red,
green, blue; boxes ``(n, 4)`` float32, left, top, right, bottom in pixels.

Source: ``detectnet_transform_layer.cpp`` and ``detectnet_network.prototxt`` of NVIDIA's Caffe 0.17.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from evojax.data.dataset import DataError
from evojax.data.kitti.scenes import WIDTH

# What the network subtracts from pixels: the original fills what moves in after subtracting it.
FILL = 127


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed, each by its own random numbers.

    Attributes:
      hue_probability: of turning all hues by the same angle.
      hue: the largest angle in either direction, degrees.
      desaturation_probability: of making all colours paler.
      desaturation: the largest share of saturation taken away, 0..1.
      flip_probability: of mirroring left to right.
      scale_probability: of resizing.
      scale_low: the smallest factor.
      scale_high: the largest factor.
      shift: pixels, of an image 1248 wide; the window that is cut out reaches over the image's
        edges by up to half of it (``shift_x: 32`` in the original means 16 to either side).

    Raises:
      DataError: where a number is out of its range.
    """

    hue_probability: float = 0.8
    hue: float = 30.0
    desaturation_probability: float = 0.8
    desaturation: float = 0.8
    flip_probability: float = 0.5
    scale_probability: float = 0.4
    scale_low: float = 0.8
    scale_high: float = 1.2
    shift: int = 32

    def __post_init__(self) -> None:
        """Checks all ranges."""
        for name, high in (
            ("hue_probability", 1), ("hue", 180), ("desaturation_probability", 1),
            ("desaturation", 1), ("flip_probability", 1), ("scale_probability", 1), ("shift", 256),
        ):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise DataError(f"{name} is {value!r}; expected 0..{high}.")
        if not 0.1 <= self.scale_low <= self.scale_high <= 10:
            raise DataError(
                f"scale_low is {self.scale_low!r} and scale_high {self.scale_high!r}; expected "
                "0.1 <= scale_low <= scale_high <= 10."
            )


ORIGINAL = Augmentation()


def augment(
    rng: np.random.Generator, image: np.ndarray, boxes: np.ndarray, how: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Changes an image as the original does: colours, then flip, scale and crop.

    Args:
      rng: gives all random numbers.
      image: ``(H, W, 3)`` uint8.
      boxes: ``(n, 4)`` float32.
      how: probabilities and ranges.

    Returns:
      An image of the same shape and the boxes in it, in their order. What of a box lies outside is
      cut off, and boxes of which nothing is left are dropped.
    """
    height, width = image.shape[:2]
    if rng.random() < how.hue_probability:
        image = turn_hue(image, rng.uniform(-how.hue, how.hue))
    if rng.random() < how.desaturation_probability:
        image = desaturate(image, rng.uniform(0, how.desaturation))
    if rng.random() < how.flip_probability:
        image, boxes = flip(image, boxes)
    if rng.random() < how.scale_probability:
        image, boxes = scale(image, boxes, rng.uniform(how.scale_low, how.scale_high))
    return random_crop(rng, image, boxes, (height, width), how.shift * width / WIDTH)


def turn_hue(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turns all hues (of HSV) by the same angle, in steps of 360/256 degrees."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(degrees * 256 / 360) % 256)  # wraps around, as hues do
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def desaturate(image: np.ndarray, share: float) -> np.ndarray:
    """Takes a share of their saturation (of HSV) from all colours; 1 leaves greys."""
    # At a given hue and value, channels differ from the largest, the value, by what is proportional
    # to the saturation: the same as scaling S in HSV, without going there.
    red, green, blue = cv2.split(image)
    value = cv2.cvtColor(cv2.max(cv2.max(red, green), blue), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 1 - share, value, share, 0)


def flip(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors left to right. (The original's boxes are a pixel off.)"""
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return cv2.flip(image, 1), mirrored


def scale(image: np.ndarray, boxes: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Resizes by cubic interpolation; the image gets another shape, in whole pixels."""
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    factors = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), boxes * factors


def random_crop(
    rng: np.random.Generator,
    image: np.ndarray,
    boxes: np.ndarray,
    shape: tuple[int, int],
    shift: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a window out at a random place.

    Along each axis the window's first pixel is uniform between ``-shift/2`` and
    ``size - window + shift/2``, of which the second is the smaller where the image is smaller than
    the window by more than `shift`. Such an image is seen whole, ``shift/2`` or more from the
    window's edges.

    Args:
      rng: gives two random numbers.
      image: ``(H, W, 3)``, of any size.
      boxes: ``(n, 4)``.
      shape: the window's height and width, pixels.
      shift: pixels.
    """
    top, left = (
        round(rng.random() * (size - window + shift) - shift / 2)
        for size, window in zip(image.shape[:2], shape, strict=True)
    )
    return crop(image, boxes, (top, left), shape)


def crop(
    image: np.ndarray, boxes: np.ndarray, corner: tuple[int, int], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts out a window, which may reach over the image's edges, where it is grey (127).

    Args:
      image: ``(H, W, 3)``.
      boxes: ``(n, 4)``.
      corner: the window's first row and column, which may be negative.
      shape: the window's height and width.

    Returns:
      The window and the boxes in it, cut off at its edges; those with nothing left are dropped.
    """
    (top, left), (height, width) = corner, shape
    window = np.full((height, width, 3), FILL, np.uint8)
    inner = image[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    row, column = max(0, -top), max(0, -left)
    window[row : row + inner.shape[0], column : column + inner.shape[1]] = inner
    moved = boxes - np.array([left, top] * 2, np.float32)
    moved = np.clip(moved, 0, np.array([width, height] * 2, np.float32))
    there = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    return window, moved[there]
