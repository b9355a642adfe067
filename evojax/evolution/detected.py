"""What a detector finds in scenes, and how that is measured."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from PIL import Image

from evojax.data.kitti import SceneList, in_order
from evojax.detection import (
    EASY,
    HARD,
    MODERATE,
    Decoding,
    Detections,
    Objects,
    Score,
    average_precision,
    decode,
    far_to_near,
    labelled,
    original,
    targets,
    whole,
)
from evojax.learning import Network, Recipe
from evojax.learning.detector import Detector

SMALLEST = 25.0
"""Cars of a shorter side, in pixels of the full width, are not to be found in testing (DIGITS)."""

MOST_LABELLED = 64
"""Cars in a scene that can be found in testing, the nearest; KITTI's scenes have fewer."""

EXAMPLES = 2

T = TypeVar("T")


class Found(NamedTuple):
    """What a network found in a list of scenes, one entry a scene.

    Attributes:
        detections: of the network.
        objects: what is labelled.
        identifiers: of the images.
    """

    detections: list[Detections]
    objects: list[Objects]
    identifiers: list[str]


def find(
    made: Detector, network: Network, scenes: SceneList, recipe: Recipe, workers: int
) -> Found:
    """What a network detects in scenes, beside what is labelled."""
    found = Found([], [], [])
    decoding = Decoding().scaled(scenes.scale)
    size = min(recipe.batch_size, len(scenes))
    with closing(in_order(scenes, batch_size=size, workers=workers)) as views:
        predicted = ((made.predict(network, view.images), view) for view in views)
        # The device goes on with the next batch while OpenCV groups the boxes of this one.
        for predictions, view in _one_ahead(predicted):
            shown = zip(np.asarray(predictions), view.objects, view.identifiers, strict=False)
            for prediction, objects, identifier in shown:
                found.detections.append(decode(prediction, decoding))
                found.objects.append(objects)
                found.identifiers.append(identifier)
    return found


def _one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each when the next one is there."""
    before: list[T] = []
    for item in items:
        yield from before
        before = [item]
    yield from before


def measures(found: Found, scenes: SceneList, truth: list[np.ndarray]) -> dict[str, Any]:
    """Precision and recall in both ways, average precision, and the examples' detections.

    Args:
        found: in all scenes.
        scenes: a network was measured on.
        truth: the boxes that the original takes for it, (n, 4) float32 of each scene.
    """
    as_papers, correct = original(found.detections, truth), over_all(found, scenes)
    levels = {
        name: level.scaled(scenes.scale)
        for name, level in {"easy": EASY, "moderate": MODERATE, "hard": HARD}.items()
    }
    return {
        "precision": as_papers.precision,
        "recall": as_papers.recall,
        "whole_precision": correct.precision,
        "whole_recall": correct.recall,
        "average_precision": {
            name: average_precision(found.detections, found.objects, level).forty
            for name, level in levels.items()
        },
        "detections": {
            found.identifiers[number]: _rounded(found.detections[number].boxes)
            for number in _examples(scenes)
        },
    }


def over_all(found: Found, scenes: SceneList) -> Score:
    """Precision and recall over the whole set, of the cars that KITTI calls moderate."""
    return whole(found.detections, found.objects, MODERATE.scaled(scenes.scale))


def truth_of(scenes: SceneList) -> list[np.ndarray]:
    """The boxes that the original takes for the truth, of each scene."""
    return [findable(scenes.objects(number), scenes) for number in range(len(scenes))]


def findable(objects: Objects, scenes: SceneList) -> np.ndarray:
    """The boxes that the original takes for the truth of one of the scenes, ``(n, 4)`` float32."""
    boxes = far_to_near(objects, smallest=SMALLEST * scenes.scale)[-MOST_LABELLED:]
    padded = np.zeros((MOST_LABELLED, 4), np.float32)  # Compiled once for all scenes.
    padded[: len(boxes)] = boxes
    taught = _taught(padded, len(boxes), scenes.height, scenes.width)
    return labelled(taught.coverage, taught.offsets, Decoding().scaled(scenes.scale))


_taught = jax.jit(targets, static_argnums=(2, 3))


def _examples(scenes: SceneList) -> list[int]:
    """The numbers of the scenes that pictures show: those with most large cars."""
    counts = [
        -len(far_to_near(scenes.objects(number), smallest=2 * SMALLEST * scenes.scale))
        for number in range(len(scenes))
    ]
    return np.argsort(counts, kind="stable")[:EXAMPLES].tolist()


def labels(scenes: SceneList) -> dict[str, list[list[float]]]:
    """The cars that are labelled in the scenes that pictures show, by the images' identifiers."""
    return {
        scenes.entries[number].identifier: _rounded(far_to_near(scenes.objects(number)))
        for number in _examples(scenes)
    }


def pictures(scenes: SceneList) -> Mapping[str, bytes]:
    """The examples' images as they are measured on, as files."""
    files = {}
    for number in _examples(scenes):
        scene, file = scenes[number], io.BytesIO()
        Image.fromarray(scene.image).save(file, "JPEG", quality=85)
        files[f"examples/{scene.identifier}.jpg"] = file.getvalue()
    return files


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    return [[round(float(side), 1) for side in box] for box in boxes]
