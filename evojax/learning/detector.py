"""Training of detectors from a stream of batches, a step at a time: images stay on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from evojax.detection import losses, targets
from evojax.learning.masking import density
from evojax.learning.network import Model, Network
from evojax.learning.recipe import Recipe, optimizer
from evojax.learning.steps import State, begin, computing, descend, mean_loss
from evojax.learning.structure import Forward
from evojax.learning.training import Epoch, broke_down, in_epochs

PyTree = Any

GREY = 127.0
"""What is subtracted from pixels, as in DetectNet (detectnet_network.prototxt)."""


Step = Callable[[State, PyTree, tuple, jax.Array], tuple[State, jax.Array]]
"""``(state, masks, batch, progress) -> (state, loss)``; a batch is images, boxes and counts."""


class Batch(Protocol):
    """Training images and the boxes in them."""

    @property
    def images(self) -> np.ndarray:
        """``(B, H, W, 3)`` uint8."""

    @property
    def boxes(self) -> np.ndarray:
        """``(B, M, 4)`` float32: left, top, right, bottom in pixels, from far to near; padded."""

    @property
    def counts(self) -> np.ndarray:
        """``(B,)`` int32: how many of an image's boxes are real."""


class Stream(NamedTuple):
    """Training batches, an epoch at a time.

    Attributes:
        steps: batches in an epoch.
        batches: ``(seed, epoch) -> batches``, all of one shape.
    """

    steps: int
    batches: Callable[[int, int], Generator[Batch, None, None]]


class Detector(NamedTuple):
    """A detector's training and prediction, compiled once for all generations.

    Attributes:
        train: ``(key, network, stream, epochs, on_epoch) -> (network, epochs)``; raises
            `NonFiniteLoss`. Its epochs know no accuracy, but how long the device waited for data.
        loss: ``(network, batches) -> loss``, the mean training loss before any step.
        predict: ``(network, images) -> predictions``: ``(N, H, W, 3)`` uint8 to ``(N, h, w, 5)``
            float32, as `evojax.detection.decode` takes them; dispatched, not waited for.
    """

    train: Callable[..., tuple[Network, list[Epoch]]]
    loss: Callable[[Network, Iterable[Batch]], float]
    predict: Callable[[Network, np.ndarray], jax.Array]


def detector(model: Model, recipe: Recipe, donate: bool = False) -> Detector:
    """Compiles, on first use, a detector's training step and its prediction.

    It is taught `evojax.detection.targets` by `evojax.detection.losses`. Steps are dispatched one
    by one: each takes a hundred times as long as that.

    Args:
        model: the model.
        recipe: how it is trained.
        donate: whether training takes the memory of the network that it is given (`trainer`).
    """
    tx, forward = optimizer(recipe), computing(model, recipe)
    step = jax.jit(step_of(model, recipe), donate_argnums=0)

    @jax.jit
    def batch_loss(network: Network, batch: tuple) -> jax.Array:
        return _loss(forward, network.params, network.batch_stats, *batch)[0]

    @jax.jit
    def predictions(network: Network, images: jax.Array) -> jax.Array:
        return forward(network.params, network.batch_stats, centred(images), False)[0]

    begun = jax.jit(partial(begin, tx), donate_argnums=(0, 1) if donate else ())
    mean = jax.jit(mean_loss)

    def train(
        key: jax.Array,
        network: Network,
        stream: Stream,
        epochs: int,
        on_epoch: Callable[[int, Epoch], None] = lambda number, epoch: None,
    ) -> tuple[Network, list[Epoch]]:
        seed = seed_of(key)

        def trained(state: State, number: int) -> tuple[State, Epoch]:
            shown: list[jax.Array] = []
            waited = 0.0
            # Closed after an error, too: threads that prepare batches end with their stream.
            with closing(stream.batches(seed, number)) as batches:
                for index, (batch, seconds) in enumerate(timed(batches, shown)):
                    progress = np.float32((number + (index + 0.5) / stream.steps) / epochs)
                    state, loss = step(state, network.masks, _arrays(batch), progress)
                    shown.append(loss)
                    waited += seconds
            loss = float(mean(jnp.stack(shown), state))
            if not math.isfinite(loss):
                raise broke_down(number + 1, epochs, recipe)
            return state, Epoch(loss, None, 0.0, waited)

        state, history = in_epochs(trained, begun(*network), epochs, on_epoch)
        return Network(state.params, state.batch_stats, network.masks), history

    def loss(network: Network, batches: Iterable[Batch]) -> float:
        return float(np.mean([batch_loss(network, _arrays(batch)) for batch in batches]))

    def predict(network: Network, images: np.ndarray) -> jax.Array:
        return predictions(network, jnp.asarray(images))

    return Detector(train, loss, predict)


def step_of(model: Model, recipe: Recipe) -> Step:
    """One step of a detector's training, as a pure function."""
    tx, loss_of = optimizer(recipe), partial(_loss, computing(model, recipe))

    def step(
        state: State, masks: PyTree, batch: tuple, progress: jax.Array
    ) -> tuple[State, jax.Array]:
        state, loss, _ = descend(tx, loss_of, state, masks, batch, progress, density(masks))
        return state, loss

    return step


def _loss(
    forward: Forward,
    params: PyTree,
    batch_stats: PyTree,
    images: jax.Array,
    boxes: jax.Array,
    counts: jax.Array,
) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
    """A batch's loss; the running statistics after it, and the coverage's part of it."""
    height, width = images.shape[1:3]
    taught = jax.vmap(lambda b, n: targets(b, n, height, width))(boxes, counts)
    predictions, batch_stats = forward(params, batch_stats, centred(images), True)
    both = losses(predictions, taught)
    return both.total, (batch_stats, both.coverage)


def centred(images: jax.Array) -> jax.Array:
    """Images as a detector sees them: uint8 pixels less `GREY`, float32."""
    return images.astype(jnp.float32) - GREY


def _arrays(batch: Batch) -> tuple[jax.Array, ...]:
    return tuple(jax.device_put((batch.images, batch.boxes, batch.counts)))


def timed(batches: Iterator[Batch], shown: Sequence[jax.Array]) -> Iterator[tuple[Batch, float]]:
    """Batches, each with the seconds that the device waited for it.

    That is while all steps before were done. No more than two are dispatched and not done, so that
    images do not pile up on the device.

    Args:
        batches: of an epoch.
        shown: the losses of the steps so far; grows by one a batch.
    """
    done: list[Future[float]] = []
    # A thread sees when a step ends: this one is then inside `next`, or dispatching.
    with ThreadPoolExecutor(1) as watch:
        while True:
            if len(done) > 1:
                done[-2].result()
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            end = time.perf_counter()
            if done:  # The device was busy until its last step ended, if it has.
                start = max(start, done[-1].result()) if done[-1].done() else end
            yield batch, max(end - start, 0.0)
            done.append(watch.submit(_when_done, shown[-1]))


def _when_done(array: jax.Array) -> float:
    array.block_until_ready()
    return time.perf_counter()


def seed_of(key: jax.Array) -> int:
    """A seed for what is random on the host, 0 to 2**31 - 1."""
    return int(jax.random.bits(key) >> 1)
