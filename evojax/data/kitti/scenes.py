"""Street scenes on disk: random access to one image with its labels at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from evojax.data.dataset import DataError
from evojax.data.kitti.labels import SceneError
from evojax.detection.boxes import Objects

HEIGHT, WIDTH = 384, 1248
CELL = 16
"""The side in pixels of a detector's cell, of which the canvas is made up."""

_SHOWN = 10


class Scene(NamedTuple):
    """One image on its canvas, with its labels.

    Attributes:
      image: ``(height, width, 3)`` uint8, red, green, blue.
      objects: what is labelled in it, in the labels' order, boxes in pixels of `image`.
      identifier: the image's index, e.g. ``"000012"``.
    """

    image: np.ndarray
    objects: Objects
    identifier: str


class Options(NamedTuple):
    """What is wanted of a set.

    Attributes:
      canvas: height and width in pixels that images are brought to.
      subset: the share of the training images to keep, in (0, 1], spread evenly over their list.
      skip_bad: go on without scenes that cannot be used, and count them by reason.
    """

    canvas: tuple[int, int] = (HEIGHT, WIDTH)
    subset: float = 1.0
    skip_bad: bool = False


class Entry(NamedTuple):
    """What is known of an image before it is decoded.

    Attributes:
      identifier: the image's index.
      file: the image's name in messages.
      size: its length in bytes.
      shape: its height and width, pixels.
      objects: its labels, boxes in its own pixels.
      read: gives the bytes of the PNG or JPEG file; an OSError where it cannot.
    """

    identifier: str
    file: str
    size: int
    shape: tuple[int, int]
    objects: Objects
    read: Callable[[], bytes]


@dataclass(frozen=True)
class SceneList:
    """Scenes by their number; each is read from disk and decoded when it is asked for.

    Images are not resized to the canvas, but padded at the right and below with black, as DIGITS
    does it; a canvas smaller than 384 x 1248 gets the padded image scaled down, boxes alike.

    Attributes:
      entries: the images, in order.
      height: of the canvas, pixels.
      width: of the canvas, pixels.
    """

    entries: tuple[Entry, ...]
    height: int = HEIGHT
    width: int = WIDTH

    def __post_init__(self) -> None:
        """Checks the canvas."""
        check_canvas(self.height, self.width)

    def __len__(self) -> int:
        """How many scenes there are."""
        return len(self.entries)

    @property
    def scale(self) -> float:
        """How long the canvas's sides are, as a share of 384 x 1248 pixels."""
        return self.width / WIDTH

    def __getitem__(self, number: int) -> Scene:
        """Reads and decodes one scene."""
        return Scene(
            self._image(self.entries[number]),
            self.objects(number),
            self.entries[number].identifier,
        )

    def __iter__(self) -> Iterator[Scene]:
        """All scenes, one at a time."""
        return (self[number] for number in range(len(self)))

    def objects(self, number: int) -> Objects:
        """The labels of one scene, in pixels of the canvas, without decoding its image."""
        objects = self.entries[number].objects
        return objects._replace(boxes=objects.boxes * np.float32(self.scale))

    def count(self, kind: str) -> int:
        """How many objects of a kind are labelled."""
        return sum(int((entry.objects.kinds == kind).sum()) for entry in self.entries)

    def _image(self, entry: Entry) -> np.ndarray:
        image = decode(entry)
        height, width = image.shape[:2]
        if (height, width) != (HEIGHT, WIDTH):
            below, beside = HEIGHT - height, WIDTH - width
            image = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        if (self.height, self.width) != (HEIGHT, WIDTH):
            image = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return image


@dataclass(frozen=True)
class Scenes:
    """A training and a test list of scenes.

    Attributes:
      name: what results on them are called, e.g. ``"kitti"``.
      train: what networks are trained on.
      test: what they are measured on.
      identity: a checksum of all labels and of the images' names and sizes, by which a continued
        run knows other data.
      skipped: how many scenes were left out, by reason; empty where nothing is wrong.
      source: where they lie, which a run says at its start; no record holds it.
    """

    name: str
    train: SceneList
    test: SceneList
    identity: str
    skipped: Mapping[str, int]
    source: str = ""


