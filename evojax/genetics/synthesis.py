"""Offspring synthesis: one compiled program from a parent's weights to its offspring's masks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.channel_drawing import connected, draw_channels, within
from evojax.genetics.channels import (
    Channels,
    channel_gene,
    check_channels,
    living_channels,
    open_to,
)
from evojax.genetics.clusters import Layout, Rule, check_masks, default_rule, layout
from evojax.genetics.drawing import Draw, Parent, draw_offspring
from evojax.genetics.encoding import LARGEST, Dna, Encoding
from evojax.genetics.environment import Environment, kinds_of_shares, portions, require_share
from evojax.genetics.inheritance import inherited, one_parent
from evojax.genetics.mating import Mating
from evojax.genetics.trees import PyTree, flatten


class Synthesis(NamedTuple):
    """The pure functions of offspring synthesis, for parameters of any structure.

    Attributes:
        ancestor: ``(params) -> masks``, all alive; ValueError if a weight is not finite, or beyond
            2^100.
        dna: ``(params, masks) -> Dna``, probabilities before the environment.
        offspring: ``(key, params, masks) -> masks``; jitted, vmaps over keys.
        draw: ``(key, params, masks, share=None) -> Draw``: as `offspring`, with the record of the
            draw, and with another share of the parent to leave than the environment's (a scalar in
            (0, 1], of the same currency) where resources change from generation to generation (R_g
            in Chung et al. 2018, Eq. 1). A `budget` and a ranked encoding heed it. ValueError if it
            is out of range, but for a JAX array: its value is on the device.
        layout: ``(params) -> Layout``, the role of every parameter.
        inheritable: ``(params, masks) -> masks`` of what offspring may have: the parent's, or of
            several what they pass on.
    """

    ancestor: Callable[[PyTree], PyTree]
    dna: Callable[[PyTree, PyTree], Dna]
    offspring: Callable[[jax.Array, PyTree, PyTree], PyTree]
    draw: Callable[..., Draw]
    layout: Callable[[PyTree], Layout]
    inheritable: Callable[[PyTree, PyTree], PyTree]


def synthesis(
    encoding: Encoding,
    environment: Environment,
    rule: Rule = default_rule,
    mating: Mating | None = None,
    channels: Channels | None = None,
) -> Synthesis:
    """Offspring synthesis from an encoding and an environment (Shafiee & Wong 2016, Eq. 3).

    Keys are explicit and reach each parameter by `jax.random.fold_in` of a hash of its path: adding
    a layer changes no other layer's draw. Parameters of one shape are stacked and vmapped, and all
    of it is one compiled program per network shape, without a host transfer.

    Parameters are PyTrees of arrays laid out as Flax lays them out, ``(*space, input, output)``;
    those of libraries that have outputs first (PyTorch, Equinox) must be transposed.

    Args:
        encoding: how weights become probabilities.
        environment: how many clusters and synapses may survive.
        rule: which parameters carry synapses.
        mating: how several parents mate. All arrays given to `dna`, `offspring` and `draw` then
            have one more axis, the first: the parents. Shares are of what the parents can pass on.
        channels: the network's (`evojax.channels`), where the encoding has channels for clusters.

    Returns:
        The functions; each raises ValueError where masks or channels do not fit the parameters or
        nothing carries synapses.

    Raises:
        ValueError: if encoding, environment, mating and channels do not go together.

    Example:
        >>> import jax, jax.numpy as jnp, evojax
        >>> params = {"dense": {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}}
        >>> evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=0.5))
        >>> masks = evolve.offspring(jax.random.key(0), params, evolve.ancestor(params))
        >>> bool(masks["dense"]["kernel"].sum() + masks["dense"]["bias"].sum() <= 18)
        True
    """
    check_together(encoding, environment, mating)
    _require_channels(encoding, environment, channels)
    method = _Method(encoding, environment, rule, mating, channels)
    compiled_dna = jax.jit(functools.partial(_dna, method))
    compiled_draw = jax.jit(functools.partial(_draw, method))
    compiled_inheritable = jax.jit(functools.partial(_inheritable, method))

    def dna(params: PyTree, masks: PyTree) -> Dna:
        method.check(params, masks)
        return compiled_dna(params, masks)

    def draw(
        key: jax.Array, params: PyTree, masks: PyTree, share: float | jax.Array | None = None
    ) -> Draw:
        method.check(params, masks)
        if share is not None:
            if not isinstance(share, jax.Array):
                require_share("share", share)
            share = jnp.asarray(share, jnp.float32)  # One program, whatever kind of number it is.
        return compiled_draw(key, params, masks, share)

    def offspring(key: jax.Array, params: PyTree, masks: PyTree) -> PyTree:
        return draw(key, params, masks).masks

    def inheritable(params: PyTree, masks: PyTree) -> PyTree:
        method.check(params, masks)
        return compiled_inheritable(params, masks)

    ancestor = functools.partial(_ancestor, method)
    return Synthesis(ancestor, dna, offspring, draw, method.layout, inheritable)


class _Method(NamedTuple):
    """What `synthesis` was given: all that is known before there are parameters."""

    encoding: Encoding
    environment: Environment
    rule: Rule
    mating: Mating | None
    channels: Channels | None

    def layout(self, params: PyTree) -> Layout:
        """The role of every parameter of one network."""
        if self.channels is not None:
            check_channels(params, self.channels)
        return layout(params, self.rule, self.encoding.cluster)

    def of_parents(self, params: PyTree) -> Layout:
        """Likewise, of those that several parents share."""
        return self.layout(one_parent(params, self.mating))

    def check(self, params: PyTree, masks: PyTree) -> None:
        """Checks that masks fit the parameters."""
        check_masks(params, masks, self.of_parents(params))


def _ancestor(method: _Method, params: PyTree) -> PyTree:
    """See `Synthesis.ancestor`."""
    plan = method.layout(params)
    leaves, structure = flatten(params)
    _require_finite(leaves, plan)
    alive = [
        None if plan.roles[path] is None else jnp.ones(jnp.shape(leaf), jnp.bool_)
        for path, leaf in leaves.items()
    ]
    return jax.tree.unflatten(structure, alive)


def _dna(method: _Method, params: PyTree, masks: PyTree) -> Dna:
    """See `Synthesis.dna`."""
    plan = method.of_parents(params)
    leaves, structure = flatten(params)
    clusters, synapses = {}, {}
    genes, _ = inherited(params, masks, plan, method.encoding, method.mating)
    for group, gene in zip(plan.groups, genes, strict=True):
        product = jnp.exp(functools.reduce(jnp.add, gene.clusters, jnp.float32(0.0)))
        for index, path in enumerate(group.paths):
            clusters[path] = product[index] if gene.clusters else None
            synapses[path] = jnp.exp(gene.synapses[index])
    channels = method.channels
    return Dna(
        jax.tree.unflatten(structure, [clusters.get(path) for path in leaves]),
        jax.tree.unflatten(structure, [synapses.get(path) for path in leaves]),
        None
        if channels is None
        else jnp.exp(_channels_of(params, masks, plan, method.encoding, channels)[0]),
    )


def _draw(
    method: _Method, key: jax.Array, params: PyTree, masks: PyTree, share: jax.Array | None
) -> Draw:
    """See `Synthesis.draw`."""
    encoding, environment, channels = method.encoding, method.environment, method.channels
    allowed = environment.share if share is None else share
    plan = method.of_parents(params)
    genes, marks = inherited(params, masks, plan, encoding, method.mating)
    parent = Parent(genes, marks, _structure(masks))
    if channels is None:
        return draw_offspring(key, parent, allowed, plan, encoding, environment)
    log, living = _channels_of(params, masks, plan, encoding, channels)
    kinds = len(genes[0].clusters)
    drawn = draw_channels(key, log, living, allowed, kinds, channels, environment)
    alive, rescued = connected(drawn.alive, log, genes, plan, channels)
    left = _left(parent, alive, plan, channels)
    whole = parent.synapses(plan)
    if environment.currency is not None:  # It is spent; other shares are of what is left.
        allowed = math.prod(environment.clusters) * environment.synapses
        whole = left.synapses(plan)
    number = whole[0] + whole[1]
    draw = draw_offspring(key, left, allowed, plan, encoding, environment, number, (drawn.log_f,))
    return draw._replace(
        capped=draw.capped | drawn.capped, rescued=draw.rescued + drawn.rescued + rescued
    )


def _inheritable(method: _Method, params: PyTree, masks: PyTree) -> PyTree:
    """See `Synthesis.inheritable`."""
    plan = method.of_parents(params)
    marks = inherited(params, masks, plan, method.encoding, method.mating)[1]
    return jax.tree.unflatten(_structure(masks), list(marks.values()))


def _structure(masks: PyTree) -> Any:  # noqa: ANN401
    """Theirs, ``None`` kept as a leaf."""
    return jax.tree.structure(masks, is_leaf=lambda mask: mask is None)


def check_together(
    encoding: Encoding, environment: Environment, mating: Mating | None = None
) -> None:
    """Checks that parents can mate, and an environment has a share for each kind of clusters.

    Raises:
        ValueError: if not.
    """
    if environment.currency is not None and "channel" not in encoding.cluster:
        raise ValueError(
            f"a budget of {environment.currency} needs channels for clusters: expected an encoding "
            f"with the cluster 'channel', got {', '.join(encoding.cluster)}"
        )
    if mating is not None and "channel" in encoding.cluster:
        raise ValueError(
            "several parents do not mate by channels: expected other clusters, or no mating"
        )
    portions(environment, kinds_of_shares(encoding, environment), environment.share)


def _require_channels(
    encoding: Encoding, environment: Environment, channels: Channels | None
) -> None:
    wanted = "channel" in encoding.cluster
    if wanted != (channels is not None):
        raise ValueError(
            "the encoding has the cluster 'channel': expected the network's channels, as "
            "synthesis(..., channels=evojax.channels(apply, variables, x))"
            if wanted
            else "channels are given, but the encoding has no cluster 'channel': expected one, as "
            "cluster_driven(cluster='channel')"
        )
    if channels is not None and environment.currency not in {None, *channels.prices}:
        raise ValueError(
            f"the channels have no prices in {environment.currency}, only in "
            f"{', '.join(channels.prices)}: find them with evojax.channels(..., latency=True)"
        )


@jax.jit
def _sound(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {
        path: jnp.all(jnp.abs(jnp.asarray(leaf, jnp.float32)) <= LARGEST)
        for path, leaf in leaves.items()
    }


def _require_finite(leaves: Mapping[str, jax.Array], plan: Layout) -> None:
    """Refuses weights of a training that broke down; of what is traced nothing is known."""
    known = {
        path: leaf
        for path, leaf in leaves.items()
        if plan.roles[path] is not None and not isinstance(leaf, jax.core.Tracer)
    }
    with jax.ensure_compile_time_eval():  # Weights that a traced function closes over are known.
        sound = jax.device_get(_sound(known))  # One program and one transfer for all.
    for path, good in sound.items():
        if not good:
            raise ValueError(
                f"{path} has entries that are infinite, not a number or beyond 2^100: "
                "expected the weights of a trained network. Train it again, with a lower "
                "learning rate."
            )


def _channels_of(
    params: PyTree, masks: PyTree, plan: Layout, encoding: Encoding, channels: Channels
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of the channels, and which are alive in the parent."""
    living = living_channels(masks, plan, channels)
    weights, marks = flatten(params)[0], flatten(masks)[0]
    return channel_gene(weights, marks, plan, encoding, channels, living), living


def _left(parent: Parent, alive: jax.Array, plan: Layout, channels: Channels) -> Parent:
    """What living channels leave of a parent."""
    genes = [
        within(gene, group.paths, alive, channels)
        for group, gene in zip(plan.groups, parent.genes, strict=True)
    ]
    marks = {
        path: mask if mask is None else open_to(alive, channels, path, mask)
        for path, mask in parent.marks.items()
    }
    return Parent(genes, marks, parent.structure)
