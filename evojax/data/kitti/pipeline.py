"""Batches of street scenes, decoded and augmented by threads ahead of the device."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

import cv2
import grain
import numpy as np

from evojax.data.dataset import DataError
from evojax.data.kitti.augmentation import ORIGINAL, Augmentation, augment
from evojax.data.kitti.scenes import SceneList
from evojax.detection.boxes import Objects, far_to_near

MOST_BOXES = 32
T = TypeVar("T")


class Batch(NamedTuple):
    """Training images and the cars in them.

    Attributes:
      images: ``(B, H, W, 3)`` uint8, red, green, blue.
      boxes: ``(B, 32, 4)`` float32: left, top, right, bottom in pixels, from far to near; zeros
        after the last.
      counts: ``(B,)`` int32: how many of an image's boxes are cars.
    """

    images: np.ndarray
    boxes: np.ndarray
    counts: np.ndarray


class View(NamedTuple):
    """Images to be measured on, as they are.

    Attributes:
      images: ``(B, H, W, 3)`` uint8, red, green, blue; black after the last scene of the list.
      objects: what is labelled in each, as many as there are scenes in this batch.
      identifiers: their indices.
    """

    images: np.ndarray
    objects: tuple[Objects, ...]
    identifiers: tuple[str, ...]


def batches(
    scenes: SceneList,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    augmentation: Augmentation | None = ORIGINAL,
    workers: int = 2,
) -> Generator[Batch, None, None]:
    """One epoch of shuffled training batches.

    The order depends on the seed and the epoch, and how an image is changed on the seed, the epoch
    and its number in the list: never on the number of workers, nor on timing. Images that do not
    fill a batch are left out; in another epoch these are others. Of more than 32 cars in an image
    (KITTI has fewer) the farthest are left out.

    Closing the iterator, or dropping it, ends its threads, each after the batch in its hands.
    OpenCV's own threads are switched off, in the whole process.

    Args:
      scenes: the training images.
      seed: at least 0.
      epoch: at least 0.
      batch_size: images in a batch, at most as many as there are scenes.
      augmentation: how images are changed; None leaves them as they are.
      workers: threads that prepare batches; each holds one, and as many again wait.

    Raises:
      DataError: where an argument cannot be used; later, where an image cannot be decoded.
    """
    _check(scenes, batch_size, workers)
    if batch_size > len(scenes):
        raise DataError(
            f"batch_size is {batch_size}, but there are only {len(scenes)} training images."
        )
    if min(seed, epoch) < 0:
        raise DataError(f"seed is {seed} and epoch {epoch}; expected whole numbers from 0 on.")
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(scenes))
    parts = [order[i : i + batch_size] for i in range(0, len(order) - batch_size + 1, batch_size)]

    def prepare(numbers: np.ndarray) -> Batch:
        return _batch(scenes, numbers, (seed, epoch), augmentation)

    return _ahead(parts, prepare, workers)


def in_order(
    scenes: SceneList, *, batch_size: int, workers: int = 2
) -> Generator[View, None, None]:
    """All scenes in their order, unchanged; the last batch is filled up with black images.

    Args:
      scenes: the images to measure on.
      batch_size: images in a batch.
      workers: threads that prepare batches, as in `batches`.

    Raises:
      DataError: where an argument cannot be used; later, where an image cannot be decoded.
    """
    _check(scenes, batch_size, workers)
    numbers = np.arange(len(scenes))
    parts = [numbers[i : i + batch_size] for i in range(0, len(numbers), batch_size)]

    def prepare(numbers: np.ndarray) -> View:
        images = np.zeros((batch_size, scenes.height, scenes.width, 3), np.uint8)
        objects, identifiers = [], []
        for place, number in enumerate(numbers):  # One at a time, as a thread holds one batch.
            images[place], labelled, identifier = scenes[number]
            objects.append(labelled)
            identifiers.append(identifier)
        return View(images, tuple(objects), tuple(identifiers))

    return _ahead(parts, prepare, workers)


def _batch(
    scenes: SceneList,
    numbers: np.ndarray,
    seeds: tuple[int, int],
    augmentation: Augmentation | None,
) -> Batch:
    batch = Batch(
        np.empty((len(numbers), scenes.height, scenes.width, 3), np.uint8),
        np.zeros((len(numbers), MOST_BOXES, 4), np.float32),
        np.zeros(len(numbers), np.int32),
    )
    for place, number in enumerate(numbers):
        image, objects, _ = scenes[number]
        boxes = far_to_near(objects)  # Nearer ones are taught last, as DIGITS sorts them.
        if augmentation is not None:
            rng = np.random.default_rng([*seeds, 1 + int(number)])  # 0 is the order's
            image, boxes = augment(rng, image, boxes, augmentation)
        boxes = boxes[-MOST_BOXES:]
        batch.images[place] = image
        batch.boxes[place, : len(boxes)] = boxes
        batch.counts[place] = len(boxes)
    return batch


def _ahead(
    parts: Sequence[np.ndarray], prepare: Callable[[np.ndarray], T], workers: int
) -> Generator[T, None, None]:
    """`prepare` of each part in order, by threads: OpenCV and NumPy work beside each other."""
    # Our threads take images each; OpenCV's, which would help each of them, only get in their way.
    cv2.setNumThreads(1)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    iterator = iter(grain.MapDataset.source(parts).map(prepare).to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()


def _check(scenes: SceneList, batch_size: int, workers: int) -> None:
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise DataError(f"{name} is {value}; expected at least 1.")
    if not len(scenes):
        raise DataError("There are no scenes.")
