"""The generation loop: synthesis, heredity, training, measuring, saving."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.data import Dataset
from evojax.evolution import checkpoints
from evojax.evolution.checkpoints import CheckpointError
from evojax.evolution.events import (
    EpochFinished,
    Event,
    GenerationFinished,
    GenerationStarted,
    RunFinished,
    RunStarted,
    Watch,
)
from evojax.evolution.heredity import conceive
from evojax.evolution.lineage import (
    configuration,
    entry,
    new_lineage,
    note_surroundings,
    open_run,
    write_lineage,
)
from evojax.evolution.settings import Settings
from evojax.evolution.sizing import draw_to_size
from evojax.evolution.vestiges import sweeper
from evojax.genetics import Draw, Layout, Synthesis, census
from evojax.genetics.trees import path_hash
from evojax.learning import (
    Epoch,
    Images,
    Layer,
    Model,
    Network,
    NonFiniteLoss,
    Trainer,
    on_device,
    trainer,
)
from evojax.learning.memory import Memory, available, training_memory
from evojax.learning.network import PyTree


class _World(NamedTuple):
    """What stays the same from generation to generation."""

    settings: Settings
    model: Model
    shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    synthesis: Synthesis
    plan: Layout
    blank: Network
    trainer: Trainer
    sweep: Callable[[Network], PyTree]
    train: Images
    holdout: Images | None
    test: Images
    watch: Watch


class _Candidate(NamedTuple):
    """A trained offspring and how it came about."""

    network: Network
    epochs: list[Epoch]
    holdout_accuracy: float | None
    draw: Draw | None
    litter: list[float]
    synapses: int


def evolve(
    settings: Settings,
    model: Model,
    dataset: Dataset,
    out: str | Path,
    *,
    experiment: str = "evolution",
    command: str | None = None,
    watch: Watch = lambda event: None,
) -> dict[str, Any]:
    """Evolves a lineage from an ancestor, generation by generation (Shafiee & Wong 2016).

    Each finished generation is saved before it counts. Called again with the same arguments after a
    crash, it continues where it stopped and gives the same lineage, timings aside.

    Args:
        settings: everything that decides the lineage.
        model: the model; its layers' last is the classifier.
        dataset: images and labels.
        out: the run's folder.
        experiment: its name in the record.
        command: how it was started, for the record.
        watch: called with each `Event`.

    Returns:
        The lineage, as in lineage.json. Its `status` says why it ended.

    Raises:
        ValueError: before any work starts, if the folder, the data or the model do not fit.
        CheckpointError: if a generation cannot be saved or read.
        NonFiniteLoss: if the ancestor's training breaks down; where an offspring's does, the
            lineage ends with its parent.
    """
    out = Path(out)
    config = configuration(settings, experiment, dataset.name)
    watch(RunStarted(_memory(settings, model, dataset)))
    world = _world(settings, model, dataset, watch)
    about = _about(dataset, world)
    with open_run(out, config, about) as lineage:
        if lineage is None:
            command = command or " ".join(sys.argv)
            lineage = new_lineage(experiment, command, settings, config, about)
        if _status(settings, lineage) is None:
            note_surroundings(lineage)
        lineage |= {"config": config, "status": "running"}
        lineage["status"] = _evolve(out, lineage, world)
        write_lineage(out, lineage)
    watch(RunFinished(lineage["status"], str(out)))
    return lineage


def _evolve(out: Path, lineage: dict[str, Any], world: _World) -> str:
    """Adds generations to the lineage until it ends, and says why."""
    parent = _last(out, lineage, world)
    while (status := _status(world.settings, lineage)) is None:
        number = len(lineage["generations"]) + 1
        try:
            parent, record = _generation(number, parent, world)
        except NonFiniteLoss as error:
            if parent is None:
                raise
            return f"stopped: {error}; generation {number - 1} is the last good one"
        checkpoints.save(out, number, parent)
        lineage["generations"].append(record)
        write_lineage(out, lineage)
        world.watch(GenerationFinished(record))
    return status


def _memory(settings: Settings, model: Model, dataset: Dataset) -> Memory:
    """What training takes.

    Raises:
        ValueError: if not even the network and the images fit into the device's memory.
    """
    images = dataset.train.images
    memory = training_memory(model, settings.recipe, images.shape[1:], len(images))
    limit = available()
    if limit is not None and memory.state + memory.images > limit:
        raise ValueError(
            f"training takes {memory.state / 1e9:.1f} GB for {memory.parameters:,} parameters with "
            f"gradients and the optimizer's state, and {memory.images / 1e9:.1f} GB for images; the "
            f"device has {limit / 1e9:.1f} GB. Take a smaller network, fewer images (subset), or "
            "another device."
        )
    return memory


def _about(dataset: Dataset, world: _World) -> dict[str, Any]:
    """What the record says of the images, with a checksum that tells other ones apart."""
    checksum = 0
    for array in (*dataset.train, *dataset.test):
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return {
        "name": dataset.name,
        "train": len(world.train.labels),
        "holdout": 0 if world.holdout is None else len(world.holdout.labels),
        "test": len(world.test.labels),
        "classes": dataset.classes,
        "image_shape": list(world.shape),
        "crc32": checksum,
    }


def _world(settings: Settings, model: Model, dataset: Dataset, watch: Watch) -> _World:
    shape = dataset.train.images.shape[1:]
    layers = model.layers(shape)
    synthesis = settings.synthesis(model.norms(shape))
    params, batch_stats = jax.eval_shape(lambda key: model.init(key, shape), jax.random.key(0))
    plan = synthesis.layout(params)
    blank = Network(params, batch_stats, jax.eval_shape(synthesis.ancestor, params))
    logits = jax.eval_shape(
        lambda p, b: model.forward(p, b, jnp.zeros((1, *shape)), False)[0], params, batch_stats
    )
    if logits.shape != (1, dataset.classes):
        raise ValueError(
            f"the model gives {logits.shape[-1]} logits, but {dataset.name} has "
            f"{dataset.classes} classes: make the model with classes={dataset.classes}"
        )
    images, labels = dataset.train
    held = _held_out(labels, settings.held_out)
    if settings.held_out > 0 and not held.any():
        raise ValueError(
            f"holdout is {settings.held_out:g}, but no class of {dataset.name} has two training "
            "images: expected at least one to hold out and one to train on"
        )
    train = on_device(images[~held], labels[~held])
    return _World(
        settings=settings,
        model=model,
        shape=shape,
        layers=layers,
        synthesis=synthesis,
        plan=plan,
        blank=blank,
        trainer=trainer(model, settings.recipe),
        sweep=sweeper(model, plan, shape) if settings.sweep else lambda network: network.masks,
        train=train,
        holdout=on_device(images[held], labels[held], train) if held.any() else None,
        test=on_device(*dataset.test, train),
        watch=watch,
    )


def _held_out(labels: np.ndarray, share: float) -> np.ndarray:
    """Which training images are held out: the same share of every class, the same in every run.

    Of every class at least one image is left to train on.
    """
    held = np.zeros(len(labels), bool)
    if share > 0:
        generator = np.random.default_rng(0)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            count = min(max(1, round(share * len(members))), len(members) - 1)
            held[generator.permutation(members)[:count]] = True
    return held


def _last(out: Path, lineage: dict[str, Any], world: _World) -> Network | None:
    """The saved network of the last generation, ``None`` before the first."""
    if not lineage["generations"]:
        return None
    record = lineage["generations"][-1]
    network = checkpoints.restore(out, record["generation"], like=world.blank)
    if _census(network.masks, world).synapses != record["synapses"]:
        raise CheckpointError(
            f"generation {record['generation']} in {out} is not the network of lineage.json. "
            "Put the folder back from a copy, or start a new run in another one with --out."
        )
    return jax.tree.map(jnp.asarray, network)


def _status(settings: Settings, lineage: dict[str, Any]) -> str | None:
    """Why the lineage ends here, or ``None`` if it goes on."""
    generations = lineage["generations"]
    if not generations:
        return None
    last = generations[-1]
    # Rounded, for 97 % less 94 % is more than 3 points in floating point.
    drop = round(100 * (generations[0]["accuracy"] - last["accuracy"]), 9)
    if drop > settings.max_drop:
        return (
            f"stopped: accuracy fell {drop:.2f} points below the ancestor's in generation "
            f"{last['generation']} (max_drop {settings.max_drop:g})"
        )
    if last["generation"] >= settings.generations:
        return f"finished: {last['generation']} generations"
    sized = settings.size_of(last["generation"]) is not None
    if len(generations) > 1 and not sized and last["synapses"] >= generations[-2]["synapses"]:
        return f"stopped: generation {last['generation']} is no smaller than its parent"
    return None


def _generation(
    number: int, parent: Network | None, world: _World
) -> tuple[Network, dict[str, Any]]:
    start = time.perf_counter()
    settings = world.settings
    # A key of its own for each purpose and each offspring, whatever their number.
    key = jax.random.fold_in(jax.random.key(settings.seed), number)
    count = 1 if parent is None else settings.offspring
    candidates: list[_Candidate] = []
    for index in range(count):
        try:
            offspring_key = jax.random.fold_in(key, index)
            candidates.append(_candidate(number, index, count, offspring_key, parent, world))
        except NonFiniteLoss as error:
            failure = error  # Its siblings may fare better.
    if not candidates:
        raise failure
    fittest = max(candidates, key=lambda c: c.holdout_accuracy or 0.0)
    counts = _census(fittest.network.masks, world)
    record = entry(
        number,
        counts,
        world.layers,
        accuracy=world.trainer.evaluate(fittest.network, world.test),
        holdout_accuracy=fittest.holdout_accuracy,
        train_accuracy=fittest.epochs[-1].accuracy,
        loss=fittest.epochs[-1].loss,
        epochs=len(fittest.epochs),
    )
    if fittest.draw is not None:
        draw = fittest.draw
        record |= {
            "cluster_factor": _finite(draw.cluster_factor),
            "synapse_factor": _finite(draw.synapse_factor),
            "capped": bool(draw.capped),
            "rescued": int(draw.rescued),
            "litter": fittest.litter,
            "offspring": [
                {"holdout_accuracy": c.holdout_accuracy, "synapses": c.synapses} for c in candidates
            ],
        }
    return fittest.network, record | {"train_seconds": time.perf_counter() - start}


def _finite(value: jax.Array) -> float | None:
    """A number as JSON can hold it: a factor without bound is ``None``."""
    return float(value) if np.isfinite(value) else None


def _candidate(
    number: int, index: int, count: int, key: jax.Array, parent: Network | None, world: _World
) -> _Candidate:
    settings = world.settings
    network, draw, litter = _conceived(number, key, parent, world)
    synapses = _census(network.masks, world).synapses
    epochs = settings.epochs_of(number)
    later = sum(
        settings.offspring * settings.epochs_of(n)
        for n in range(number + 1, settings.generations + 1)
    )
    if index == 0:
        world.watch(
            GenerationStarted(
                number, settings.generations, count, epochs, synapses, count * epochs + later
            )
        )

    def on_epoch(epoch: int, result: Epoch) -> None:
        event: Event = EpochFinished(
            number, index + 1, epoch, epochs, result.loss, result.accuracy, result.seconds
        )
        world.watch(event)

    network, history = world.trainer.train(
        _purpose(key, "training"), network, world.train, epochs, on_epoch
    )
    holdout = None if world.holdout is None else world.trainer.evaluate(network, world.holdout)
    return _Candidate(network, history, holdout, draw, litter, synapses)


def _conceived(
    number: int, key: jax.Array, parent: Network | None, world: _World
) -> tuple[Network, Draw | None, list[float]]:
    """An ancestor, or the fittest of a litter of `parent`, before its training.

    Returns:
        The network, its draw, and the training losses of its litter where there is more than one.
    """
    settings = world.settings
    ancestor_key = _purpose(jax.random.key(settings.seed), "initial")
    if parent is None:
        params, batch_stats = world.model.init(ancestor_key, world.shape)
        return Network(params, batch_stats, world.synthesis.ancestor(params)), None, []
    losses: list[float] = []
    share = None
    # A ranking would draw the same one again and again.
    size = 1 if settings.encoding == "magnitude" else settings.litter
    for index in range(size):
        mate_key = _purpose(key, "synthesis")
        if index > 0:
            mate_key = jax.random.fold_in(mate_key, index)
        draw, masks, share = _drawn(settings.size_of(number), share, mate_key, parent, world)
        network = conceive(
            _purpose(key, "newborn"), ancestor_key, settings.heredity, world.model, world.shape,
            parent, masks,
        )  # fmt: skip
        if size == 1:
            return network, draw, []
        loss = world.trainer.loss(_purpose(key, "litter"), network, world.train)
        losses.append(loss if np.isfinite(loss) else np.finfo(np.float32).max.item())
        if losses[-1] < min(losses[:-1], default=np.inf):
            born = network, draw
    return *born, losses


def _drawn(
    size: float | None, share: float | None, key: jax.Array, parent: Network, world: _World
) -> tuple[Draw, PyTree, float]:
    """An offspring's draw, and its masks after the sweep, of the size asked for if there is one.

    Args:
        size: its architectural efficiency.
        share: the share of the parent's synapses that led to this size before.
        key: of the draw.
        parent: the parent.
        world: the rest.

    Returns:
        The draw, the masks, and the share that led there.
    """

    def draw(share: float) -> tuple[Draw, PyTree]:
        drawn = world.synthesis.draw(key, parent.params, parent.masks, jnp.float32(share))
        return drawn, world.sweep(parent._replace(masks=drawn.masks))

    def efficiency(masks: PyTree) -> float:
        return _census(masks, world).architectural_efficiency

    if size is None:
        share = world.settings.clusters * world.settings.synapses
        return *draw(share), share
    safe = min(1.0, efficiency(parent.masks) / size)
    return draw_to_size(draw, efficiency, safe, size, share)


def _purpose(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, path_hash(name))


def _census(masks: PyTree, world: _World) -> Any:  # noqa: ANN401
    order = [layer.name for layer in world.layers]
    return census(masks, world.plan, order, classifier=order[-1] if len(order) > 1 else None)
