"""Detection of cars as a task: images stream from disk, precision and recall judge."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from evojax.data.kitti import (
    CELL,
    ORIGINAL,
    Augmentation,
    Batch,
    SceneList,
    Scenes,
    batches,
    in_order,
)
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
from evojax.evolution.settings import Settings
from evojax.evolution.task import Task, Trial, check_outputs
from evojax.learning import Memory, Model, Network, Recipe
from evojax.learning.detector import Detector, Stream, detector, seed_of
from evojax.learning.memory import check_room, training_memory

SMALLEST = 25.0
"""Cars of a shorter side, in pixels of the full width, are not to be found in testing (DIGITS)."""

MOST_LABELLED = 64
"""Cars in a scene that can be found in testing, the nearest; KITTI's scenes have fewer."""

LITTER_BATCHES = 4
TRAINING_SAMPLE = 100
"""Training scenes, as they are, by which it is told how well a network learnt them."""

EXAMPLES = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """How scenes are served.

    Attributes:
        augmentation: how training images are changed; none leaves them as they are.
        workers: threads that prepare batches. Changes no bit of the lineage.
    """

    augmentation: Augmentation | None = ORIGINAL
    workers: int = 2

    def __post_init__(self) -> None:
        """Checks the number of threads."""
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1; got {self.workers}")


SERVICE = Service()


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


def detection(scenes: Scenes, service: Service = SERVICE) -> Task:
    """The task of finding the cars in street scenes.

    Precision and recall are the original's, averaged over batches of six images
    (`evojax.detection.original`), so that they compare with the papers'. The record holds beside
    them those over the whole set (`evojax.detection.whole`), KITTI's average precision, and
    precision and recall (`whole`) on a hundred training scenes without augmentation.
    Fitness is the harmonic mean of precision and recall (`whole`) on the last of the training
    scenes.

    Args:
        scenes: to train on and to measure by.
        service: how they are served.
    """
    shape = (scenes.train.height, scenes.train.width, 3)
    return Task(
        name=scenes.name,
        shape=shape,
        outputs=2,
        judged_by="holdout_f1",
        config={"data.height": shape[0], "data.width": shape[1], **_told(service.augmentation)},
        check=partial(_check, shape),
        memory=partial(_memory, shape),
        record=partial(_record, scenes),
        prepare=partial(_prepare, scenes, service),
        files=partial(_pictures, scenes.test),
        source=scenes.source,
    )


def _told(augmentation: Augmentation | None) -> dict[str, Any]:
    if augmentation is None:
        return {"data.augmentation": None}
    fields = dataclasses.asdict(augmentation)
    return {f"data.augmentation.{name}": value for name, value in fields.items()}


