"""Offspring synthesis: one compiled program from a parent's weights to its offspring's masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.clusters import (
    Follows,
    Group,
    Layout,
    Rule,
    check_masks,
    default_rule,
    layout,
)
from evojax.genetics.encoding import Dna, Encoding
from evojax.genetics.environment import Environment
from evojax.genetics.sampling import floor_threshold, largest_threshold, log_uniform, words
from evojax.genetics.trees import PyTree, flatten, path_hash


class Draw(NamedTuple):
    """An offspring's architecture and how it came about.

    Attributes:
        masks: PyTree of bool arrays in the parameters' shapes, ``None`` where nothing is pruned.
        cluster_factor: F_c of Eq. 3, float32 scalar.
        synapse_factor: F_s of Eq. 3, float32 scalar.
        capped: whether the draw exceeded the budget and was cut back to it.
        rescued: int32, number of parameters that the floor of clusters kept from dying out.
    """

    masks: PyTree
    cluster_factor: jax.Array
    synapse_factor: jax.Array
    capped: jax.Array
    rescued: jax.Array


class Synthesis(NamedTuple):
    """The pure functions of offspring synthesis, for parameters of any structure.

    Attributes:
        ancestor: ``(params) -> masks``, all alive.
        dna: ``(params, masks) -> Dna``, probabilities before the environment.
        offspring: ``(key, params, masks) -> masks``; jitted, vmaps over keys.
        draw: ``(key, params, masks, share=None) -> Draw``: as `offspring`, with the record of the
            draw, and with another share of the parent's synapses to leave than the environment's (a
            float32 scalar in (0, 1]) where resources change from generation to generation (R_g in
            Chung et al. 2018, Eq. 1); only a `budget` heeds it.
        layout: ``(params) -> Layout``, the role of every parameter.
    """

    ancestor: Callable[[PyTree], PyTree]
    dna: Callable[[PyTree, PyTree], Dna]
    offspring: Callable[[jax.Array, PyTree, PyTree], PyTree]
    draw: Callable[..., Draw]
    layout: Callable[[PyTree], Layout]


def synthesis(encoding: Encoding, environment: Environment, rule: Rule = default_rule) -> Synthesis:
    """Offspring synthesis from an encoding and an environment (Shafiee & Wong 2016, Eq. 3).

    Keys are explicit and reach each parameter by `jax.random.fold_in` of a hash of its path: adding
    a layer changes no other layer's draw. Parameters of one shape are stacked and vmapped, and all
    of it is one compiled program per network shape, without a host transfer.

    Args:
        encoding: how weights become probabilities.
        environment: how many clusters and synapses may survive.
        rule: which parameters carry synapses.

    Returns:
        The functions; each raises ValueError where masks do not fit the parameters or nothing
        carries synapses.

    Example:
        >>> import jax, jax.numpy as jnp, evojax
        >>> params = {"dense": {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}}
        >>> evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=0.5))
        >>> masks = evolve.offspring(jax.random.key(0), params, evolve.ancestor(params))
        >>> bool(masks["dense"]["kernel"].sum() + masks["dense"]["bias"].sum() <= 18)
        True
    """

    def plan_of(params: PyTree) -> Layout:
        return layout(params, rule, encoding.cluster)

    def ancestor(params: PyTree) -> PyTree:
        plan = plan_of(params)
        leaves, structure = flatten(params)
        alive = [
            None if plan.roles[path] is None else jnp.ones(jnp.shape(leaf), jnp.bool_)
            for path, leaf in leaves.items()
        ]
        return jax.tree.unflatten(structure, alive)

    @jax.jit
    def jitted_dna(params: PyTree, masks: PyTree) -> Dna:
        plan = plan_of(params)
        leaves, structure = flatten(params)
        marks, _ = flatten(masks)
        clusters, synapses = {}, {}
        for group in plan.groups:
            gene = _encode(encoding, group, leaves, marks)
            for index, path in enumerate(group.paths):
                clusters[path] = jnp.exp(gene.clusters[index])
                synapses[path] = jnp.exp(gene.synapses[index])
        return Dna(
            jax.tree.unflatten(structure, [clusters.get(path) for path in leaves]),
            jax.tree.unflatten(structure, [synapses.get(path) for path in leaves]),
        )

    @jax.jit
    def jitted_draw(key: jax.Array, params: PyTree, masks: PyTree, share: jax.Array | None) -> Draw:
        allowed = jnp.float32(environment.share) if share is None else share
        return _draw(key, params, masks, allowed, plan_of(params), encoding, environment)

    def dna(params: PyTree, masks: PyTree) -> Dna:
        check_masks(params, masks, plan_of(params))
        return jitted_dna(params, masks)

    def draw(key: jax.Array, params: PyTree, masks: PyTree, share: jax.Array | None = None) -> Draw:
        check_masks(params, masks, plan_of(params))
        return jitted_draw(key, params, masks, share)

    def offspring(key: jax.Array, params: PyTree, masks: PyTree) -> PyTree:
        return draw(key, params, masks).masks

    return Synthesis(ancestor, dna, offspring, draw, plan_of)


def _encode(
    encoding: Encoding,
    group: Group,
    leaves: Mapping[str, jax.Array],
    marks: Mapping[str, jax.Array],
) -> Dna:
    """Log-probabilities of a group, its members stacked on a new first axis."""
    weights = jnp.stack([leaves[path] for path in group.paths])
    masks = jnp.stack([marks[path] for path in group.paths])
    return jax.vmap(partial(encoding.encode, axes=group.axes))(weights, masks)


def _draw(
    key: jax.Array,
    params: PyTree,
    masks: PyTree,
    share: jax.Array,
    plan: Layout,
    encoding: Encoding,
    environment: Environment,
) -> Draw:
    leaves, structure = flatten(params)
    marks, _ = flatten(masks)
    genes = [_encode(encoding, group, leaves, marks) for group in plan.groups]
    drawn = sum(jnp.sum(marks[path]) for group in plan.groups for path in group.paths)
    extra = sum(
        (jnp.sum(marks[path]) for path, role in plan.followers.items() if not role.sampled),
        start=jnp.int32(0),
    )
    log_fc, log_fs = environment.factors(genes, drawn + extra, extra, share)
    limit = jnp.floor(share * (drawn + extra)).astype(jnp.int32) - extra
    if encoding.ranked:
        margins = [-gene.synapses for gene in genes]
    else:
        margins = [
            _margins(key, group, gene, log_fc, log_fs)
            for group, gene in zip(plan.groups, genes, strict=True)
        ]
    threshold, capped = _threshold(margins, limit, encoding, environment)
    alive: dict[str, jax.Array] = {}
    rescued = jnp.int32(0)
    for group, margin in zip(plan.groups, margins, strict=True):
        floor = jax.vmap(partial(_floor, group=group, environment=environment))(margin)
        if any(isinstance(plan.roles[path], Follows) for path in group.paths):
            floor = jnp.full_like(floor, -jnp.inf)  # A layer may lose every bias.
        rescued += jnp.sum(floor > threshold)
        bounds = jnp.maximum(threshold, floor).reshape(-1, *[1] * len(group.shape))
        survives = margin < bounds
        alive |= {path: survives[index] for index, path in enumerate(group.paths)}
    alive |= _follow(alive, marks, plan)
    return Draw(
        masks=jax.tree.unflatten(structure, [alive.get(path) for path in leaves]),
        cluster_factor=jnp.exp(log_fc),
        synapse_factor=jnp.exp(log_fs),
        capped=capped,
        rescued=rescued,
    )


def _floor(margin: jax.Array, group: Group, environment: Environment) -> jax.Array:
    return floor_threshold(margin, group.axes, environment.min_clusters)


def _margins(
    key: jax.Array, group: Group, gene: Dna, log_fc: jax.Array, log_fs: jax.Array
) -> jax.Array:
    """Log-margins of a group's synapses: both factors of Eq. 3, inf where the parent has none."""
    seeds = words(key, jnp.array([path_hash(path) for path in group.paths], jnp.uint32))
    clusters = jnp.minimum(0.0, log_fc + gene.clusters)
    synapses = jnp.minimum(0.0, log_fs + gene.synapses)
    draw = jax.vmap(log_uniform, in_axes=(0, None))
    if gene.clusters.shape == gene.synapses.shape:
        # A 1x1 kernel or a dense weight is its own cluster: both factors apply, in one draw.
        return draw(seeds[:, 2:], group.shape) - (clusters + synapses)
    cluster_margins = draw(seeds[:, :2], gene.clusters.shape[1:]) - clusters
    return jnp.maximum(cluster_margins, draw(seeds[:, 2:], group.shape) - synapses)


