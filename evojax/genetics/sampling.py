"""Drawing an architecture from probabilities: margins, thresholds and masks.

Every synapse gets a *log-margin* ``log u - log P`` with u uniform in (0, 1): it lives where the
margin is below 0, which has the probability P. Moving the threshold below 0 scales all
probabilities of the network down at once (the hard cap); moving one layer's above 0 lets its
likeliest clusters live (the floor). A ranked encoding has ``u = 1`` and a threshold of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from evojax.genetics.encoding import Gene
from evojax.genetics.reduction import count
from evojax.genetics.search import search

LOWEST_LOG_UNIFORM = -17.0
"""Below the logarithm of every uniform number drawn here."""


def words(key: jax.Array, hashes: jax.Array, draws: int = 2) -> jax.Array:
    """Two random words for each draw of every parameter, from a key and its path's hash.

    Args:
        key: typed PRNG key.
        hashes: uint32 of shape (n,), hashes of the parameters' paths.
        draws: how many, one for each kind of clusters and the last for the synapses.

    Returns:
        uint32 of shape (n, draws, 2).
    """
    keys = jax.vmap(lambda data: jax.random.fold_in(key, data))(hashes)
    return jax.vmap(lambda k: jax.random.bits(k, (draws, 2), jnp.uint32))(keys)


def log_uniform(seed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Logarithms of uniform numbers in (0, 1), from two words and the element's index.

    An integer hash of the index costs a fraction of threefry's bits and fuses with what uses it.
    The finaliser is that of a well-studied 32-bit mixer (xor-shift, multiply, twice), applied once
    under each word.

    Args:
        seed: uint32 of shape (2,).
        shape: the result's.
    """
    index = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    bits = _mix(_mix(index ^ seed[0]) + seed[1])
    # 23 bits and a half fit float32 exactly: u stays below 1, and what is certain is drawn.
    uniform = ((bits >> 9).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-23)
    return jnp.log(uniform)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit flips every output bit half of the time."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def log_margins(
    seeds: jax.Array,
    gene: Gene,
    log_fcs: Sequence[jax.Array],
    log_fs: jax.Array,
    *,
    inside: bool = False,
) -> jax.Array:
    """Log-margins of a group's synapses: all factors of Eq. 3, inf where the parent has none.

    Args:
        seeds: uint32 of shape (members, kinds + 1, 2), see `words`.
        gene: log-probabilities, the members on the first axis.
        log_fcs: logarithms of F_c, kind by kind.
        log_fs: logarithm of F_s.
        inside: leave out the outermost kind of clusters, for the margins within them.
    """
    synapses = jnp.minimum(0.0, log_fs + gene.synapses)
    own = _log_uniforms(seeds[:, -1], synapses) - synapses
    others = []
    for draw, (log_fc, level) in enumerate(zip(log_fcs, gene.clusters, strict=True)):
        if inside and draw == 0:
            continue
        clusters = jnp.minimum(0.0, log_fc + level)
        if clusters.shape == own.shape:
            # A 1x1 kernel or a dense weight is its own cluster: both factors apply, in one draw.
            own -= clusters
        else:
            others.append(_log_uniforms(seeds[:, draw], clusters) - clusters)
    return functools.reduce(jnp.maximum, others, own)


def ranked_log_margins(
    seeds: Sequence[jax.Array], genes: Sequence[Gene], limit: jax.Array
) -> list[jax.Array]:
    """Margins by rank: below 0 where a synapse is among the `limit` most probable or tied there.

    Those tied for the last rank draw lots; the better ones lie below every lot.
    """
    margins = [-gene.synapses for gene in genes]

    def count_below(threshold: jax.Array) -> jax.Array:
        return count(*[margin < threshold for margin in margins])

    finite = [jnp.where(margin < jnp.inf, margin, 0.0) for margin in margins]
    low = jnp.min(jnp.stack([jnp.min(values) for values in finite])) - 1.0
    high = jnp.max(jnp.stack([jnp.max(values) for values in finite])) + 1.0
    threshold = search(count_below, limit, low, high, 0)
    last = [jnp.min(jnp.where(margin < threshold, jnp.inf, margin)) for margin in margins]
    rank = jnp.minimum(jnp.min(jnp.stack(last)), high)
    return [
        jnp.where(
            margin == rank,
            _log_uniforms(seed[:, -1], margin),
            margin - rank + jnp.where(margin < rank, 2.0 * LOWEST_LOG_UNIFORM, 0.0),
        )
        for seed, margin in zip(seeds, margins, strict=True)
    ]


def _log_uniforms(seeds: jax.Array, like: jax.Array) -> jax.Array:
    return jax.vmap(log_uniform, in_axes=(0, None))(seeds, like.shape[1:])


def cap(margins: Sequence[jax.Array], limit: jax.Array) -> jax.Array:
    """The largest threshold, at most 0, below which at most `limit` margins lie.

    A 20,000th of the limit may be left unused.
    """

    def count_below(threshold: jax.Array) -> jax.Array:
        return count(*[margin < threshold for margin in margins])

    return search(count_below, limit, LOWEST_LOG_UNIFORM, 0.0, limit // 20_000)


def thin(
    margins: jax.Array,
    own: jax.Array,
    bounds: jax.Array,
    threshold: jax.Array,
    axes: tuple[int, ...],
) -> jax.Array:
    """Who survives where a floor lifts some parameters' thresholds above the network's.

    The floor is one of clusters. Within a cluster that it lets live the synapses keep their own
    draws, and those of the clusters inside it, or else all those whose draw beats the cluster's
    would live; the likeliest one lives in any case.

    Args:
        margins: log-margins of a group's synapses.
        own: their log-margins within their outermost clusters.
        bounds: each parameter's threshold, broadcastable.
        threshold: the network's.
        axes: the axes that a cluster spans in one member.
    """
    likeliest = own == jnp.min(own, [axis + 1 for axis in axes], keepdims=True)
    return (margins < bounds) & ((own < threshold) | likeliest)


def floor(
    margins: jax.Array, channels: jax.Array, axes: tuple[int, ...], min_clusters: int
) -> jax.Array:
    """The lowest threshold below which `min_clusters` clusters of each parameter have a margin.

    Args:
        margins: log-margins of a group's synapses, inf where the parent has none.
        channels: the lowest of every output channel, (members, channels).
        axes: the axes that a cluster spans in one member.
        min_clusters: at least 1; a parameter with fewer clusters keeps what it has.

    Returns:
        (members,); -inf where the parent has nothing left.
    """
    if min_clusters == 1:
        last = -jnp.max(-channels, axis=1)  # XLA would merge a second min with the first.
    else:
        clusters = jnp.min(margins, [axis + 1 for axis in axes]).reshape(len(margins), -1)
        nearest = -jax.lax.top_k(-clusters, min(min_clusters, clusters.shape[1]))[0]
        last = jnp.max(jnp.where(nearest < jnp.inf, nearest, -jnp.inf), axis=1)
    return jnp.where(last < jnp.inf, jnp.nextafter(last, jnp.inf), -jnp.inf)
