"""Drawing channels: which live within a budget, with a floor under families and layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.channels import Channels, family_rows, in_rows, open_to, places, spent
from evojax.genetics.clusters import Layout, Synapses
from evojax.genetics.encoding import Gene
from evojax.genetics.environment import Environment, channel_factor, portions
from evojax.genetics.sampling import LOWEST_LOG_UNIFORM, log_uniform, words
from evojax.genetics.search import search
from evojax.genetics.trees import path_hash


class ChannelDraw(NamedTuple):
    """Which channels live, and how it came about.

    Attributes:
        alive: bool (channels,).
        log_f: log F of the channels, float32 scalar.
        capped: whether more were drawn than the budget allows, and cut back to it.
        rescued: int32, number of families that the floor kept from dying out.
    """

    alive: jax.Array
    log_f: jax.Array
    capped: jax.Array
    rescued: jax.Array


def draw_channels(
    key: jax.Array,
    log: jax.Array,
    parent: jax.Array,
    share: float | jax.Array,
    kinds: int,
    channels: Channels,
    environment: Environment,
) -> ChannelDraw:
    """Draws which channels live.

    Args:
        key: of the draw.
        log: log-probabilities.
        parent: which live in the parent, bool (channels,).
        share: the share of the environment's currency to leave.
        kinds: how many kinds of clusters are drawn within channels.
        channels: of the network.
        environment: how many may live. Of each family `min_clusters` do.
    """
    cost = functools.partial(spent, channels=channels, currency=environment.currency)
    before = cost(parent)
    if environment.currency is None:
        share = portions(environment, kinds + 1, share)[0]
    if environment.solved:
        log_f = channel_factor(share, log, cost, before)
    else:
        log_f = jnp.log(jnp.asarray(share, jnp.float32))
    rows = family_rows(channels)
    hashes = jnp.array([path_hash(f"channels of {name}") for name in channels.families], jnp.uint32)
    uniforms = jax.vmap(log_uniform, in_axes=(0, None))(words(key, hashes, 1)[:, 0], rows.shape[1:])
    margins = uniforms - in_rows(jnp.minimum(0.0, log_f + log), rows, -jnp.inf)
    threshold = jnp.float32(0.0)

    def living(threshold: jax.Array) -> jax.Array:
        alive = jnp.zeros(channels.number, bool)
        return alive.at[places(rows, channels)].set(margins < threshold, mode="drop")

    if environment.currency is not None:
        limit = jnp.asarray(share * before, jnp.float32)
        threshold = search(lambda t: cost(living(t)), limit, LOWEST_LOG_UNIFORM, 0.0, 0.0)
    few = min(environment.min_clusters, rows.shape[1])
    nearest = -jax.lax.top_k(-margins, few)[0]
    last = jnp.max(jnp.where(nearest < jnp.inf, nearest, -jnp.inf), axis=1)
    lowest = jnp.nextafter(last, jnp.inf)
    bounds = jnp.maximum(threshold, lowest)
    rescued = jnp.sum(lowest > threshold, dtype=jnp.int32)
    return ChannelDraw(living(bounds[:, None]), log_f, threshold < 0.0, rescued)


def connected(
    alive: jax.Array,
    log: jax.Array,
    genes: Sequence[Gene],
    plan: Layout,
    channels: Channels,
) -> tuple[jax.Array, jax.Array]:
    """Keeps layers from dying because no living synapse has both its channels.

    Of such a layer the channels of the likeliest synapse live, beyond the budget if need be.

    Args:
        alive: which channels were drawn, bool (channels,).
        log: log-probabilities of the channels.
        genes: of the groups.
        plan: the parameters' roles.
        channels: of the network.

    Returns:
        Which channels live, and the number of layers that were kept, int32.
    """
    padded = jnp.append(log, 0.0)  # Where -1 looks.
    rescued = jnp.int32(0)
    kept = alive
    for group, gene in zip(plan.groups, genes, strict=True):
        for member, path in enumerate(group.paths):
            if not isinstance(plan.roles[path], Synapses):
                continue
            odds = opened = gene.synapses[member]
            axes = channels.axes[path]
            for axis, ids in enumerate(axes):
                end = jnp.sum(padded[ids], axis=1)
                odds += end.reshape([-1 if i == axis else 1 for i in range(len(axes))])
            opened = jnp.where(open_to(alive, channels, path), opened, -jnp.inf)
            cut = (jnp.max(odds) > -jnp.inf) & (jnp.max(opened) == -jnp.inf)
            rescued += cut.astype(jnp.int32)
            likeliest = jnp.unravel_index(jnp.argmax(odds), odds.shape)
            for ids, place in zip(axes, likeliest, strict=True):
                ends = jnp.asarray(places(ids, channels))[place]
                kept = kept.at[ends].max(cut, mode="drop")
    return kept, rescued


def within(gene: Gene, paths: Sequence[str], alive: jax.Array, channels: Channels) -> Gene:
    """A group's log-probabilities within living channels, -inf outside."""
    whole = jnp.ones(gene.synapses.shape[1:], bool)
    opened = jnp.stack([open_to(alive, channels, path, whole) for path in paths])
    clusters = []
    for level in gene.clusters:
        spanned = [i for i, n in enumerate(level.shape) if n < gene.synapses.shape[i]]
        some = jnp.any(opened & (gene.synapses > -jnp.inf), spanned, keepdims=True)
        clusters.append(jnp.where(some, level, -jnp.inf))
    return Gene(tuple(clusters), jnp.where(opened, gene.synapses, -jnp.inf))
