"""What stays the same from generation to generation: model, data and compiled functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from evojax.deploy import channels
from evojax.evolution.events import Watch
from evojax.evolution.settings import Settings
from evojax.evolution.task import Task, Trial
from evojax.evolution.vestiges import sweeper
from evojax.genetics import (
    Census,
    Channels,
    Draw,
    Layout,
    Rule,
    Synthesis,
    census,
    fronting,
    living,
)
from evojax.genetics.channels import living_channels, spent
from evojax.hosts import Hosts, hosts_of
from evojax.learning import Layer, Model, Network
from evojax.learning.network import PyTree, Shape


class World(NamedTuple):
    """What stays the same from generation to generation.

    Attributes:
        settings: everything that decides the lineage.
        model: the model.
        shape: of an image, (H, W, C).
        layers: the model's, in the order of the forward pass.
        rule: gives parameters their roles.
        synthesis: of offspring.
        plan: the parameters' roles.
        blank: a network's shapes and types.
        outputs: how many of the layers, the last ones, give the outputs.
        judged_by: what the record calls the fitness.
        trial: trains and measures.
        sweep: from a network to its masks without vestiges.
        draws: ``(keys, mates, population) -> draws`` of a whole generation: a key and the places of
            the parents for each offspring, and all possible parents stacked.
        front: from a network to the one that mates: the same, or without gene tags the one with
            its living channels in front.
        channels: of the model, where they are clusters.
        efficiency: from masks to their architectural efficiency, or in the settings' currency.
        watch: called with each event.
        hosts: the processes that do this together.
    """

    settings: Settings
    model: Model
    shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    rule: Rule
    synthesis: Synthesis
    plan: Layout
    blank: Network
    outputs: int
    judged_by: str
    trial: Trial
    sweep: Callable[[Network], PyTree]
    draws: Callable[[jax.Array, jax.Array, Network], Draw]
    front: Callable[[Network], Network]
    channels: Channels | None
    efficiency: Callable[[PyTree], float]
    watch: Watch
    hosts: Hosts


def make_world(
    settings: Settings, model: Model, task: Task, watch: Watch, mesh: Mesh | None = None
) -> World:
    """Makes the functions that are compiled once for all, and puts the data where they take it.

    Args:
        settings: everything that decides the lineage.
        model: the model.
        task: what networks learn.
        watch: called with each event.
        mesh: of devices over which a generation's networks are spread.

    Raises:
        ValueError: if model, settings and data do not fit together.
    """
    shape = task.shape
    params, batch_stats = model.shapes(shape)
    layers = model.layers(shape)
    rule = settings.rule(model.norms(shape), [layer.name for layer in layers[-task.outputs :]])
    found = _channels_of(model, shape, rule) if settings.by_channel else None
    synthesis = settings.synthesis(rule, found)
    plan = synthesis.layout(params)
    blank = Network(params, batch_stats, jax.eval_shape(synthesis.ancestor, params))
    trial, hosts = task.prepare(settings, model, mesh), hosts_of(mesh)
    if hosts.several and trial.together is None:
        raise ValueError(
            "several processes were asked for, but networks that learn this train one after "
            "another: run it in one process"
        )
    return World(
        settings=settings,
        model=model,
        shape=shape,
        layers=layers,
        outputs=task.outputs,
        judged_by=task.judged_by,
        rule=rule,
        synthesis=synthesis,
        plan=plan,
        blank=blank,
        trial=trial,
        sweep=sweeper(model, plan, shape) if settings.sweep else lambda network: network.masks,
        draws=_draws(settings, synthesis),
        front=_front(settings, model, shape, rule, plan),
        channels=found,
        efficiency=_efficiency(settings, plan, blank.masks, found),
        watch=watch,
        hosts=hosts,
    )


def _channels_of(model: Model, shape: Shape, rule: Rule) -> Channels:
    return channels(model.predict, _variables(model, shape), jnp.zeros((1, *shape)), rule=rule)


def _variables(model: Model, shape: Shape) -> PyTree:
    params, batch_stats = model.shapes(shape)
    return {"params": params, "batch_stats": batch_stats}


def _draws(
    settings: Settings, synthesis: Synthesis
) -> Callable[[jax.Array, jax.Array, Network], Draw]:
    @jax.jit
    def draws(keys: jax.Array, mates: jax.Array, population: Network) -> Draw:
        everything = population.params, population.masks
        mates = mates if settings.parents > 1 else mates[:, 0]

        def draw(key: jax.Array, mates: jax.Array) -> Draw:
            return synthesis.draw(key, *jax.tree.map(lambda leaf: leaf[mates], everything))

        if settings.mates_differ:
            return jax.vmap(draw)(keys, mates)
        # Their parents' strengths are worked out only once.
        return jax.vmap(draw, (0, None))(keys, mates[0])

    return draws


def _front(
    settings: Settings, model: Model, shape: Shape, rule: Rule, plan: Layout
) -> Callable[[Network], Network]:
    if settings.tagging:
        return lambda network: network
    try:
        found = _channels_of(model, shape, rule)
    except ValueError as error:
        raise ValueError(
            f"without gene tags (tagging=False) channels are moved, and {error}. Mate with them."
        ) from error
    variables = _variables(model, shape)
    made = fronting(model.predict, variables, jnp.zeros((1, *shape)), found, plan)

    def front(network: Network) -> Network:
        variables = {"params": network.params, "batch_stats": network.batch_stats}
        moved, masks = made.front(variables, network.masks)
        return Network(moved["params"], moved["batch_stats"], masks)

    return front


def _efficiency(
    settings: Settings, plan: Layout, masks: PyTree, found: Channels | None
) -> Callable[[PyTree], float]:
    """From masks to the ancestor's synapses, or cost, over those of the masks.

    Args:
        settings: whose currency it is.
        plan: the parameters' roles.
        masks: of which only shapes matter.
        found: the model's channels, if the currency is not synapses.
    """

    @jax.jit
    def size(masks: PyTree) -> jax.Array:
        if found is None or settings.currency == "synapses":
            return living(masks, plan)
        return spent(living_channels(masks, plan, found), found, settings.currency)

    whole = float(size(jax.tree.map(lambda mask: jnp.ones(mask.shape, bool), masks)))
    return lambda masks: whole / max(float(size(masks)), 1.0)


def compacted_cost(masks: PyTree, world: World) -> dict[str, int]:
    """What is left when dead channels are cut out, where channels are clusters."""
    if world.channels is None:
        return {}
    alive = living_channels(masks, world.plan, world.channels)
    names = {"channels": None, "compacted_macs": "macs", "compacted_parameters": "parameters"}
    return {name: round(float(spent(alive, world.channels, c))) for name, c in names.items()}


def census_of(masks: PyTree, world: World) -> Census:
    """Counts a network, its outputs' layers left out of the cluster efficiency."""
    order = [layer.name for layer in world.layers]
    return census(masks, world.plan, order, order[-world.outputs :])