def decode(entry: Entry) -> np.ndarray:
    """An image in its own size, ``(H, W, 3)`` uint8, red, green, blue.

    Raises:
      DataError: where the file cannot be read or decoded, or has changed since it was checked.
    """
    try:
        content = entry.read()
    except OSError as error:
        raise DataError(
            f"{entry.file} cannot be read ({error}). Put back the one that was there."
        ) from error
    # First, or what else follows from it would be laid to the file that was checked.
    if len(content) != entry.size:
        raise DataError(
            f"{entry.file} has {len(content)} bytes, but had {entry.size} when it was checked: it "
            "has changed meanwhile. Put back the one that was there."
        )
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # what it says is of its own code
        image = None
    if image is None or image.shape[:2] != entry.shape:
        found = "cannot be decoded" if image is None else f"decodes to {image.shape[:2]}"
        raise DataError(
            f"{entry.file} {found}, though its header says {entry.shape} (height, width): it is "
            "damaged. Fetch it again, or take its index out of the lists."
        )
    return image


def check_canvas(height: int, width: int) -> None:
    """Checks that a canvas is 384 x 1248 pixels or a smaller one of the same proportions.

    Raises:
      DataError: naming the sizes that are.
    """
    possible = [(16 * n, 52 * n) for n in range(1, 25) if 52 * n % CELL == 0]
    if (height, width) not in possible:
        listed = ", ".join(f"{h} x {w}" for h, w in possible)
        raise DataError(
            f"The image size is {height} x {width} (height x width); expected {HEIGHT} x {WIDTH} "
            f"or less in the same proportions and in cells of {CELL} pixels: one of {listed}."
        )


def check_shape(file: str, shape: tuple[int, int]) -> None:
    """Refuses an image that does not fit into 384 x 1248 pixels.

    Raises:
      SceneError: naming the file.
    """
    height, width = shape
    if height > HEIGHT or width > WIDTH:
        raise SceneError(
            "image too large",
            f"{file} is {width} x {height} pixels; expected at most {WIDTH} x {HEIGHT}, to which "
            "images are padded.",
        )


def finish(
    name: str,
    where: str,
    train: list[Entry],
    test: list[Entry],
    problems: list[SceneError],
    options: Options,
) -> Scenes:
    """Makes `Scenes` of what was found, or says all that is wrong with it.

    Args:
      name: what results are called.
      where: the folder, for messages and as the scenes' source.
      train: the usable training images.
      test: the usable test images.
      problems: what is wrong with the others.
      options: what is wanted.

    Raises:
      DataError: listing the problems, or where a list has no image or no car.
    """
    if problems and not options.skip_bad:
        listed = [f"  {problem}" for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            listed.append(f"  and {len(problems) - _SHOWN} more")
        raise DataError(
            "\n".join([f"{where} has {len(problems)} problem(s):", *listed])
            + "\nCorrect them, or go on without these images: skip_bad (--skip-bad)."
        )
    skipped: dict[str, int] = {}
    for problem in problems:
        skipped[problem.reason] = skipped.get(problem.reason, 0) + 1
    count = max(1, round(options.subset * len(train)))
    train = [train[i * len(train) // count] for i in range(count)] if train else []
    for which, entries in (("training", train), ("test", test)):
        if not any((entry.objects.kinds == "Car").any() for entry in entries):
            out = ", ".join(f"{reason}: {number}" for reason, number in skipped.items())
            left = f" that are left ({out})" if problems else ""
            raise DataError(
                f"{where}: none of the {len(entries)} {which} images{left} has a Car; at least one "
                "is needed to learn from and to measure by."
            )
    return Scenes(
        name,
        SceneList(tuple(train), *options.canvas),
        SceneList(tuple(test), *options.canvas),
        _identity(train, test),
        skipped,
        where,
    )


def _identity(*lists: Iterable[Entry]) -> str:
    digest = hashlib.sha256()
    for which, entries in enumerate(lists):
        for entry in entries:
            kinds = ",".join(entry.objects.kinds.tolist())
            digest.update(
                f"{which} {entry.identifier!r} {entry.size} {entry.shape} {kinds}\n".encode()
            )
            for numbers in entry.objects[1:]:
                digest.update(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