def _check(shape: tuple[int, ...], settings: Settings, model: Model, mesh: Mesh | None) -> None:
    for field in ("shift", "crop", "flip", "cutout", "label_smoothing"):
        if getattr(settings.recipe, field):
            raise ValueError(
                f"recipe.{field} must be 0 for a detector, whose training knows nothing of it; got "
                f"{getattr(settings.recipe, field)!r}. The scenes have an augmentation of their "
                "own."
            )
    if mesh is not None:
        raise ValueError(
            "detectors train one after another: expected --devices 1, in a process by itself"
        )
    decode(np.zeros((1, 1, 5)))  # Fails here, before any training, without what OpenCV is to do.
    wanted = (1, shape[0] // CELL, shape[1] // CELL, 5)
    why = (
        f"for each cell of {CELL} x {CELL} pixels its coverage and a box, as "
        "evojax.models.DetectNet gives it"
    )
    check_outputs(model, shape, wanted, why)


def _memory(shape: tuple[int, ...], settings: Settings, model: Model, mesh: Mesh | None) -> Memory:
    """What training takes. Of the images only those of three batches are on the device.

    Raises:
        ValueError: if that does not fit.
    """
    batch = settings.recipe.batch_size
    memory = training_memory(model, settings.recipe, shape, batch)
    return check_room(
        memory._replace(images=3 * batch * math.prod(shape)),
        "a smaller network, smaller images (height, width) or fewer at once (batch_size)",
    )


def _split(scenes: SceneList, share: float) -> tuple[SceneList, SceneList | None]:
    """The scenes to train on, and the last ones, held out, if any are to be.

    Raises:
        ValueError: if one of both would have no scene, or no car to learn from or to be found.
    """
    held = math.ceil(share * len(scenes))
    if not held:
        return scenes, None
    if held >= len(scenes):
        raise ValueError(
            f"holdout is {share:g} of {len(scenes)} training scenes: expected at least one to hold "
            "out and one to train on"
        )
    first, last = (
        dataclasses.replace(scenes, entries=entries)
        for entries in (scenes.entries[:-held], scenes.entries[-held:])
    )
    if not (first.count("Car") and last.count("Car")):
        raise ValueError(
            f"holdout is {share:g}, the last {held} of {len(scenes)} training scenes: expected a "
            f"Car in them and in the others; they have {last.count('Car')}, the others "
            f"{first.count('Car')}"
        )
    return first, last


def _record(scenes: Scenes, settings: Settings) -> dict[str, Any]:
    """What the record says of the scenes, with a checksum that tells other ones apart."""
    train, holdout = _split(scenes.train, settings.held_out)
    shape = [scenes.train.height, scenes.train.width, 3]
    return {
        "name": scenes.name,
        "train": len(train),
        "holdout": len(holdout) if holdout else 0,
        "test": len(scenes.test),
        "cars": {"train": train.count("Car"), "test": scenes.test.count("Car")},
        "image_shape": shape,
        "identity": scenes.identity,
        "skipped": dict(scenes.skipped),
        "examples": {
            scenes.test.entries[number].identifier: _rounded(
                far_to_near(scenes.test.objects(number))
            )
            for number in _examples(scenes.test)
        },
    }


def _prepare(
    scenes: Scenes, service: Service, settings: Settings, model: Model, mesh: Mesh | None
) -> Trial:
    """Compiles, on first use, training and prediction."""
    train, holdout = _split(scenes.train, settings.held_out)
    recipe, workers = settings.recipe, service.workers
    made = detector(model, recipe, donate=True)
    size = min(recipe.batch_size, len(train))

    def stream(
        seed: int, epoch: int, augmentation: Augmentation | None
    ) -> Generator[Batch, None, None]:
        return batches(
            train, seed=seed, epoch=epoch, batch_size=size, augmentation=augmentation,
            workers=workers,
        )  # fmt: skip

    def loss(key: jax.Array) -> Callable[[Network], float]:
        with closing(stream(seed_of(key), 0, None)) as some:
            sample = list(islice(some, LITTER_BATCHES))
        return lambda network: made.loss(network, sample)

    def fitness(held: SceneList, network: Network) -> float:
        score = _whole(find(made, network, held, recipe, workers), held)
        return 2 * score.precision * score.recall / max(sum(score), 1e-9)

    learnt = dataclasses.replace(train, entries=train.entries[:TRAINING_SAMPLE])
    truth = cache(partial(_truth, scenes.test))

    def measure(network: Network) -> dict[str, Any]:
        on_train = _whole(find(made, network, learnt, recipe, workers), learnt)
        found = find(made, network, scenes.test, recipe, workers)
        return {
            **measures(found, scenes.test, truth()),
            "train_precision": on_train.precision,
            "train_recall": on_train.recall,
        }

    served = Stream(len(train) // size, partial(stream, augmentation=service.augmentation))
    return Trial(
        train=lambda key, network, epochs, told: made.train(key, network, served, epochs, told),
        loss=loss,
        fitness=None if holdout is None else partial(fitness, holdout),
        measure=measure,
    )


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
    as_papers, over_all = original(found.detections, truth), _whole(found, scenes)
    levels = {
        name: level.scaled(scenes.scale)
        for name, level in {"easy": EASY, "moderate": MODERATE, "hard": HARD}.items()
    }
    return {
        "precision": as_papers.precision,
        "recall": as_papers.recall,
        "whole_precision": over_all.precision,
        "whole_recall": over_all.recall,
        "average_precision": {
            name: average_precision(found.detections, found.objects, level).forty
            for name, level in levels.items()
        },
        "detections": {
            found.identifiers[number]: _rounded(found.detections[number].boxes)
            for number in _examples(scenes)
        },
    }


def _whole(found: Found, scenes: SceneList) -> Score:
    return whole(found.detections, found.objects, MODERATE.scaled(scenes.scale))


def _truth(scenes: SceneList) -> list[np.ndarray]:
    """The boxes that the original takes for the truth, of each scene."""
    return [_found_of_labels(scenes.objects(number), scenes) for number in range(len(scenes))]


def _found_of_labels(objects: Objects, scenes: SceneList) -> np.ndarray:
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


def _pictures(scenes: SceneList) -> Mapping[str, bytes]:
    """The examples' images as they are measured on, as files."""
    files = {}
    for number in _examples(scenes):
        scene, file = scenes[number], io.BytesIO()
        Image.fromarray(scene.image).save(file, "JPEG", quality=85)
        files[f"examples/{scene.identifier}.jpg"] = file.getvalue()
    return files


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    return [[round(float(side), 1) for side in box] for box in boxes]
