"""Training and evaluation: an epoch is one compiled scan over data that sits on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from evojax.data.augment import crop, cutout, flip, shift
from evojax.learning.masking import apply_masks, density, freeze_pruned
from evojax.learning.network import Model, Network
from evojax.learning.recipe import Recipe, compute_dtype, optimizer

PyTree = Any
EVALUATION_BATCH = 500
LOSS_SAMPLE = 1024


class NonFiniteLoss(ArithmeticError):
    """The loss or a parameter became infinite or not a number."""


class Images(NamedTuple):
    """Labelled images on the device, with the statistics that normalise them.

    Attributes:
        images: uint8 (N, H, W, C).
        labels: int32 (N,).
        mean: float32 (C,), of the training images, in units of [0, 1].
        deviation: float32 (C,), likewise.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    deviation: jax.Array


class Epoch(NamedTuple):
    """What one epoch of training showed.

    Attributes:
        loss: mean training loss.
        accuracy: share of training images classified right, as they were trained on.
        seconds: wall-clock time, compilation included.
    """

    loss: float
    accuracy: float
    seconds: float


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


def on_device(images: np.ndarray, labels: np.ndarray, like: Images | None = None) -> Images:
    """Puts labelled images on the device.

    Args:
        images: uint8 (N, H, W, C).
        labels: int (N,).
        like: images whose mean and deviation to use (the training set's); by default their own.

    Raises:
        ValueError: if there are no images, or shapes or types differ.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise ValueError(
            "images must be uint8 of shape (N, H, W, C), at least one; got "
            f"{images.dtype} of shape {images.shape}"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape ({len(images)},), one an image; got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if like is None:
        pixels = images.reshape(-1, images.shape[-1])
        mean = pixels.mean(0, dtype=np.float64) / 255
        deviation = np.maximum(pixels.std(0, dtype=np.float64) / 255, 1e-3)
    else:
        mean, deviation = like.mean, like.deviation
    return Images(
        jnp.asarray(images),
        jnp.asarray(labels, jnp.int32),
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(deviation, jnp.float32),
    )


def trainer(model: Model, recipe: Recipe) -> Trainer:
    """Compiles, on first use, a model's epoch and its evaluation.

    One compiled epoch serves every generation and every length of training: masks, keys and
    progress are arguments.
    """
    tx = optimizer(recipe)
    dtype = compute_dtype(recipe)

    def forward(
        params: PyTree, batch_stats: PyTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, PyTree]:
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        logits, batch_stats = model.forward(params, batch_stats, images.astype(dtype), train)
        return logits.astype(jnp.float32), batch_stats

    def loss_of(
        params: PyTree, batch_stats: PyTree, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
        logits, batch_stats = forward(params, batch_stats, images, True)
        targets = optax.smooth_labels(
            jax.nn.one_hot(labels, logits.shape[-1]), recipe.label_smoothing
        )
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        right = jnp.sum(jnp.argmax(logits, -1) == labels)
        return loss, (batch_stats, right)

    @jax.jit
    def begin(network: Network) -> tuple[PyTree, PyTree, PyTree]:
        # Copies: the epoch takes its arguments' memory, and the caller keeps the network.
        params = jax.tree.map(jnp.copy, apply_masks(network.params, network.masks))
        batch_stats = jax.tree.map(jnp.copy, network.batch_stats)
        return params, batch_stats, optax.chain(tx, freeze_pruned(network.masks)).init(params)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def epoch(
        params: PyTree,
        batch_stats: PyTree,
        opt_state: PyTree,
        masks: PyTree,
        data: Images,
        key: jax.Array,
        done: jax.Array,
        epochs: jax.Array,
    ) -> tuple[PyTree, PyTree, PyTree, jax.Array, jax.Array]:
        count = data.labels.shape[0]
        batch = min(recipe.batch_size, count)
        steps = count // batch
        order_key, augment_key = jax.random.split(jax.random.fold_in(key, done))
        order = jax.random.permutation(order_key, count)[: steps * batch].reshape(steps, batch)
        masked = optax.chain(tx, freeze_pruned(masks))
        alive = density(masks)

        def step(carry: tuple, inputs: tuple) -> tuple[tuple, tuple[jax.Array, jax.Array]]:
            params, batch_stats, opt_state = carry
            index, rows = inputs
            image_key = jax.random.fold_in(augment_key, index)
            images = augment(image_key, data.images[rows], data, recipe)
            gradient = jax.value_and_grad(loss_of, has_aux=True)
            (loss, (batch_stats, right)), grads = gradient(
                params, batch_stats, images, data.labels[rows]
            )
            progress = (done + (index + 0.5) / steps) / epochs
            updates, opt_state = masked.update(
                grads, opt_state, params, progress=progress, density=alive
            )
            return (optax.apply_updates(params, updates), batch_stats, opt_state), (loss, right)

        carry = (params, batch_stats, opt_state)
        carry, (losses, rights) = jax.lax.scan(step, carry, (jnp.arange(steps), order))
        # What the last step did to the parameters shows in no loss yet.
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(carry[:2])]
        loss = jnp.where(jnp.all(jnp.stack(finite)), jnp.mean(losses), jnp.nan)
        return *carry, loss, jnp.sum(rights) / (steps * batch)

    def train(
        key: jax.Array,
        network: Network,
        images: Images,
        epochs: int,
        on_epoch: Callable[[int, Epoch], None] = lambda number, epoch: None,
    ) -> tuple[Network, list[Epoch]]:
        params, batch_stats, opt_state = begin(network)
        history = []
        for number in range(epochs):
            start = time.perf_counter()
            done, total = jax.device_put((np.int32(number), np.int32(epochs)))
            params, batch_stats, opt_state, *shown = epoch(
                params, batch_stats, opt_state, network.masks, images, key, done, total
            )
            loss, accuracy = jax.device_get(shown)
            history.append(Epoch(float(loss), float(accuracy), time.perf_counter() - start))
            if not math.isfinite(history[-1].loss):
                raise NonFiniteLoss(
                    "the loss or a parameter became infinite or not a number in epoch "
                    f"{number + 1} of {epochs}: lower the learning rate (now "
                    f"{recipe.learning_rate:g}) or sparse_rate (now {recipe.sparse_rate:g})"
                )
            on_epoch(number + 1, history[-1])
        return Network(params, batch_stats, network.masks), history

    @jax.jit
    def count_right(params: PyTree, batch_stats: PyTree, data: Images) -> jax.Array:
        count = data.labels.shape[0]
        batch = min(EVALUATION_BATCH, count)
        padding = -count % batch
        images = jnp.pad(data.images, ((0, padding), (0, 0), (0, 0), (0, 0)))
        labels = jnp.pad(data.labels, (0, padding), constant_values=-1)

        def right(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
            logits, _ = forward(params, batch_stats, normalise(chunk[0], data), False)
            return jnp.sum(jnp.argmax(logits, -1) == chunk[1])

        chunks = (images.reshape(-1, batch, *images.shape[1:]), labels.reshape(-1, batch))
        return jnp.sum(jax.lax.map(right, chunks))

    def evaluate(network: Network, images: Images) -> float:
        right = count_right(network.params, network.batch_stats, images)
        return int(right) / images.labels.shape[0]

    @jax.jit
    def sampled_loss(key: jax.Array, network: Network, data: Images) -> jax.Array:
        count = min(LOSS_SAMPLE, data.labels.shape[0])
        batch = min(recipe.batch_size, count)
        order = jax.random.permutation(key, data.labels.shape[0])

        def batch_loss(rows: jax.Array) -> jax.Array:
            images = normalise(data.images[rows], data)
            return loss_of(network.params, network.batch_stats, images, data.labels[rows])[0]

        rows = order[: count // batch * batch].reshape(-1, batch)
        return jnp.mean(jax.lax.map(batch_loss, rows))

    def loss(key: jax.Array, network: Network, images: Images) -> float:
        return float(sampled_loss(key, network, images))

    return Trainer(train, evaluate, loss)


def augment(key: jax.Array, images: jax.Array, data: Images, recipe: Recipe) -> jax.Array:
    """Images as a network is trained on: changed as the recipe says, and normalised.

    Args:
        key: of the training step.
        images: uint8 (N, H, W, C).
        data: the training set, whose mean and deviation normalise them.
        recipe: says by how much to shift, crop, flip and cut out.

    Returns:
        float32 (N, H, W, C).

    Raises:
        ValueError: while tracing, if a shift, crop or cutout is as large as the images or larger.
    """
    # 0 and 1 are left out: folded into a key they give the two keys that drawing whole numbers
    # from it uses inside, so that a flip would follow from the move.
    flip_key, cutout_key = (jax.random.fold_in(key, number) for number in (2, 3))
    if recipe.shift:
        images = shift(key, images, recipe.shift)
    if recipe.crop:
        images = crop(key, images, recipe.crop)
    if recipe.flip:
        images = flip(flip_key, images)
    images = normalise(images, data)
    if recipe.cutout:  # After normalisation, so that what is cut out has the mean colour.
        images = cutout(cutout_key, images, recipe.cutout)
    return images


def normalise(images: jax.Array, data: Images) -> jax.Array:
    """Pixels of uint8 images with zero mean and unit deviation per channel, float32."""
    return (images.astype(jnp.float32) / 255 - data.mean) / data.deviation
