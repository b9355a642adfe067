"""The pure functions of training: an epoch as one scan, evaluation, a sample's loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from evojax.learning.images import Images, augment, normalise
from evojax.learning.masking import apply_masks, density, freeze_pruned
from evojax.learning.network import Model, Network
from evojax.learning.recipe import Recipe, compute_dtype, optimizer
from evojax.learning.split import WHOLE, Split
from evojax.learning.structure import Forward

PyTree = Any
LOSS_SAMPLE = 1024

LossOf = Callable[..., tuple[jax.Array, tuple[PyTree, jax.Array]]]
"""``(params, batch_stats, *batch) -> (loss, (batch_stats, shown))``."""


class State(NamedTuple):
    """What an epoch changes.

    Attributes:
        params: pruned ones are 0.
        batch_stats: running statistics of normalisation.
        opt_state: the optimizer's.
    """

    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree


class Moment(NamedTuple):
    """Where in its training a network is.

    Attributes:
        key: of the training.
        done: how many epochs are done, int32.
        epochs: how many there will be, int32.
    """

    key: jax.Array
    done: jax.Array
    epochs: jax.Array


class Steps(NamedTuple):
    """A model's training as pure functions, for `jax.jit`, `jax.vmap` and `jax.lax.map`.

    Attributes:
        begin: ``(params, batch_stats, masks) -> state``, in memory of its own, or that of weights
            and running statistics where these are donated, with a fresh optimizer.
        epoch: ``(state, masks, images, moment) -> (state, loss, accuracy)``: means over the epoch's
            training images; a loss of NaN where a parameter became infinite or not a number.
        right: ``(network, images) -> int32``, how many are classified right, in batches as large as
            in training.
        sample: ``(key, images) -> rows``, those of a random sample in batches, int32 (n, batch).
        loss: ``(rows, network, images) -> float32``, the mean training loss of a sample.
    """

    begin: Callable[[PyTree, PyTree, PyTree], State]
    epoch: Callable[[State, PyTree, Images, Moment], tuple[State, jax.Array, jax.Array]]
    right: Callable[[Network, Images], jax.Array]
    sample: Callable[[jax.Array, Images], jax.Array]
    loss: Callable[[jax.Array, Network, Images], jax.Array]


def steps(model: Model, recipe: Recipe, split: Split = WHOLE) -> Steps:
    """The functions that train a model by a recipe.

    Args:
        model: the model.
        recipe: how it is trained.
        split: of the batches; all arguments and all results are whole on every device.
    """
    tx, forward = optimizer(recipe), computing(model, recipe)
    loss_of = partial(_batch_loss, forward, recipe.label_smoothing)
    return Steps(
        begin=partial(begin, tx),
        epoch=partial(_epoch, tx, loss_of, recipe, split),
        right=partial(_right, forward, recipe.batch_size, split),
        sample=partial(_sample, recipe.batch_size, split),
        loss=partial(_sampled_loss, loss_of, split),
    )


def _batch_loss(
    forward: Forward,
    smoothing: float,
    params: PyTree,
    batch_stats: PyTree,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
    """A batch's mean loss; the running statistics after it, and how many it classifies right."""
    logits, batch_stats = forward(params, batch_stats, images, True)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    loss = optax.softmax_cross_entropy(logits, targets).mean()
    right = jnp.sum(jnp.argmax(logits, -1) == labels)
    return loss, (batch_stats, right)


def _epoch(
    tx: optax.GradientTransformation,
    loss_of: LossOf,
    recipe: Recipe,
    split: Split,
    state: State,
    masks: PyTree,
    data: Images,
    moment: Moment,
) -> tuple[State, jax.Array, jax.Array]:
    """See `Steps.epoch`; what makes no whole batch is left out, other images in each epoch."""
    key, done, epochs = moment
    count = data.labels.shape[0]
    batch = split.size(recipe.batch_size, count)
    number = count // batch
    order_key, augment_key = jax.random.split(jax.random.fold_in(key, done))
    order = jax.random.permutation(order_key, count)[: number * batch].reshape(number, batch)
    alive = density(masks)

    def step(state: State, inputs: tuple) -> tuple[State, tuple[jax.Array, jax.Array]]:
        index, rows = inputs
        rows = split.share(rows)
        image_key = split.key(jax.random.fold_in(augment_key, index))
        images = augment(image_key, data.images[rows], data, recipe)
        place = (index.astype(jnp.float32) + 0.5) / number
        progress = (done.astype(jnp.float32) + place) / epochs.astype(jnp.float32)
        state, loss, right = descend(
            tx, loss_of, state, masks, (images, data.labels[rows]), progress, alive, split
        )
        return state, (loss, right)

    state, (losses, rights) = jax.lax.scan(step, state, (jnp.arange(number), order))
    right = split.total(jnp.sum(rights))
    return state, mean_loss(losses, state), right / (number * batch)


