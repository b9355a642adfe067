"""Offspring synthesis: one compiled program from a parent's weights to its offspring's masks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.clusters import (
    Group,
    Layout,
    Rule,
    Synapses,
    check_masks,
    default_rule,
    layout,
)
from evojax.genetics.encoding import Dna, Encoding
from evojax.genetics.environment import Environment, require_share, share_of
from evojax.genetics.reduction import count
from evojax.genetics.sampling import (
    cap,
    floor,
    log_margins,
    ranked_log_margins,
    synapse_log_margins,
    thin,
    words,
)
from evojax.genetics.trees import PyTree, flatten, path_hash

LARGEST_LOG = 88.0
"""About the logarithm of float32's largest number."""


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
        ancestor: ``(params) -> masks``, all alive; ValueError if a weight is not finite.
        dna: ``(params, masks) -> Dna``, probabilities before the environment.
        offspring: ``(key, params, masks) -> masks``; jitted, vmaps over keys.
        draw: ``(key, params, masks, share=None) -> Draw``: as `offspring`, with the record of the
            draw, and with another share of the parent's synapses to leave than the environment's (a
            scalar in (0, 1]) where resources change from generation to generation (R_g in
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
        _require_finite(leaves, plan)
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
            gene = _encode(encoding, group, _stack(leaves, group), _stack(marks, group))
            for index, path in enumerate(group.paths):
                clusters[path] = jnp.exp(gene.clusters[index])
                synapses[path] = jnp.exp(gene.synapses[index])
        return Dna(
            jax.tree.unflatten(structure, [clusters.get(path) for path in leaves]),
            jax.tree.unflatten(structure, [synapses.get(path) for path in leaves]),
        )

    @jax.jit
    def jitted_draw(key: jax.Array, params: PyTree, masks: PyTree, share: jax.Array | None) -> Draw:
        allowed = environment.share if share is None else share
        return _draw(key, params, masks, allowed, plan_of(params), encoding, environment)

    def dna(params: PyTree, masks: PyTree) -> Dna:
        check_masks(params, masks, plan_of(params))
        return jitted_dna(params, masks)

    def draw(
        key: jax.Array, params: PyTree, masks: PyTree, share: float | jax.Array | None = None
    ) -> Draw:
        check_masks(params, masks, plan_of(params))
        if isinstance(share, float | int):
            require_share("share", share)
        return jitted_draw(key, params, masks, share)

    def offspring(key: jax.Array, params: PyTree, masks: PyTree) -> PyTree:
        return draw(key, params, masks).masks

    return Synthesis(ancestor, dna, offspring, draw, plan_of)


def _require_finite(leaves: Mapping[str, jax.Array], plan: Layout) -> None:
    for path, leaf in leaves.items():
        traced = isinstance(leaf, jax.core.Tracer)
        if plan.roles[path] is not None and not traced and not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(
                f"{path} has entries that are infinite or not a number: expected the weights of a "
                "trained network. Train it again, with a lower learning rate."
            )


def _stack(leaves: Mapping[str, jax.Array], group: Group) -> jax.Array:
    """A group's members on a new first axis; one alone is not copied."""
    members = [leaves[path] for path in group.paths]
    return jnp.stack(members) if len(members) > 1 else jnp.asarray(members[0])[None]


def _encode(encoding: Encoding, group: Group, weights: jax.Array, masks: jax.Array) -> Dna:
    """Log-probabilities of a group's stacked members."""
    return jax.vmap(lambda w, mask: encoding.encode(w, mask, group.axes))(weights, masks)


def _draw(
    key: jax.Array,
    params: PyTree,
    masks: PyTree,
    share: float | jax.Array,
    plan: Layout,
    encoding: Encoding,
    environment: Environment,
) -> Draw:
    leaves, structure = flatten(params)
    marks, _ = flatten(masks)
    stacks = [_stack(marks, group) for group in plan.groups]
    genes = [
        _encode(encoding, group, _stack(leaves, group), stack)
        for group, stack in zip(plan.groups, stacks, strict=True)
    ]
    undrawn = [
        marks[path] for path, role in plan.followers.items() if role.counted and not role.sampled
    ]
    extra = count(jnp.concatenate(undrawn)) if undrawn else jnp.int32(0)
    parent = count(*stacks) + extra
    log_fc, log_fs = jnp.float32(0.0), jnp.float32(0.0)
    if not encoding.ranked:
        log_fc, log_fs = environment.factors(genes, parent, extra, share, encoding.clustered)
    limit = jnp.maximum(share_of(parent, share) - extra, 0)
    seeds = _seeds(key, plan.groups)
    pairs = list(zip(seeds, genes, strict=True))
    owns: list[Callable[[], jax.Array] | None] = [None] * len(pairs)
    if encoding.ranked:
        margins = ranked_log_margins(seeds, genes, limit)
    else:
        margins = [log_margins(*pair, log_fc, log_fs) for pair in pairs]
        owns = [partial(synapse_log_margins, *pair, log_fs) for pair in pairs]
    capped = environment.capped or encoding.ranked
    threshold = cap(margins, limit) if capped else jnp.float32(0.0)
    alive, rescued = _survivors(margins, owns, threshold, marks, plan, environment.min_clusters)
    return Draw(
        masks=jax.tree.unflatten(structure, [alive.get(path) for path in leaves]),
        cluster_factor=jnp.exp(jnp.minimum(log_fc, LARGEST_LOG)),
        synapse_factor=jnp.exp(jnp.minimum(log_fs, LARGEST_LOG)),
        capped=(threshold < 0.0) & (not encoding.ranked),
        rescued=rescued,
    )


def _seeds(key: jax.Array, groups: Sequence[Group]) -> list[jax.Array]:
    """Random words of every group's members: from their paths, all at once to compile once."""
    hashes = [path_hash(path) for group in groups for path in group.paths]
    ends = itertools.accumulate(len(group.paths) for group in groups)
    return jnp.split(words(key, jnp.array(hashes, jnp.uint32)), list(ends)[:-1])


def _surviving(
    margin: jax.Array,
    own: Callable[[], jax.Array] | None,
    bounds: jax.Array,
    threshold: jax.Array,
    axes: tuple[int, ...],
) -> jax.Array:
    """Masks of a group: what its floor lifts above the threshold is thinned by its own draws."""
    limits = bounds.reshape(-1, *[1] * (margin.ndim - 1))
    if own is None or not axes:  # A ranking, or synapses that are their own clusters.
        return margin < limits
    return jax.lax.cond(
        jnp.any(bounds > threshold),
        lambda: thin(margin, own(), limits, threshold, axes),
        lambda: margin < limits,
    )


def _survivors(
    margins: Sequence[jax.Array],
    owns: Sequence[Callable[[], jax.Array] | None],
    threshold: jax.Array,
    marks: Mapping[str, jax.Array],
    plan: Layout,
    min_clusters: int,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Masks of all parameters, and the number of those that the floor kept from dying out."""
    alive: dict[str, jax.Array] = {}
    channels: dict[str, jax.Array] = {}
    rescued = jnp.int32(0)
    for group, margin, own in zip(plan.groups, margins, owns, strict=True):
        bounds = jnp.broadcast_to(threshold, len(group.paths))
        nearest = jnp.min(margin, axis=tuple(range(1, margin.ndim - 1)))
        if isinstance(plan.roles[group.paths[0]], Synapses):  # A layer may lose every bias.
            lowest = floor(margin, nearest, group.axes, min_clusters)
            rescued += jnp.sum(lowest > bounds, dtype=jnp.int32)
            bounds = jnp.maximum(lowest, bounds)
        survives = _surviving(margin, own, bounds, threshold, group.axes)
        living = nearest < bounds[:, None]
        alive |= {path: survives[index] for index, path in enumerate(group.paths)}
        channels |= {path: living[index] for index, path in enumerate(group.paths)}
    for path, role in plan.followers.items():  # A bias dies with its output channel.
        alive[path] = channels[role.of] & (alive[path] if role.sampled else marks[path])
    return alive, rescued
