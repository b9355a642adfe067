"""How offspring come about: parents mate, architectures are drawn to their size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.evolution.heredity import conceive, owning
from evojax.evolution.mates import chosen, filled, mates_of, shared_masks
from evojax.evolution.sizing import draw_to_size
from evojax.evolution.world import World, census_of
from evojax.genetics import Draw
from evojax.genetics.trees import path_hash, taken
from evojax.learning import Network
from evojax.learning.network import PyTree


class Newborn(NamedTuple):
    """A network before its training.

    Attributes:
        network: itself.
        synapses: how many are alive.
        draw: how its architecture came about, without the masks; none for an ancestor.
        litter: training losses of its litter, itself included, where it was chosen from one.
        parents: their places in the population.
    """

    network: Network
    synapses: int
    draw: Draw | None = None
    litter: tuple[float, ...] = ()
    parents: tuple[int, ...] = ()


def ancestor(world: World) -> Newborn:
    """The first network, before its training."""
    params, batch_stats = world.model.init(_initial(world), world.shape)
    network = owning(params, batch_stats, world.synthesis.ancestor(params))
    return Newborn(network, census_of(network.masks, world).synapses)


def offspring(
    number: int, keys: Sequence[jax.Array], population: list[Network], world: World
) -> Iterator[Newborn]:
    """A generation's offspring before their training, each made when it is asked for.

    Parents are let go with their last offspring: the list of them is empty from now on.
    """
    settings, count = world.settings, len(population)
    size = settings.size_of(number)
    fronted = [world.front(network) for network in population]
    everyone = filled(fronted, settings) if settings.population > 1 else fronted[0]
    population.clear()
    mates = [mates_of(purpose(key, "mates"), settings, count) for key in keys]
    passed: dict[tuple[int, ...], float | None] = {}
    for each in dict.fromkeys(mates):
        masks = shared_masks(chosen(everyone, each, settings), world)
        passed[each] = None if size is None else world.efficiency(masks)
    # Those of a population are drawn at once, but where each of them is a search of its own.
    together = settings.population > 1 and settings.litter == 1 and size is None
    draws = _drawn_together(keys, mates, everyone, world) if together else [None] * len(keys)
    return _in_turn(
        deque(
            partial(_newborn, key, everyone, each, size, passed[each], draw, world)
            for key, each, draw in zip(keys, mates, draws, strict=True)
        )
    )


def _in_turn(waiting: deque[Callable[[], Newborn]]) -> Iterator[Newborn]:
    while waiting:
        yield waiting.popleft()()  # Bound to no name, which would keep the parents.


def _drawn_together(
    keys: Sequence[jax.Array], mates: Sequence[tuple[int, ...]], everyone: Network, world: World
) -> list[Draw]:
    """The draws of a generation, by one compiled program."""
    every = jnp.stack([purpose(key, "synthesis") for key in keys])
    draws = world.draws(every, jnp.array(mates), everyone)
    return [taken(draws, index) for index in range(len(keys))]


def _newborn(
    key: jax.Array,
    everyone: Network,
    mates: tuple[int, ...],
    size: float | None,
    passed: float | None,
    draw: Draw | None,
    world: World,
) -> Newborn:
    """An offspring before its training.

    Args:
        key: of this network alone.
        everyone: all possible parents, stacked where a population may be several.
        mates: the places of its parents in the population.
        size: the architectural efficiency that is asked for, if one is.
        passed: that of what its parents pass on, where there is a size.
        draw: of its architecture, where it was drawn already.
        world: the rest.
    """
    settings = world.settings
    parents = chosen(everyone, mates, settings)
    heredity = settings.heredity
    if settings.parents == 1 and heredity in ("mean", "fittest"):
        heredity = "inherit"
    conceived = partial(
        conceive, purpose(key, "newborn"), _initial(world), heredity, world.model, world.shape,
        parents,
    )  # fmt: skip
    losses: tuple[float, ...] = ()
    if draw is None:
        draw, masks, losses = _fittest_drawn(key, parents, size, passed, conceived, world)
    else:
        draw, masks = draw._replace(masks=None), _swept(draw, parents, world)
    return Newborn(conceived(masks), census_of(masks, world).synapses, draw, losses, mates)


def _fittest_drawn(
    key: jax.Array,
    parents: Network,
    size: float | None,
    passed: float | None,
    conceived: Callable[[PyTree], Network],
    world: World,
) -> tuple[Draw, PyTree, tuple[float, ...]]:
    """Of a litter the one with the lowest loss before any training: draw, masks, all losses."""
    settings = world.settings
    # A ranking would draw the same one again and again.
    litter = 1 if settings.encoding == "magnitude" else settings.litter
    first = purpose(key, "synthesis")
    draw, masks, share = _drawn(size, None, first, parents, passed, world)
    if litter == 1:
        return draw, masks, ()
    # One sample for all of them, which is drawn from all images.
    judge = world.trial.loss(purpose(key, "litter"))
    best, losses = (draw, masks), [_finite(judge(conceived(masks)))]
    for index in range(1, litter):
        each = jax.random.fold_in(first, index)
        draw, masks, share = _drawn(size, share, each, parents, passed, world)
        loss = _finite(judge(conceived(masks)))
        if loss < min(losses):
            best = draw, masks
        losses.append(loss)
    return *best, tuple(losses)


def _finite(loss: float) -> float:
    """The loss, or the largest number where it is none: it is never the lowest."""
    return loss if np.isfinite(loss) else np.finfo(np.float32).max.item()


def _drawn(
    size: float | None,
    share: float | None,
    key: jax.Array,
    parents: Network,
    passed: float | None,
    world: World,
) -> tuple[Draw, PyTree, float | None]:
    """An offspring's draw, and its masks after the sweep, of the size asked for if there is one.

    Args:
        size: its architectural efficiency.
        share: the share of the synapses that are passed on that led to this size before.
        key: of the draw.
        parents: stacked where there are several.
        passed: the architectural efficiency of what they pass on, where there is a size.
        world: the rest.

    Returns:
        The draw without its masks, those after the sweep, and the share that led there; none where
        the settings' own did.
    """

    def draw(share: float | None) -> tuple[Draw, PyTree]:
        allowed = None if share is None else jnp.float32(share)
        drawn = world.synthesis.draw(key, parents.params, parents.masks, allowed)
        return drawn._replace(masks=None), _swept(drawn, parents, world)

    if size is None or passed is None:
        return *draw(None), None
    # A millionth less, for a share in float32 is as coarse as that.
    safe = min(1.0, (1 - 1e-6) * passed / size)
    return draw_to_size(draw, world.efficiency, safe, size, share)


def _swept(draw: Draw, parents: Network, world: World) -> PyTree:
    """The masks of a draw after the sweep, for which parents only give shapes."""
    one = parents if world.settings.parents == 1 else taken(parents, 0)
    return world.sweep(one._replace(masks=draw.masks))


def _initial(world: World) -> jax.Array:
    """The key of the ancestor's initial weights."""
    return purpose(jax.random.key(world.settings.seed), "initial")


def purpose(key: jax.Array, name: str) -> jax.Array:
    """A key of its own for each purpose."""
    return jax.random.fold_in(key, path_hash(name))
