"""Training and evaluation: an epoch is one compiled scan over data that sits on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

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


class Trainer(NamedTuple):
    """A model's training and evaluation, compiled once for all generations.

    Attributes:
        train: ``(key, network, images, epochs, on_epoch) -> (network, epochs)``.
        evaluate: ``(network, images) -> accuracy``, a fraction.
        loss: ``(key, network, images) -> loss``, the mean training loss of a random sample of the
            images before any step: batches, augmentation aside, as in training.
    """

    train: Callable[..., tuple[Network, list[Epoch]]]
    evaluate: Callable[[Network, Images], float]
    loss: Callable[[jax.Array, Network, Images], float]


def trainer(model: Model, recipe: Recipe) -> Trainer:
    """Compiles, on first use, a model's epoch and its evaluation.

    One compiled epoch serves every generation and every length of training: masks, keys and
    progress are arguments.
    """
    pure = steps(model, recipe)
    begin, right, sampled_loss = jax.jit(pure.begin), jax.jit(pure.right), jax.jit(pure.loss)

    @partial(jax.jit, donate_argnums=0)
    def epoch(
        state: State, masks: PyTree, data: Images, moment: Moment
    ) -> tuple[State, jax.Array, jax.Array]:
        return pure.epoch(state, masks, data, moment)

    def train(
        key: jax.Array,
        network: Network,
        images: Images,
        epochs: int,
        on_epoch: Callable[[int, Epoch], None] = lambda number, epoch: None,
    ) -> tuple[Network, list[Epoch]]:
        state, history = begin(network), []
        for number in range(epochs):
            start = time.perf_counter()
            moment = Moment(key, *jax.device_put((np.int32(number), np.int32(epochs))))
            state, *shown = epoch(state, network.masks, images, moment)
            loss, accuracy = jax.device_get(shown)
            history.append(Epoch(float(loss), float(accuracy), time.perf_counter() - start))
            if not math.isfinite(history[-1].loss):
                raise broke_down(number + 1, epochs, recipe)
            on_epoch(number + 1, history[-1])
        return Network(state.params, state.batch_stats, network.masks), history

    def evaluate(network: Network, images: Images) -> float:
        return int(right(network, images)) / images.labels.shape[0]

    def loss(key: jax.Array, network: Network, images: Images) -> float:
        return float(sampled_loss(key, network, images))

    return Trainer(train, evaluate, loss)


def broke_down(epoch: int, epochs: int, recipe: Recipe) -> NonFiniteLoss:
    """The error of a training that broke down in an epoch, counted from 1."""
    return NonFiniteLoss(
        f"the loss or a parameter became infinite or not a number in epoch {epoch} of {epochs}: "
        f"lower the learning rate (now {recipe.learning_rate:g}) or sparse_rate (now "
        f"{recipe.sparse_rate:g})"
    )
