"""The split of KITTI's 7,481 labelled images that the papers' ancestor was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

IMAGES = 7481


@cache
def validation() -> frozenset[str]:
    """The 1,108 indices, such as ``"000012"``, on which networks are measured.

    The rule of NVIDIA DIGITS' ``prepare_kitti_data.py``: KITTI's development kit tells from which
    drive an image is, and validation images are those of 26 September (2011), drives 1 to 18. No
    drive gives images to both sides. The other 6,373 are for training.

    Example:
      >>> from evojax.data.kitti.split import validation
      >>> len(validation()), "000012" in validation(), "000010" in validation()
      (1108, True, False)
    """
    text = files("evojax.data.kitti").joinpath("validation.txt").read_text("ascii")
    return frozenset(text.split())


@cache
def labelled() -> frozenset[str]:
    """The indices of all images that KITTI publishes labels for, 000000 to 007480."""
    return frozenset(f"{index:06d}" for index in range(IMAGES))


def split(indices: Iterable[str]) -> tuple[list[str], list[str]]:
    """Parts indices of KITTI into training and validation ones, each ascending."""
    ordered = sorted(indices)
    return (
        [index for index in ordered if index not in validation()],
        [index for index in ordered if index in validation()],
    )