def _right(
    forward: Forward,
    batch_size: int,
    split: Split,
    network: Network,
    data: Images,
) -> jax.Array:
    """See `Steps.right`; images are padded to whole batches, with a label that no class has."""
    count = data.labels.shape[0]
    batch = min(batch_size, count)
    batch += -batch % split.parts  # Few images make a batch that cannot be shared evenly.
    padding = -count % batch
    images = jnp.pad(data.images, ((0, padding), (0, 0), (0, 0), (0, 0)))
    labels = jnp.pad(data.labels, (0, padding), constant_values=-1)

    def right_of(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, labels = map(split.share, chunk)
        images = normalise(images, data)
        logits, _ = forward(network.params, network.batch_stats, images, False)
        return jnp.sum(jnp.argmax(logits, -1) == labels)

    chunks = (images.reshape(-1, batch, *images.shape[1:]), labels.reshape(-1, batch))
    return split.total(jnp.sum(jax.lax.map(right_of, chunks)))


def _sample(batch_size: int, split: Split, key: jax.Array, data: Images) -> jax.Array:
    """See `Steps.sample`."""
    count = min(LOSS_SAMPLE, data.labels.shape[0])
    batch = split.size(batch_size, count)
    order = jax.random.permutation(key, data.labels.shape[0])
    return order[: count // batch * batch].reshape(-1, batch)


def _sampled_loss(
    loss_of: LossOf, split: Split, rows: jax.Array, network: Network, data: Images
) -> jax.Array:
    """See `Steps.loss`."""

    def batch_loss(rows: jax.Array) -> jax.Array:
        rows = split.share(rows)
        images = normalise(data.images[rows], data)
        return loss_of(network.params, network.batch_stats, images, data.labels[rows])[0]

    return split.mean(jnp.mean(jax.lax.map(batch_loss, rows)))


def computing(model: Model, recipe: Recipe) -> Forward:
    """A model's forward pass in the recipe's type, its outputs float32."""
    dtype = compute_dtype(recipe)

    def forward(
        params: PyTree, batch_stats: PyTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, PyTree]:
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        outputs, batch_stats = model.forward(params, batch_stats, images.astype(dtype), train)
        return outputs.astype(jnp.float32), batch_stats

    return forward


def begin(
    tx: optax.GradientTransformation, params: PyTree, batch_stats: PyTree, masks: PyTree
) -> State:
    """What a training starts from: copies, for an epoch takes its state's memory."""
    params = jax.tree.map(jnp.copy, apply_masks(params, masks))
    batch_stats = jax.tree.map(jnp.copy, batch_stats)
    masked = optax.chain(tx, freeze_pruned(masks))
    return State(params, batch_stats, masked.init(params))


def descend(
    tx: optax.GradientTransformation,
    loss_of: LossOf,
    state: State,
    masks: PyTree,
    batch: tuple,
    progress: jax.Array,
    alive: jax.Array,
    split: Split = WHOLE,
) -> tuple[State, jax.Array, jax.Array]:
    """One step of a masked network's training.

    Args:
        tx: the recipe's optimizer.
        loss_of: ``(params, batch_stats, *batch) -> (loss, (batch_stats, shown))``.
        state: before the step.
        masks: the network's.
        batch: what the step learns from, or this device's share of it.
        progress: share of the training done, in [0, 1].
        alive: share of the network that is alive.
        split: of the batch.

    Returns:
        The state after it, the loss, and what else was shown.
    """
    params, batch_stats, opt_state = state
    gradient = jax.value_and_grad(loss_of, has_aux=True)
    (loss, (batch_stats, shown)), grads = split.mean(gradient(params, batch_stats, *batch))
    masked = optax.chain(tx, freeze_pruned(masks))
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam raises floats to whole numbers.
        updates, opt_state = masked.update(
            grads, opt_state, params, progress=progress, density=alive
        )
    return State(optax.apply_updates(params, updates), batch_stats, opt_state), loss, shown


def mean_loss(losses: jax.Array, state: State) -> jax.Array:
    """The mean of an epoch's losses; NaN where a parameter is infinite or not a number after it."""
    # What the last step did to the parameters shows in no loss yet.
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state[:2])]
    return jnp.where(jnp.all(jnp.stack(finite)), jnp.mean(losses), jnp.nan)