def _threshold(
    margins: list[jax.Array], limit: jax.Array, encoding: Encoding, environment: Environment
) -> tuple[jax.Array, jax.Array]:
    """The network's threshold: 0, or below it where the draw exceeds the cap."""

    def count_below(threshold: jax.Array) -> jax.Array:
        return sum(jnp.sum(margin < threshold, dtype=jnp.int32) for margin in margins)

    if encoding.ranked:
        finite = [jnp.where(jnp.isfinite(margin), margin, -jnp.inf) for margin in margins]
        highest = jnp.max(jnp.stack([jnp.max(values) for values in finite])) + 1.0
        lowest = jnp.min(jnp.stack([jnp.min(margin) for margin in margins])) - 1.0
        return (
            largest_threshold(count_below, limit, (lowest, highest), jnp.int32(0)),
            jnp.bool_(False),
        )
    count = count_below(jnp.float32(0.0))
    capped = (count > limit) & environment.capped
    # Scaling all probabilities by limit / count is nearly right; twice that is surely enough.
    wanted = jnp.log(jnp.maximum(limit, 1) / jnp.maximum(count, 1))
    low = jnp.where(capped, 2.0 * wanted - 0.01, 0.0)
    tolerance = limit // 20_000
    bounds = (low, jnp.float32(0.0))
    return largest_threshold(count_below, limit, bounds, tolerance), capped


def _follow(
    alive: Mapping[str, jax.Array], marks: Mapping[str, jax.Array], plan: Layout
) -> dict[str, jax.Array]:
    """Masks of per-channel parameters: a bias dies with its output channel."""
    followers = {}
    for path, role in plan.followers.items():
        kernel = alive[role.of]
        channels = jnp.any(kernel, axis=tuple(range(kernel.ndim - 1)))
        followers[path] = channels & (alive[path] if role.sampled else marks[path])
    return followers
