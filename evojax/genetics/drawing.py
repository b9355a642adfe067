"""Drawing one offspring: what may live, cut to the budget, with a floor under every layer."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.clusters import Group, Layout, Synapses
from evojax.genetics.encoding import Encoding, Gene
from evojax.genetics.environment import Environment, factors, kinds_of_shares, portions, share_of
from evojax.genetics.reduction import count
from evojax.genetics.sampling import (
    cap,
    floor,
    log_margins,
    ranked_log_margins,
    thin,
    words,
)
from evojax.genetics.trees import PyTree, path_hash

LARGEST_LOG = 88.0
"""About the logarithm of float32's largest number."""


class Draw(NamedTuple):
    """An offspring's architecture and how it came about.

    Attributes:
        masks: PyTree of bool arrays in the parameters' shapes, ``None`` where nothing is pruned.
        cluster_factor: F_c of Eq. 3, float32 scalar; where clusters nest, (kinds,), the outermost
            kind first.
        synapse_factor: F_s of Eq. 3, float32 scalar.
        capped: whether the draw exceeded the budget and was cut back to it.
        rescued: int32, how often the floor acted: number of parameters that it kept from dying out,
            and of families of channels.
    """

    masks: PyTree
    cluster_factor: jax.Array
    synapse_factor: jax.Array
    capped: jax.Array
    rescued: jax.Array


class Parent(NamedTuple):
    """What offspring are drawn from.

    Attributes:
        genes: the groups' log-probabilities.
        marks: masks of what may live, by path.
        structure: of the masks.
    """

    genes: Sequence[Gene]
    marks: Mapping[str, Any]
    structure: Any

    def synapses(self, plan: Layout) -> tuple[jax.Array, jax.Array]:
        """How many are drawn, and how many are not but live with their channel (biases)."""
        drawn = count(*[group.stacked(self.marks) for group in plan.groups])
        undrawn = [
            self.marks[path]
            for path, role in plan.followers.items()
            if role.counted and not role.sampled
        ]
        return drawn, count(jnp.concatenate(undrawn)) if undrawn else jnp.int32(0)


def draw_offspring(
    key: jax.Array,
    parent: Parent,
    share: float | jax.Array,
    plan: Layout,
    encoding: Encoding,
    environment: Environment,
    whole: jax.Array | None = None,
    outer: tuple[jax.Array, ...] = (),
) -> Draw:
    """Draws an offspring.

    Args:
        key: of the draw.
        parent: what it is drawn from.
        share: the share of synapses to leave.
        plan: the parameters' roles.
        encoding: whether there is a ranking in place of a draw, and clusters.
        environment: the rest.
        whole: of what number of synapses it is the share; by default the parent's.
        outer: log F of what was drawn before.
    """
    genes, marks = parent.genes, parent.marks
    drawn, undrawn = parent.synapses(plan)
    whole = drawn + undrawn if whole is None else whole
    log_fcs, log_fs = (jnp.float32(0.0),) * len(genes[0].clusters), jnp.float32(0.0)
    if not encoding.ranked:
        kinds = kinds_of_shares(encoding, environment)
        shares = portions(environment, kinds, share)[kinds - len(log_fcs) :]
        target = share * whole.astype(jnp.float32) - undrawn.astype(jnp.float32)
        clustered = encoding.clustered
        log_fcs, log_fs = factors(environment, genes, shares, drawn, target, clustered)
    limit = jnp.maximum(share_of(whole, share) - undrawn, 0)
    seeds = _seeds(key, plan.groups, len(log_fcs) + 1)
    pairs = list(zip(seeds, genes, strict=True))
    owns: list[Callable[[], jax.Array] | None] = [None] * len(pairs)
    if encoding.ranked:
        margins = ranked_log_margins(seeds, genes, limit)
    else:
        margins = [log_margins(*pair, log_fcs, log_fs) for pair in pairs]
        owns = [
            functools.partial(log_margins, *pair, log_fcs, log_fs, inside=True) for pair in pairs
        ]
    capped = environment.capped or encoding.ranked
    threshold = cap(margins, limit) if capped else jnp.float32(0.0)
    alive, rescued = _survivors(margins, owns, threshold, marks, plan, environment.min_clusters)
    cluster_factors = [_factor(log_fc) for log_fc in (*outer, *log_fcs)]
    return Draw(
        masks=jax.tree.unflatten(parent.structure, [alive.get(path) for path in marks]),
        cluster_factor=jnp.stack(cluster_factors) if cluster_factors[1:] else cluster_factors[0],
        synapse_factor=_factor(log_fs),
        capped=(threshold < 0.0) & (not encoding.ranked),
        rescued=rescued,
    )


def _factor(log: jax.Array) -> jax.Array:
    return jnp.exp(jnp.minimum(log, LARGEST_LOG))


def _seeds(key: jax.Array, groups: Sequence[Group], draws: int) -> list[jax.Array]:
    """Random words of every group's members: from their paths, all at once to compile once."""
    hashes = [path_hash(path) for group in groups for path in group.paths]
    ends = itertools.accumulate(len(group.paths) for group in groups)
    return jnp.split(words(key, jnp.array(hashes, jnp.uint32), draws), list(ends)[:-1])


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
        # Where several of the innermost clusters must live, each does that the floor lifts.
        axes = group.levels[0] if group.levels and min_clusters == 1 else group.axes
        survives = _surviving(margin, own, bounds, threshold, axes)
        living = nearest < bounds[:, None]
        alive |= {path: survives[index] for index, path in enumerate(group.paths)}
        channels |= {path: living[index] for index, path in enumerate(group.paths)}
    for path, role in plan.followers.items():  # A bias dies with its output channel.
        alive[path] = channels[role.of] & (alive[path] if role.sampled else marks[path])
    return alive, rescued
