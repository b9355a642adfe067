"""What every source of images hands out, checked once where it is made."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class DataError(ValueError):
    """A data set that cannot be used; says what is wrong, what is expected and what to do."""


class Split(NamedTuple):
    """Images with their labels.

    Attributes:
      images: ``(N, H, W, C)`` uint8, 0..255.
      labels: ``(N,)`` int32, 0..classes-1.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A training and a test set of one image shape.

    Attributes:
      name: what results on it are called, e.g. ``"mnist"``.
      classes: number of classes, at least 2.
      train: what networks are trained on.
      test: what they are measured on.
      source: where they were read, which a run says at its start; no record holds it.

    Raises:
      DataError: where a split is empty, its arrays do not fit the shapes and types of `Split`, a
        label is outside 0..classes-1, or the two splits have different image shapes.
    """

    name: str
    classes: int
    train: Split
    test: Split
    source: str = ""

    def __post_init__(self) -> None:
        """Checks both splits."""
        if self.classes < 2:
            raise DataError(f"{self.name}: {self.classes} class(es); at least 2 are needed.")
        for which, split in (("training", self.train), ("test", self.test)):
            _check_split(f"{self.name}: the {which} set", split, self.classes)
        train, test = self.train.images.shape[1:], self.test.images.shape[1:]
        if train != test:
            raise DataError(
                f"{self.name}: training images are {train}, test images {test} (height, width, "
                "channels); both must be alike."
            )


def _check_split(what: str, split: Split, classes: int) -> None:
    images, labels = split
    if images.ndim != 4 or images.dtype != np.uint8:
        raise DataError(
            f"{what} has images of shape {images.shape}, {images.dtype}; "
            "expected (N, H, W, C), uint8."
        )
    if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{what} has {len(images)} images, but labels of shape {labels.shape}, "
            f"{labels.dtype}; expected ({len(images)},), int32."
        )
    if images.size == 0:
        raise DataError(f"{what} has no images (shape {images.shape}).")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        unlabelled = " A label of -1 usually means 'unlabelled'." if low == -1 else ""
        raise DataError(
            f"{what} has labels {low}..{high}; expected 0..{classes - 1} for {classes} "
            f"classes.{unlabelled}"
        )


def check_unused(source: str, **folders: str | None) -> None:
    """Refuses folders of tensorflow-datasets where another source would pass over them.

    Args:
      source: what is read instead, e.g. ``"digits"``.
      folders: by the arguments' names.

    Raises:
      DataError: naming those that were given.
    """
    given = [f"{name} ({folder})" for name, folder in folders.items() if folder is not None]
    if given:
        raise DataError(
            f"{' and '.join(given)}: only for sets of tensorflow-datasets, and {source!r} is none. "
            "Leave it out, or name such a set as the source."
        )


def check_seen(dataset: Dataset) -> None:
    """Refuses a test set with classes that training never shows.

    Raises:
      DataError: naming these classes.
    """
    unseen = np.setdiff1d(dataset.test.labels, dataset.train.labels)
    if unseen.size:
        raise DataError(
            f"{dataset.name}: the test set has labels {unseen[:10].tolist()} that the training "
            "set lacks; no network could learn them. Are the splits made from the same classes?"
        )


def stratified(labels: np.ndarray, share: float, leave: int = 0) -> np.ndarray:
    """Picks a fixed share of every class, spread evenly over the order of its examples.

    No random numbers are involved, so the same examples come out with any seed and any version
    of any library.

    Args:
      labels: ``(N,)`` integers.
      share: in (0, 1]; each class gives ``round(share * its size)`` examples, at least one.
      leave: how many examples each class keeps, if it has so many; of a smaller one none is picked.

    Returns:
      The picked indices, ascending.
    """
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(0, min(max(1, round(share * len(members))), len(members) - leave))
        picked.append(members[np.arange(count) * len(members) // max(count, 1)])
    return np.sort(np.concatenate(picked))
