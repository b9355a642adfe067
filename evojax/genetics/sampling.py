"""Drawing an architecture from probabilities: margins, thresholds and masks.

Every synapse gets a *log-margin* ``log u - log P`` with u uniform in (0, 1): it lives where the
margin is below 0, which has the probability P. Moving the threshold below 0 scales all
probabilities of the network down at once (the hard cap); moving one layer's above 0 lets its
likeliest clusters live (the floor). A ranked encoding has ``u = 1`` and a threshold of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def words(key: jax.Array, hashes: jax.Array) -> jax.Array:
    """Four random words for every parameter, from the generation's key and its path's hash.

    Args:
        key: typed PRNG key.
        hashes: uint32 of shape (n,), hashes of the parameters' paths.

    Returns:
        uint32 of shape (n, 4): two words for the clusters' draws, two for the synapses'.
    """
    keys = jax.vmap(lambda data: jax.random.fold_in(key, data))(hashes)
    return jax.vmap(lambda k: jax.random.bits(k, (4,), jnp.uint32))(keys)


def log_uniform(seed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Logarithms of uniform numbers in (0, 1), from two words and the element's index.

    An integer hash of the index costs a fraction of threefry's bits and fuses with what uses it.
    The finaliser is that of a well-studied 32-bit mixer (xor-shift, multiply, twice), applied once
    under each word.

    Args:
        seed: uint32 of shape (2,).
        shape: the result's.
    """
    index = jnp.arange(_size(shape), dtype=jnp.uint32).reshape(shape)
    bits = _mix(_mix(index ^ seed[0]) + seed[1])
    uniform = ((bits >> 8).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-24)
    return jnp.log(uniform)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit flips every output bit half of the time."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def largest_threshold(
    count_below: Callable[[jax.Array], jax.Array],
    limit: jax.Array,
    bounds: tuple[jax.Array, jax.Array],
    tolerance: jax.Array,
) -> jax.Array:
    """The largest threshold below which there are at most `limit` margins, by bisection.

    Args:
        count_below: number of margins below a threshold; increasing.
        limit: the number allowed.
        bounds: a threshold with at most `limit` below it, and one with more.
        tolerance: how far below the limit is near enough.
    """

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> jax.Array:
        low, high, count, step = state
        middle = 0.5 * (low + high)
        return (count < limit - tolerance) & (low < middle) & (middle < high) & (step < 64)

    def halve(
        state: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        low, high, count, step = state
        middle = 0.5 * (low + high)
        below = count_below(middle)
        fits = below <= limit
        return (
            jnp.where(fits, middle, low),
            jnp.where(fits, high, middle),
            jnp.where(fits, below, count),
            step + 1,
        )

    low, high = bounds
    return jax.lax.while_loop(unfinished, halve, (low, high, count_below(low), jnp.int32(0)))[0]


def floor_threshold(margins: jax.Array, axes: tuple[int, ...], min_clusters: int) -> jax.Array:
    """The lowest threshold below which `min_clusters` clusters of one layer have a margin.

    Args:
        margins: log-margins of the layer's synapses, inf where the parent has none.
        axes: the axes that a cluster spans.
        min_clusters: at least 1; a layer with fewer clusters keeps what it has.
    """
    if min_clusters == 1:
        return jnp.nextafter(jnp.min(margins), jnp.float32(jnp.inf))
    clusters = jnp.min(margins, axes).reshape(-1)
    nearest = -jax.lax.top_k(-clusters, min(min_clusters, clusters.size))[0]
    last = jnp.max(jnp.where(nearest < jnp.inf, nearest, -jnp.inf))
    return jnp.nextafter(last, jnp.float32(jnp.inf))
