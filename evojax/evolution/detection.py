"""Detection of cars as a task: images stream from disk, precision and recall judge."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from evojax.data.kitti import CELL, ORIGINAL, Augmentation, Batch, SceneList, Scenes, batches
from evojax.detection import decode
from evojax.evolution.detected import (
    SMALLEST,
    find,
    findable,
    labels,
    measures,
    over_all,
    pictures,
    truth_of,
)
from evojax.evolution.settings import Settings
from evojax.evolution.task import Task, Trial, check_outputs
from evojax.learning import Memory, Model, Network
from evojax.learning.detector import Stream, detector, seed_of
from evojax.learning.memory import check_room, training_memory

LITTER_BATCHES = 4
"""By which a litter's members are told apart: all of them are on the device at once."""

TRAINING_SAMPLE = 100
"""Training scenes, as they are, by which it is told how well a network learnt them."""


@dataclass(frozen=True)
class Service:
    """How scenes are served.

    Attributes:
        augmentation: how training images are changed; none leaves them as they are.
        workers: threads that prepare batches. Changes no bit of the lineage.

    Raises:
        ValueError: where there is no thread.
    """

    augmentation: Augmentation | None = ORIGINAL
    workers: int = 2

    def __post_init__(self) -> None:
        """Checks the number of threads."""
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1; got {self.workers}")


SERVICE = Service()


def detection(scenes: Scenes, service: Service = SERVICE) -> Task:
    """The task of finding the cars in street scenes.

    Precision and recall are the original's, averaged over batches of six images
    (`evojax.detection.original`), so that they compare with the papers'. The record holds beside
    them those over the whole set (`evojax.detection.whole`), KITTI's average precision, and
    precision and recall (`whole`) on the first hundred training scenes without augmentation.
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
        check=partial(_check, scenes.test),
        memory=partial(_memory, shape),
        record=partial(_record, scenes),
        prepare=partial(_prepare, scenes, service),
        files=partial(pictures, scenes.test),
        source=scenes.source,
    )


def _told(augmentation: Augmentation | None) -> dict[str, Any]:
    if augmentation is None:
        return {"data.augmentation": None}
    fields = dataclasses.asdict(augmentation)
    return {f"data.augmentation.{name}": value for name, value in fields.items()}


def _check(test: SceneList, settings: Settings, model: Model, mesh: Mesh | None) -> None:
    for field in ("shift", "crop", "flip", "cutout", "label_smoothing"):
        if getattr(settings.recipe, field):
            raise ValueError(
                f"recipe.{field} must be 0 for a detector, whose training knows nothing of it; got "
                f"{getattr(settings.recipe, field)!r}. Scenes have an augmentation of their "
                "own (--augment)."
            )
    if mesh is not None:
        raise ValueError(
            "detectors train one after another on one device: expected --devices 1 and "
            "--data-parallel 1, in a process by itself"
        )
    decode(np.zeros((1, 1, 5)))  # Fails here, before any training, without what OpenCV is to do.
    if not _any_findable(test):
        raise ValueError(
            f"no Car in the {len(test)} test images can be found: expected one whose sides are at "
            f"least {SMALLEST * test.scale:g} pixels (the images have {test.height} x {test.width})"
        )
    wanted = (1, test.height // CELL, test.width // CELL, 5)
    why = (
        f"for each cell of {CELL} x {CELL} pixels its coverage and a box, as "
        "evojax.models.DetectNet gives it"
    )
    check_outputs(model, (test.height, test.width, 3), wanted, why)


def _any_findable(scenes: SceneList) -> bool:
    """Whether there is a car that counts where detections are judged."""
    return any(len(findable(scenes.objects(number), scenes)) for number in range(len(scenes)))


def _memory(shape: tuple[int, ...], settings: Settings, model: Model, mesh: Mesh | None) -> Memory:
    """What training takes. Of the images no more are on the device than judge a litter.

    Raises:
        ValueError: if that does not fit.
    """
    batch = settings.recipe.batch_size
    memory = training_memory(model, settings.recipe, shape, batch)
    return check_room(
        memory._replace(images=LITTER_BATCHES * batch * math.prod(shape)),
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
    if not _any_findable(last):
        raise ValueError(
            f"holdout is {share:g}, the last {held} of {len(scenes)} training scenes: expected a "
            f"Car in them whose sides are at least {SMALLEST * last.scale:g} pixels, or every "
            "network were as fit as the next. Hold out more."
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
        "examples": labels(scenes.test),
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
        score = over_all(find(made, network, held, recipe, workers), held)
        return 2 * score.precision * score.recall / max(sum(score), 1e-9)

    learnt = dataclasses.replace(train, entries=train.entries[:TRAINING_SAMPLE])
    truth = cache(partial(truth_of, scenes.test))

    def measure(network: Network) -> dict[str, Any]:
        on_train = over_all(find(made, network, learnt, recipe, workers), learnt)
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
