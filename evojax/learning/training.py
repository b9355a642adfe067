"""Training and evaluation: an epoch is one compiled scan over data that sits on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from evojax.learning.images import Images
from evojax.learning.network import Model, Network
from evojax.learning.recipe import Recipe
from evojax.learning.steps import Moment, State, steps

PyTree = Any


class NonFiniteLoss(ArithmeticError):
    """The loss or a parameter became infinite or not a number."""


class Epoch(NamedTuple):
    """What one epoch of training showed.

    Attributes:
        loss: mean training loss.
        accuracy: share of training images classified right, as they were trained on; none where
            nothing is classified.
        seconds: wall-clock time, compilation included.
        waited: for how many of them the device waited for data.
    """

    loss: float
    accuracy: float | None
    seconds: float
    waited: float = 0.0


class PopulationEpoch(NamedTuple):
    """What one epoch of training showed of every member.

    Attributes:
        losses: mean training loss, float32 (N,); NaN from where a member's training broke down.
        accuracies: share of training images classified right, as they were trained on, (N,).
        seconds: wall-clock time, compilation included.
    """

    losses: np.ndarray
    accuracies: np.ndarray
    seconds: float


Shown = TypeVar("Shown", Epoch, PopulationEpoch)


class Trainer(NamedTuple):
    """A model's training and evaluation, compiled once for all generations.

    Attributes:
        train: ``(key, network, images, epochs, on_epoch) -> (network, epochs)``.
        evaluate: ``(network, images) -> accuracy``, a fraction.
        loss: ``(key, images) -> (network) -> loss``, the mean training loss of a random sample of
            the images before any step: batches, augmentation aside, as in training.
    """

    train: Callable[..., tuple[Network, list[Epoch]]]
    evaluate: Callable[[Network, Images], float]
    loss: Callable[[jax.Array, Images], Callable[[Network], float]]


def trainer(model: Model, recipe: Recipe, donate: bool = False) -> Trainer:
    """Compiles, on first use, a model's epoch and its evaluation.

    One compiled epoch serves every generation and every length of training: masks, keys and
    progress are arguments.

    Args:
        model: the model.
        recipe: how it is trained.
        donate: whether training takes the memory of the network that it is given, whose weights and
            running statistics cannot be read any more then (its masks can). By default they stay,
            and training works on a copy.
    """
    pure = steps(model, recipe)
    begin = jax.jit(pure.begin, donate_argnums=(0, 1) if donate else ())
    epoch = jax.jit(pure.epoch, donate_argnums=0)
    right, sample, loss_of = jax.jit(pure.right), jax.jit(pure.sample), jax.jit(pure.loss)

    def train(
        key: jax.Array,
        network: Network,
        images: Images,
        epochs: int,
        on_epoch: Callable[[int, Epoch], None] = lambda number, epoch: None,
    ) -> tuple[Network, list[Epoch]]:
        def trained(state: State, number: int) -> tuple[State, Epoch]:
            moment = Moment(key, *jax.device_put((np.int32(number), np.int32(epochs))))
            state, *shown = epoch(state, network.masks, images, moment)
            loss, accuracy = map(float, jax.device_get(shown))
            if not math.isfinite(loss):
                raise broke_down(number + 1, epochs, recipe)
            return state, Epoch(loss, accuracy, 0.0)

        state, history = in_epochs(trained, begin(*network), epochs, on_epoch)
        return Network(state.params, state.batch_stats, network.masks), history

    def evaluate(network: Network, images: Images) -> float:
        return int(right(network, images)) / images.labels.shape[0]

    def loss(key: jax.Array, images: Images) -> Callable[[Network], float]:
        rows = sample(key, images)
        return lambda network: float(loss_of(rows, network, images))

    return Trainer(train, evaluate, loss)


def in_epochs(
    train: Callable[[State, int], tuple[State, Shown]],
    state: State,
    epochs: int,
    on_epoch: Callable[[int, Shown], None],
) -> tuple[State, list[Shown]]:
    """Trains for so many epochs, and times them.

    Args:
        train: ``(state, number) -> (state, shown)``: one epoch, numbers counted from 0. It takes
            the state's memory.
        state: before the first one.
        epochs: how many.
        on_epoch: told the number of each, counted from 1, and what it showed.

    Returns:
        The state after the last one, and what each showed, its ``seconds`` those that it took.
    """
    history: list[Shown] = []
    for number in range(epochs):
        start = time.perf_counter()
        state, shown = train(state, number)
        history.append(shown._replace(seconds=time.perf_counter() - start))
        on_epoch(number + 1, history[-1])
    return state, history


def broke_down(epoch: int, epochs: int, recipe: Recipe) -> NonFiniteLoss:
    """The error of a training that broke down in an epoch, counted from 1."""
    return NonFiniteLoss(
        f"the loss or a parameter became infinite or not a number in epoch {epoch} of {epochs}: "
        f"lower the learning rate (now {recipe.learning_rate:g}) or sparse_rate (now "
        f"{recipe.sparse_rate:g})"
    )
