"""Who mates with whom, and whether parents have anything to pass on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from evojax.evolution.settings import Settings
from evojax.evolution.world import World
from evojax.genetics import Synapses
from evojax.genetics.trees import flatten, stacked, taken
from evojax.learning import Network
from evojax.learning.network import PyTree


class NothingShared(ArithmeticError):
    """Parents have so little in common that a layer would be left without synapses."""


def mates_of(key: jax.Array, settings: Settings, living: int) -> tuple[int, ...]:
    """An offspring's parents, by their places in the population, the fittest first.

    Args:
        key: of the choice, where it is random.
        settings: say how many, and which.
        living: networks that there really are; the first stand in for those that are missing.
    """
    drawn: Sequence[int] = range(settings.parents)
    if settings.mates_differ:
        drawn = jax.random.permutation(key, settings.population)[: settings.parents].tolist()
    return tuple(sorted(place % living for place in drawn))


def filled(population: Sequence[Network], settings: Settings) -> Network:
    """A population of the full size on the first axis of every array.

    The ancestor stands for the whole of its generation; and where trainings broke down, the fittest
    stand in for those that are missing.
    """
    networks = [population[index % len(population)] for index in range(settings.population)]
    return stacked(networks)


def chosen(population: Network, mates: Sequence[int], settings: Settings) -> Network:
    """Of a stacked population the parents, stacked; neither is where there is only one."""
    if settings.population == 1:
        return population
    return taken(population, np.array(mates) if settings.parents > 1 else mates[0])


def shared_masks(parents: Network, world: World) -> PyTree:
    """Masks of what parents pass on.

    Args:
        parents: stacked on the first axis where there are several.
        world: the rest.

    Raises:
        NothingShared: if that leaves a layer without synapses.
    """
    if world.settings.parents == 1:
        return parents.masks
    masks = world.synthesis.inheritable(parents.params, parents.masks)
    if barren := _barren(masks, world):
        settings = world.settings
        raise NothingShared(
            f"the parents share no synapses in {', '.join(barren)} that chi {settings.chi:g} of "
            f"{settings.parents} would pass on; {_advice(parents, world)}"
        )
    return masks


def _advice(parents: Network, world: World) -> str:
    """The largest chi by which every layer would have synapses, in words, if there is one."""
    settings = world.settings
    for enough in range(settings.parents - 1, 0, -1):
        lower = dataclasses.replace(settings, chi=enough / settings.parents)
        synthesis = lower.synthesis(world.rule)
        if not _barren(synthesis.inheritable(parents.params, parents.masks), world):
            # Rounded down, for a little more would ask for one more parent.
            chi = math.floor(1e4 * lower.chi) / 1e4
            return f"the largest chi that leaves every layer some is {chi:g}"
    return "no chi would help: expected fewer parents, or more synapses in their offspring"


def _barren(masks: PyTree, world: World) -> list[str]:
    """Parameters that carry synapses, but none that lives."""
    marks, _ = flatten(masks)
    paths = [path for path, role in world.plan.roles.items() if isinstance(role, Synapses)]
    alive = jax.device_get(_any({path: marks[path] for path in paths}))
    return [path for path in paths if not alive[path]]


@jax.jit
def _any(masks: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.any, masks)
