"""Image classification as a task: all images sit on the device, accuracy judges."""

from __future__ import annotations

import math
import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from evojax.data import Dataset
from evojax.data.dataset import stratified
from evojax.evolution.settings import Settings
from evojax.evolution.task import Task, Together, Trial, check_outputs
from evojax.hosts import hosts_of
from evojax.learning import Images, Memory, Model, on_device, trainer
from evojax.learning.images import augment
from evojax.learning.memory import available, check_room, training_memory
from evojax.learning.population import population_trainer, split_of, split_trainer


def classification(dataset: Dataset) -> Task:
    """The task of telling a data set's classes apart."""
    return Task(
        name=dataset.name,
        shape=dataset.train.images.shape[1:],
        outputs=1,
        judged_by="holdout_accuracy",
        config={},
        check=partial(_check, dataset),
        memory=partial(_memory, dataset),
        record=partial(_record, dataset),
        prepare=partial(_prepare, dataset),
        source=dataset.source,
    )


def _check(dataset: Dataset, settings: Settings, model: Model, mesh: Mesh | None) -> None:
    why = (
        f"a logit for each of the {dataset.classes} classes of {dataset.name}. Make the model with "
        f"classes={dataset.classes}."
    )
    check_outputs(model, dataset.train.images.shape[1:], (1, dataset.classes), why)
    if mesh is not None:
        split = split_of(mesh)
        if split.parts > 1 and hosts_of(mesh).several:
            raise ValueError(
                f"a mesh of several processes splits batches over {split.parts} devices: expected "
                "one, for a network that trains alone has devices of one process only"
            )
        split.size(settings.recipe.batch_size, int(np.sum(~held_out(settings, dataset))))


def _memory(dataset: Dataset, settings: Settings, model: Model, mesh: Mesh | None = None) -> Memory:
    """What training takes, of as many networks at once as there are and as fit into a device.

    Raises:
        ValueError: if not even the network and the images fit into the device's memory.
    """
    shape, count = dataset.train.images.shape[1:], len(dataset.train.images)
    memory = training_memory(model, settings.recipe, shape, count)
    # Test images lie on the device as well.
    every = memory.images * (count + len(dataset.test.images)) // count
    memory = memory._replace(images=every)
    parts = 1 if mesh is None else split_of(mesh).parts
    if parts > 1:  # The exchange is of one array, beside the gradients.
        activations = memory.activations // parts
        memory = memory._replace(gradients=2 * memory.gradients, activations=activations)
    memory = check_room(memory)
    if mesh is None:
        return memory
    return memory.fitting(available(), math.ceil(settings.offspring / mesh.shape["population"]))


def _record(dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """What the record says of the images, with checksums that tell other ones apart.

    Raises:
        ValueError: as `held_out`.
    """
    checksum = 0
    for array in (*dataset.train, *dataset.test):
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    held = held_out(settings, dataset)
    record = {
        "name": dataset.name,
        "train": int(np.sum(~held)),
        "holdout": int(np.sum(held)),
        "test": len(dataset.test.labels),
        "classes": dataset.classes,
        "image_shape": list(dataset.train.images.shape[1:]),
        "crc32": checksum,
    }
    # Which ones are held out, too: a lineage must never train on images that chose its members.
    return record | ({"holdout_crc32": zlib.crc32(held.tobytes())} if held.any() else {})


def _prepare(dataset: Dataset, settings: Settings, model: Model, mesh: Mesh | None) -> Trial:
    """Puts the images on the device and compiles, on first use, training and evaluation.

    Raises:
        ValueError: as `held_out`, or if the recipe's augmentation does not fit the images.
    """
    images, labels = dataset.train
    held = held_out(settings, dataset)
    train = on_device(images[~held], labels[~held])
    holdout = on_device(images[held], labels[held], train) if held.any() else None
    test = on_device(*dataset.test, train)
    # Fails here, before any work, if the recipe's augmentation does not fit the images.
    sample = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.uint8)
    jax.eval_shape(lambda x: augment(jax.random.key(0), x, train, settings.recipe), sample)
    if mesh is None or split_of(mesh).parts == 1:
        made = trainer(model, settings.recipe, donate=True)
    else:
        made = split_trainer(model, settings.recipe, mesh, donate=True)
    return Trial(
        train=lambda key, network, epochs, told: made.train(key, network, train, epochs, told),
        loss=lambda key: made.loss(key, train),
        fitness=None if holdout is None else lambda network: made.evaluate(network, holdout),
        measure=lambda network: {"accuracy": made.evaluate(network, test)},
        together=None
        if mesh is None
        else _together(
            settings, model, mesh, train, holdout, _memory(dataset, settings, model, mesh).members
        ),
    )


def _together(
    settings: Settings,
    model: Model,
    mesh: Mesh,
    train: Images,
    holdout: Images | None,
    members: int,
) -> Together:
    """Training of as many networks at once as fit into the devices."""
    made = population_trainer(model, settings.recipe, mesh, donate=True)
    return Together(
        at_once=members * mesh.shape["population"],
        train=lambda keys, networks, epochs, told: made.train(keys, networks, train, epochs, told)[
            0
        ],
        fitness=None
        if holdout is None
        else lambda networks: made.evaluate(networks, holdout).tolist(),
    )


def held_out(settings: Settings, dataset: Dataset) -> np.ndarray:
    """Which training images are held out, bool (N,): the same share of every class, in every run.

    Of every class at least one image is left to train on.

    Raises:
        ValueError: if images are to be held out, but no class can spare one.
    """
    labels = dataset.train.labels
    held = np.zeros(len(labels), bool)
    if settings.held_out > 0:
        held[stratified(labels, settings.held_out, leave=1)] = True
        if not held.any():
            raise ValueError(
                f"holdout is {settings.held_out:g}, but no class of {dataset.name} has two "
                "training images: expected at least one to hold out and one to train on"
            )
    return held
