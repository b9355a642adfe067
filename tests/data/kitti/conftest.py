"""Small street scenes on disk: a rectangle of the car's colour wherever a car is labelled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

RED = (230, 30, 20)
# Left, top, right, bottom, and the distance.
Car = tuple[int, int, int, int, float]
CARS: tuple[Car, ...] = ((10, 20, 60, 70, 8.0), (100, 30, 120, 44, 30.0))


def line(kind: str, car: Car) -> str:
    *box, distance = car
    numbers = " ".join(f"{side:.2f}" for side in box)
    return f"{kind} 0.10 0 -1.50 {numbers} 1.50 1.60 3.90 -5.00 1.70 {distance:.2f} 1.50"


def picture(shape: tuple[int, int] = (120, 200), cars: tuple[Car, ...] = CARS) -> np.ndarray:
    image = np.full((*shape, 3), (60, 90, 110), np.uint8)
    for left, top, right, bottom, _ in cars:
        image[top:bottom, left:right] = RED
    return image


def encode(image: np.ndarray, ending: str = ".png") -> bytes:
    return cv2.imencode(ending, image[..., ::-1])[1].tobytes()


def add(
    root: Path,
    index: str,
    *,
    image: np.ndarray | None = None,
    ending: str = ".png",
    labels: str | None = None,
) -> None:
    for part in ("image_2", "label_2"):
        (root / part).mkdir(parents=True, exist_ok=True)
    content = encode(picture() if image is None else image, ending)
    (root / "image_2" / f"{index}{ending}").write_bytes(content)
    text = "\n".join(line("Car", car) for car in CARS) if labels is None else labels
    (root / "label_2" / f"{index}.txt").write_text(text)


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """Six scenes in two lists, all of them good."""
    root = tmp_path / "town"
    for number in range(6):
        add(root, f"{number:06d}", ending=".jpg" if number % 2 else ".png")
    (root / "train.txt").write_text("000003\n000000\n000001\n000002\n")
    (root / "test.txt").write_text("000005\n000004\n")
    return root


@pytest.fixture(scope="session")
def write() -> Callable[..., None]:
    """`add`: writes an image and its labels into a folder."""
    return add


@pytest.fixture(scope="session")
def label() -> Callable[..., str]:
    """`line`: a label from a kind and (left, top, right, bottom, distance)."""
    return line


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """`encode`: the file of an image."""
    return encode
