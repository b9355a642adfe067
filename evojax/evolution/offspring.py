"""How an offspring comes about: drawn to its size, the fittest of its litter, trained."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.evolution.events import EpochFinished, Event, GenerationStarted
from evojax.evolution.heredity import conceive
from evojax.evolution.sizing import draw_to_size
from evojax.evolution.world import World, census_of
from evojax.genetics import Draw
from evojax.genetics.trees import path_hash
from evojax.learning import Epoch, Network, NonFiniteLoss
from evojax.learning.network import PyTree


class Candidate(NamedTuple):
    """A network that may live on if its training succeeded, and how it came about.

    Attributes:
        network: itself; not trained where its training broke down.
        epochs: of its training.
        holdout_accuracy: a fraction of the held-out images, if there are any.
        draw: of its architecture; none for an ancestor.
        litter: training losses of its litter, itself included, where it was chosen from one.
        synapses: how many are alive.
        failure: how its training broke down, if it did.
    """

    network: Network
    epochs: list[Epoch]
    holdout_accuracy: float | None
    draw: Draw | None
    litter: list[float]
    synapses: int
    failure: NonFiniteLoss | None = None


def candidate(
    number: int, index: int, count: int, key: jax.Array, parent: Network | None, world: World
) -> Candidate:
    """Draws and trains one of a generation's networks.

    Args:
        number: of the generation.
        index: of the network among its siblings, from 0.
        count: of the siblings.
        key: of this network alone.
        parent: its parent; none for an ancestor.
        world: the rest.
    """
    settings = world.settings
    network, draw, litter = _conceived(number, key, parent, world)
    synapses = census_of(network.masks, world).synapses
    epochs = settings.epochs_of(number)
    later = settings.offspring * settings.epochs_after(number)
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

    try:
        network, history = world.trainer.train(
            _purpose(key, "training"), network, world.train, epochs, on_epoch
        )
    except NonFiniteLoss as failure:
        # Its traceback would keep the training's arrays alive while its siblings train.
        return Candidate(network, [], None, draw, litter, synapses, failure.with_traceback(None))
    holdout = None if world.holdout is None else world.trainer.evaluate(network, world.holdout)
    return Candidate(network, history, holdout, draw, litter, synapses)


def _conceived(
    number: int, key: jax.Array, parent: Network | None, world: World
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
    size: float | None, share: float | None, key: jax.Array, parent: Network, world: World
) -> tuple[Draw, PyTree, float | None]:
    """An offspring's draw, and its masks after the sweep, of the size asked for if there is one.

    Args:
        size: its architectural efficiency.
        share: the share of the parent's synapses that led to this size before.
        key: of the draw.
        parent: the parent.
        world: the rest.

    Returns:
        The draw, the masks, and the share that led there; none where the settings' own did.
    """

    def draw(share: float | None) -> tuple[Draw, PyTree]:
        allowed = None if share is None else jnp.float32(share)
        drawn = world.synthesis.draw(key, parent.params, parent.masks, allowed)
        return drawn, world.sweep(parent._replace(masks=drawn.masks))

    if size is None:
        return *draw(None), None
    # A millionth less, for a share in float32 is as coarse as that.
    safe = min(1.0, (1 - 1e-6) * world.efficiency(parent.masks) / size)
    return draw_to_size(draw, world.efficiency, safe, size, share)


def _purpose(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, path_hash(name))
