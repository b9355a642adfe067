"""A generation's networks: made, trained, and ready to be chosen from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.evolution.events import EpochFinished, Event, GenerationStarted
from evojax.evolution.offspring import Newborn, ancestor, offspring, purpose
from evojax.evolution.task import Together
from evojax.evolution.world import World
from evojax.genetics import Draw
from evojax.genetics.trees import stacked, taken
from evojax.learning import Epoch, Network, NonFiniteLoss
from evojax.learning.population import PopulationEpoch
from evojax.learning.training import broke_down

GONE = Network({}, {}, {})
"""A network whose arrays are let go."""


class Candidate(NamedTuple):
    """A network that may live on if its training succeeded.

    Attributes:
        network: itself; `GONE` where its training broke down, and once it is known that others
            live on in its place.
        synapses: as of a newborn.
        draw: likewise.
        litter: likewise.
        parents: likewise.
        epochs: of its training.
        fitness: on what is held out of the training data, if anything is.
        failure: how its training broke down, if it did.
    """

    network: Network
    synapses: int
    draw: Draw | None
    litter: tuple[float, ...]
    parents: tuple[int, ...]
    epochs: list[Epoch]
    fitness: float | None
    failure: NonFiniteLoss | None = None


def candidates(
    number: int, key: jax.Array, population: list[Network], world: World
) -> list[Candidate]:
    """Draws and trains a generation's networks.

    No network is kept longer than it is needed: parents go with their last offspring.

    Args:
        number: of the generation.
        key: of the generation.
        population: possible parents, the fittest first, emptied; none for an ancestor.
        world: the rest.

    Raises:
        NothingShared: if parents have too little in common.
    """
    count = world.settings.offspring if population else 1
    # A key of its own for each purpose and each offspring, whatever their number.
    keys = [jax.random.fold_in(key, index) for index in range(count)]
    born = offspring(number, keys, population, world) if population else iter([ancestor(world)])
    return _trained(number, keys, born, world)


def _trained(
    number: int, keys: Sequence[jax.Array], born: Iterator[Newborn], world: World
) -> list[Candidate]:
    """Trains a generation's networks, as many at once as the world says."""
    settings, count = world.settings, len(keys)
    epochs = settings.epochs_of(number)
    together = world.trial.together
    # A single network trains as one of several where processes are to see the same come out.
    if together is None or (count == 1 and not world.hosts.several):
        at_once, train = 1, _alone
    else:
        at_once, train = world.hosts.agreed(together.at_once), partial(_together, together)
    everyone: list[Candidate] = []
    while chunk := list(itertools.islice(born, at_once)):
        if not everyone:
            left = count * epochs + settings.offspring * settings.epochs_after(number)
            world.watch(
                GenerationStarted(
                    number, settings.generations, count, epochs, chunk[0].synapses, left
                )
            )
        first = len(everyone)
        training = [purpose(key, "training") for key in keys[first : first + len(chunk)]]

        def on_epoch(index: int, epoch: int, result: Epoch, first: int = first) -> None:
            event: Event = EpochFinished(
                number, first + index + 1, epoch, epochs, result.loss, result.accuracy,
                result.seconds,
            )  # fmt: skip
            world.watch(event)

        everyone += train(training, chunk, epochs, on_epoch, world)
        everyone = _of_the_living(everyone, settings.population)
        chunk.clear()
    return everyone


def fittest(everyone: Sequence[Candidate], count: int) -> list[Candidate]:
    """Those of a generation that live on, so many if as many are sound, the fittest first."""
    sound = [one for one in everyone if one.failure is None]
    # Stable, so that without held-out images they stay in their order.
    return sorted(sound, key=lambda one: -(one.fitness or 0.0))[:count]


def _of_the_living(everyone: Sequence[Candidate], count: int) -> list[Candidate]:
    """The same candidates, without the networks of those that others outdo already."""
    living = {id(one) for one in fittest(everyone, count)}
    return [one if id(one) in living else one._replace(network=GONE) for one in everyone]


OnEpoch = Callable[[int, int, Epoch], None]
"""Is told which network, which epoch, and what the epoch showed."""


def _alone(
    keys: Sequence[jax.Array], born: list[Newborn], epochs: int, on_epoch: OnEpoch, world: World
) -> list[Candidate]:
    """Trains networks one after another, by one compiled program."""
    trained = []
    for index, (key, newborn) in enumerate(zip(keys, born, strict=True)):
        try:
            network, history = world.trial.train(
                key, newborn.network, epochs, partial(on_epoch, index)
            )
        except NonFiniteLoss as failure:
            # Its traceback would keep the training's arrays alive while its siblings train.
            failure = failure.with_traceback(None)
            trained.append(Candidate(*newborn._replace(network=GONE), [], None, failure))
            continue
        fitness = None if world.trial.fitness is None else world.trial.fitness(network)
        newborn = newborn._replace(network=network)
        trained.append(Candidate(*newborn, history, fitness))
    return trained


def _together(
    together: Together,
    keys: Sequence[jax.Array],
    born: list[Newborn],
    epochs: int,
    on_epoch: OnEpoch,
    world: World,
) -> list[Candidate]:
    """Trains networks as one program, spread over the devices, from which they come back."""
    histories: list[list[Epoch]] = [[] for _ in born]

    def each_on_epoch(number: int, result: PopulationEpoch) -> None:
        shown = zip(result.losses.tolist(), result.accuracies.tolist(), strict=True)
        for index, (loss, accuracy) in enumerate(shown):
            epoch = Epoch(loss, accuracy, result.seconds / len(born))
            histories[index].append(epoch)
            on_epoch(index, number, epoch)

    networks = world.hosts.agreed_arrays(stacked([one.network for one in born]))
    born[:] = [one._replace(network=GONE) for one in born]  # They are in the stack now.
    networks = together.train(jnp.stack(list(keys)), networks, epochs, each_on_epoch)
    nothing: list[float | None] = [None] * len(born)
    fitness = nothing if together.fitness is None else together.fitness(networks)
    trained = []
    for index, newborn in enumerate(born):
        broken = [n for n, epoch in enumerate(histories[index], 1) if not np.isfinite(epoch.loss)]
        if broken:
            failure = broke_down(broken[0], epochs, world.settings.recipe)
            trained.append(Candidate(*newborn, [], None, failure))
            continue
        newborn = newborn._replace(network=taken(networks, index))
        trained.append(Candidate(*newborn, histories[index], fitness[index]))
    return trained
