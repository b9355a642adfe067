"""What networks learn and how they are judged, as the generation loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from evojax.evolution.settings import Settings
from evojax.genetics.trees import flatten
from evojax.learning import Epoch, Memory, Model, Network
from evojax.learning.network import Shape
from evojax.learning.population import PopulationEpoch

OnEpoch = Callable[[int, Epoch], None]
"""Is told the number of an epoch, counted from 1, and what it showed."""


class DataLost(RuntimeError):
    """Data that a run began with cannot be read any more."""


class Together(NamedTuple):
    """Training of several networks as one program.

    Attributes:
        at_once: how many of them.
        train: ``(keys, networks, epochs, on_epoch) -> networks``, stacked on the first axis of
            every array; on_epoch is told an epoch's number and its `PopulationEpoch`. The memory of
            the networks that are given is taken, but for their masks'.
        fitness: ``(networks) -> fitness`` of each, as `Trial.fitness`.
    """

    at_once: int
    train: Callable[[jax.Array, Network, int, Callable[[int, PopulationEpoch], None]], Network]
    fitness: Callable[[Network], list[float]] | None


class Trial(NamedTuple):
    """A task with all its functions compiled and its data at hand.

    Attributes:
        train: ``(key, network, epochs, on_epoch) -> (network, epochs)``; raises `NonFiniteLoss`. It
            may take the memory of the network that it is given, but for its masks'.
        loss: ``(key) -> (network) -> loss``, the mean training loss of a random sample.
        fitness: ``(network) -> fitness`` in [0, 1] on what is held out of the training data; none
            where nothing is.
        measure: ``(network) -> measures`` on the test data, for the record: ``accuracy``, or
            ``precision`` and ``recall``, as fractions, and whatever else JSON can hold.
        together: for several networks at once; none where they train one after another.
    """

    train: Callable[[jax.Array, Network, int, OnEpoch], tuple[Network, list[Epoch]]]
    loss: Callable[[jax.Array], Callable[[Network], float]]
    fitness: Callable[[Network], float] | None
    measure: Callable[[Network], dict[str, Any]]
    together: Together | None = None


class Task(NamedTuple):
    """What networks learn; nothing is allocated yet.

    Attributes:
        name: of the data, as the record calls it.
        shape: of an image, (H, W, C).
        outputs: how many of a model's layers, the last ones, give its outputs. They are left out
            of the cluster efficiency.
        judged_by: what the record calls the fitness.
        config: what decides a lineage beside settings and data, as JSON gives it back.
        check: ``(settings, model, mesh)``; raises a ValueError if it cannot learn this so.
        memory: ``(settings, model, mesh) -> memory`` that training takes; raises a ValueError where
            there is not enough.
        record: ``(settings) -> record`` of the data, with checksums that tell other data apart.
        prepare: ``(settings, model, mesh) -> trial``; raises a ValueError if they do not fit.
        files: ``() -> {path: content}``: what the report shows of the data, for the run's folder.
        source: where the data were read, for people to see; no record holds it.
    """

    name: str
    shape: Shape
    outputs: int
    judged_by: str
    config: dict[str, Any]
    check: Callable[[Settings, Model, Mesh | None], None]
    memory: Callable[[Settings, Model, Mesh | None], Memory]
    record: Callable[[Settings], dict[str, Any]]
    prepare: Callable[[Settings, Model, Mesh | None], Trial]
    files: Callable[[], Mapping[str, bytes]] = dict
    source: str = ""


def check_outputs(model: Model, image_shape: Shape, wanted: Shape, why: str) -> None:
    """Checks that a model can be trained to give certain outputs, before anything is allocated.

    Args:
        model: the model.
        image_shape: (H, W, C).
        wanted: the shape of its outputs for one image.
        why: which that are, and what to do, for the message.

    Raises:
        ValueError: if it has something else than floating-point parameters with entries, or gives
            something else.
    """
    params, batch_stats = model.shapes(image_shape)
    for path, leaf in flatten(params)[0].items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"the parameter {path} is {leaf.dtype}, which cannot be trained: expected floating "
                "point. Make it a constant of the model."
            )
        if 0 in leaf.shape:
            raise ValueError(
                f"the parameter {path} has no entries (shape {leaf.shape}), and cannot be saved: "
                "expected at least one. Make a model without it."
            )
    outputs = jax.eval_shape(
        lambda p, b: model.forward(p, b, jnp.zeros((1, *image_shape)), False)[0],
        params, batch_stats,
    )  # fmt: skip
    given = getattr(outputs, "shape", f"none (a {type(outputs).__name__})")
    if given != wanted:
        raise ValueError(
            f"the model gives outputs of shape {given} for one image: expected {wanted}, {why}"
        )
