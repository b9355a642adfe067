"""What stays the same from generation to generation: model, data and compiled functions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from evojax.data import Dataset
from evojax.data.dataset import stratified
from evojax.deploy import channels
from evojax.evolution.events import Watch
from evojax.evolution.settings import Settings
from evojax.evolution.vestiges import sweeper
from evojax.genetics import (
    Census,
    Channels,
    Draw,
    Layout,
    Rule,
    Synthesis,
    census,
    fronting,
    living,
)
from evojax.genetics.channels import living_channels, spent
from evojax.genetics.trees import flatten
from evojax.learning import Images, Layer, Memory, Model, Network, Trainer, on_device, trainer
from evojax.learning.images import augment
from evojax.learning.memory import available, training_memory
from evojax.learning.network import PyTree, Shape
from evojax.learning.population import PopulationTrainer, population_trainer


class World(NamedTuple):
    """What stays the same from generation to generation.

    Attributes:
        settings: everything that decides the lineage.
        model: the model.
        shape: of an image, (H, W, C).
        layers: the model's, in the order of the forward pass.
        synthesis: of offspring.
        plan: the parameters' roles.
        blank: a network's shapes and types.
        trainer: trains and measures.
        sweep: from a network to its masks without vestiges.
        together: trains several networks at once; none where they train one after another.
        at_once: how many of them.
        draws: ``(keys, mates, population) -> draws`` of a whole generation: a key and the places of
            the parents for each offspring, and all possible parents stacked.
        front: from a network to the one that mates: the same, or without gene tags the one with
            its living channels in front.
        channels: of the model, where they are clusters.
        efficiency: from masks to their architectural efficiency, or in the settings' currency.
        train: images to train on.
        holdout: images to choose the fittest by, if there is a choice.
        test: images to measure by.
        watch: called with each event.
    """

    settings: Settings
    model: Model
    shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    synthesis: Synthesis
    plan: Layout
    blank: Network
    trainer: Trainer
    sweep: Callable[[Network], PyTree]
    together: PopulationTrainer | None
    at_once: int
    draws: Callable[[jax.Array, jax.Array, Network], Draw]
    front: Callable[[Network], Network]
    channels: Channels | None
    efficiency: Callable[[PyTree], float]
    train: Images
    holdout: Images | None
    test: Images
    watch: Watch


def check_model(model: Model, dataset: Dataset) -> None:
    """Checks that a model can be trained on a data set, before anything is allocated.

    Raises:
        ValueError: if it has something else than floating-point parameters, or gives something
            else than one logit a class.
    """
    shape = dataset.train.images.shape[1:]
    params, batch_stats = _shapes(model, shape)
    for path, leaf in flatten(params)[0].items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"the parameter {path} is {leaf.dtype}, which cannot be trained: expected floating "
                "point. Make it a constant of the model."
            )
    logits = jax.eval_shape(
        lambda p, b: model.forward(p, b, jnp.zeros((1, *shape)), False)[0], params, batch_stats
    )
    given = getattr(logits, "shape", f"none (a {type(logits).__name__})")
    if given != (1, dataset.classes):
        raise ValueError(
            f"the model gives logits of shape {given} for one image, but {dataset.name} has "
            f"{dataset.classes} classes: expected (1, {dataset.classes}). Make the model with "
            f"classes={dataset.classes}."
        )


def memory_of(
    settings: Settings, model: Model, dataset: Dataset, mesh: Mesh | None = None
) -> Memory:
    """What training takes, of as many networks at once as there are and as fit into a device.

    Args:
        settings: say how many there are.
        model: the model.
        dataset: the images.
        mesh: of devices on which they train; by default one after another on one.

    Raises:
        ValueError: if not even the network and the images fit into the device's memory.
    """
    images = dataset.train.images
    memory = training_memory(model, settings.recipe, images.shape[1:], len(images))
    limit = available()
    if limit is not None and memory.state + memory.images > limit:
        raise ValueError(
            f"training takes {memory.state / 1e9:.1f} GB for {memory.parameters:,} parameters with "
            f"gradients and the optimizer's state, and {memory.images / 1e9:.1f} GB for images; "
            f"the device has {limit / 1e9:.1f} GB. Take a smaller network, fewer images (subset), "
            "or another device."
        )
    if mesh is None:
        return memory
    return memory.fitting(limit, math.ceil(settings.offspring / mesh.shape["population"]))


def make_world(
    settings: Settings, model: Model, dataset: Dataset, watch: Watch, mesh: Mesh | None = None
) -> World:
    """Puts the images on the device and makes the functions that are compiled once for all.

    Args:
        settings: everything that decides the lineage.
        model: the model.
        dataset: images and labels.
        watch: called with each event.
        mesh: of devices over which a generation's networks are spread.

    Raises:
        ValueError: if model, settings and data do not fit together.
    """
    shape = dataset.train.images.shape[1:]
    layers = model.layers(shape)
    params, batch_stats = _shapes(model, shape)
    norms = model.norms(shape)
    rule = settings.rule(norms)
    found = _channels_of(model, shape, rule) if settings.by_channel else None
    synthesis = settings.synthesis(norms, found)
    plan = synthesis.layout(params)
    blank = Network(params, batch_stats, jax.eval_shape(synthesis.ancestor, params))
    images, labels = dataset.train
    held = held_out(settings, dataset)
    train = on_device(images[~held], labels[~held])
    # Fails here, before any work, if the recipe's augmentation does not fit the images.
    sample = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    jax.eval_shape(lambda x: augment(jax.random.key(0), x, train, settings.recipe), sample)
    return World(
        settings=settings,
        model=model,
        shape=shape,
        layers=layers,
        synthesis=synthesis,
        plan=plan,
        blank=blank,
        trainer=trainer(model, settings.recipe),
        sweep=sweeper(model, plan, shape) if settings.sweep else lambda network: network.masks,
        together=None if mesh is None else population_trainer(model, settings.recipe, mesh),
        at_once=1
        if mesh is None
        else memory_of(settings, model, dataset, mesh).members * mesh.shape["population"],
        draws=_draws(settings, synthesis),
        front=_front(settings, model, shape, rule, plan),
        channels=found,
        efficiency=_efficiency(settings, plan, blank.masks, found),
        train=train,
        holdout=on_device(images[held], labels[held], train) if held.any() else None,
        test=on_device(*dataset.test, train),
        watch=watch,
    )


def _shapes(model: Model, shape: Shape) -> tuple[PyTree, PyTree]:
    """Of the parameters and of the running statistics. Models compile `init`: it is traced once."""
    return jax.eval_shape(lambda key: model.init(key, shape), jax.random.key(0))


def _channels_of(model: Model, shape: Shape, rule: Rule) -> Channels:
    return channels(model.predict, _variables(model, shape), jnp.zeros((1, *shape)), rule=rule)


def _variables(model: Model, shape: Shape) -> PyTree:
    params, batch_stats = _shapes(model, shape)
    return {"params": params, "batch_stats": batch_stats}


def _draws(
    settings: Settings, synthesis: Synthesis
) -> Callable[[jax.Array, jax.Array, Network], Draw]:
    alike = settings.mates == "fittest" or settings.parents == settings.population

    @jax.jit
    def draws(keys: jax.Array, mates: jax.Array, population: Network) -> Draw:
        everything = population.params, population.masks
        mates = mates if settings.parents > 1 else mates[:, 0]

        def draw(key: jax.Array, mates: jax.Array) -> Draw:
            return synthesis.draw(key, *jax.tree.map(lambda leaf: leaf[mates], everything))

        if alike:  # Their parents' strengths are worked out only once.
            return jax.vmap(draw, (0, None))(keys, mates[0])
        return jax.vmap(draw)(keys, mates)

    return draws


def _front(
    settings: Settings, model: Model, shape: Shape, rule: Rule, plan: Layout
) -> Callable[[Network], Network]:
    if settings.tagging:
        return lambda network: network
    found, variables = _channels_of(model, shape, rule), _variables(model, shape)
    made = fronting(model.predict, variables, jnp.zeros((1, *shape)), found, plan)

    def front(network: Network) -> Network:
        variables = {"params": network.params, "batch_stats": network.batch_stats}
        moved, masks = made.front(variables, network.masks)
        return Network(moved["params"], moved["batch_stats"], masks)

    return front


def _efficiency(
    settings: Settings, plan: Layout, masks: PyTree, found: Channels | None
) -> Callable[[PyTree], float]:
    """From masks to the ancestor's synapses, or cost, over those of the masks.

    Args:
        settings: whose currency it is.
        plan: the parameters' roles.
        masks: of which only shapes matter.
        found: the model's channels, if the currency is not synapses.
    """

    @jax.jit
    def size(masks: PyTree) -> jax.Array:
        if found is None or settings.currency == "synapses":
            return living(masks, plan)
        return spent(living_channels(masks, plan, found), found, settings.currency)

    whole = float(size(jax.tree.map(lambda mask: jnp.ones(mask.shape, bool), masks)))
    return lambda masks: whole / max(float(size(masks)), 1.0)


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


def data_record(settings: Settings, dataset: Dataset) -> dict[str, Any]:
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


def compacted_cost(masks: PyTree, world: World) -> dict[str, int]:
    """What is left when dead channels are cut out, where channels are clusters."""
    if world.channels is None:
        return {}
    alive = living_channels(masks, world.plan, world.channels)
    names = {"channels": None, "compacted_macs": "macs", "compacted_parameters": "parameters"}
    return {name: round(float(spent(alive, world.channels, c))) for name, c in names.items()}


def census_of(masks: PyTree, world: World) -> Census:
    """Counts a network, its classifier left out of the cluster efficiency."""
    order = [layer.name for layer in world.layers]
    return census(masks, world.plan, order, classifier=order[-1] if len(order) > 1 else None)
