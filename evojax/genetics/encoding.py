"""Genetic encoding: a parent's weights as probabilities of clusters and synapses (its DNA).

Probabilities are kept as logarithms, because at a high selection pressure most of them are too
small for float32, and because the environment's factor then is a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.clusters import Clusters, nested
from evojax.genetics.reduction import largest, summed
from evojax.genetics.trees import PyTree

Levels = tuple[tuple[int, ...], ...]

LARGEST = 2.0**100
"""Weights beyond it are those of a training that broke down: their sums would overflow. So would
the logarithms of probabilities at a selection pressure beyond it."""


class Dna(NamedTuple):
    """Probabilities before the environment, P(s_c | W) and P(s_i | w_i) of Eq. 1.

    A weight that is not finite, or beyond 2^100, has no strength, and the probability 0; one that
    is subnormal in float32 (below 1e-38) has the strength 0, as XLA flushes it. Of a ranked
    encoding only the order means something.

    Attributes:
        clusters: one probability per cluster, the cluster's axes kept with length 1; of clusters
            that nest, the product.
        synapses: one probability per synapse.
        channels: one probability per channel, (channels,), where channels are clusters.
    """

    clusters: PyTree
    synapses: PyTree
    channels: jax.Array | None = None


class Strengths(NamedTuple):
    """How strong one parameter's clusters and synapses are; -inf where there is none.

    Attributes:
        clusters: for each kind that nests, one strength per cluster, the cluster's axes kept with
            length 1.
        synapses: one strength per synapse.
        cluster_units: for each kind, what a cluster's strength is measured by: Z of Eq. 4.
        synapse_unit: what a synapse's strength is measured by: z of Eq. 5.
    """

    clusters: tuple[jax.Array, ...]
    synapses: jax.Array
    cluster_units: tuple[jax.Array, ...]
    synapse_unit: jax.Array


class Gene(NamedTuple):
    """Log-probabilities of one parameter's clusters, kind by kind, and synapses; -inf for none."""

    clusters: tuple[jax.Array, ...]
    synapses: jax.Array


class Encoding(NamedTuple):
    """How a parent's weights become the probabilities of its offspring's synapses.

    Attributes:
        cluster: kinds of clusters (see `evojax.genetics.clusters`), the outermost first.
        strengths: ``(weights, mask, levels) -> Strengths`` of one parameter; levels are the axes
            that a cluster spans, kind by kind.
        probabilities: ``(strengths) -> Gene``.
        ranked: the most probable synapses of the network survive, instead of a random draw.
        clustered: whether clusters are drawn at all. Where they are not, there is no cluster
            factor and the environment's whole share is the synapses' (Eq. 2 in place of Eq. 3).
    """

    cluster: tuple[str, ...]
    strengths: Callable[[jax.Array, jax.Array, Levels], Strengths]
    probabilities: Callable[[Strengths], Gene]
    ranked: bool = False
    clustered: bool = True


def cluster_driven(
    selection_pressure: float = 1.0,
    truncation: float = 0.05,
    cluster: Clusters = "kernel",
    *,
    signed: bool = False,
) -> Encoding:
    r"""Synaptic cluster-driven genetic encoding (Shafiee & Wong 2016, Eq. 1, 4 and 5).

    .. math::
        P(\bar s_c) = \exp(\beta (\sum_{i \in c} \lfloor w_i \rfloor / Z - 1)), \quad
        P(s_i) = \exp(\beta (w_i / z - 1))

    with z the layer's largest strength, Z the layer's largest cluster sum, and
    :math:`\lfloor w \rfloor = 0` for strengths below `truncation` times z.

    Args:
        selection_pressure: beta > 0. 1 is the paper; a large one approaches magnitude pruning.
        truncation: in [0, 1), as a share of the layer's largest strength.
        cluster: ``"channel"``, ``"filter"``, ``"kernel"``, ``"synapse"``, or several of them,
            which nest: a synapse then has a factor :math:`P(\bar s_c)` for each of its clusters. A
            channel's strength is the mean over all that enters it and all that leaves it, layer by
            layer, each in shares of the layer's largest; channels go to `synthesis`.
        signed: take w itself for the strength instead of abs(w), as Eq. 5 reads literally.

    Raises:
        ValueError: if an argument is out of range.
    """
    _require_pressure(selection_pressure)
    if not 0.0 <= truncation < 1.0:
        raise ValueError(f"truncation must lie in [0, 1); got {truncation}")
    kinds = nested(cluster)

    def strengths(weights: jax.Array, mask: jax.Array, levels: Levels) -> Strengths:
        strength = _strength(weights, mask, signed)
        z = _largest_strength(weights, mask)
        strong = (jnp.abs(strength) >= truncation * z) & (strength > -jnp.inf)
        sums, units = [], []
        for axes in levels:
            each = summed(jnp.where(strong, strength, 0.0), axes)
            units.append(largest(jnp.abs(each)) if axes else z)  # A synapse is its own cluster.
            sums.append(jnp.where(jnp.any(mask, axes, keepdims=True), each, -jnp.inf))
        return Strengths(tuple(sums), strength, tuple(units), z)

    def probabilities(strengths: Strengths) -> Gene:
        pairs = zip(strengths.clusters, strengths.cluster_units, strict=True)
        return Gene(
            tuple(_log_probability(*pair, selection_pressure) for pair in pairs),
            _log_probability(strengths.synapses, strengths.synapse_unit, selection_pressure),
        )

    return Encoding(kinds, strengths, probabilities)


def synapse_driven(selection_pressure: float = 1.0, *, signed: bool = False) -> Encoding:
    """The encoding that the papers start from: Eq. 5 alone, every synapse by itself.

    Raises:
        ValueError: if `selection_pressure` is not positive.
    """
    _require_pressure(selection_pressure)

    def strengths(weights: jax.Array, mask: jax.Array, levels: Levels) -> Strengths:
        strength = _strength(weights, mask, signed)
        return _even(mask, levels)._replace(
            synapses=strength, synapse_unit=_largest_strength(weights, mask)
        )

    def probabilities(strengths: Strengths) -> Gene:
        return Gene(
            tuple(map(_certain, strengths.clusters)),
            _log_probability(strengths.synapses, strengths.synapse_unit, selection_pressure),
        )

    return Encoding(("synapse",), strengths, probabilities, clustered=False)


def random(cluster: Clusters = "synapse") -> Encoding:
    """The control without heredity: every synapse and cluster of the parent is equally likely.

    Raises:
        ValueError: if a cluster kind is unknown.
    """
    kinds = nested(cluster)

    def strengths(weights: jax.Array, mask: jax.Array, levels: Levels) -> Strengths:
        del weights
        return _even(mask, levels)

    def probabilities(strengths: Strengths) -> Gene:
        return Gene(tuple(map(_certain, strengths.clusters)), _certain(strengths.synapses))

    return Encoding(kinds, strengths, probabilities, clustered=kinds != ("synapse",))


def magnitude() -> Encoding:
    """The control without chance: the strongest synapses of the whole network survive.

    Global magnitude pruning: strengths are compared across layers as they are. Its log-probability
    is the logarithm of the strength, and only the order matters. Strengths that have the same
    logarithm in float32 draw lots for the last place.
    """

    def strengths(weights: jax.Array, mask: jax.Array, levels: Levels) -> Strengths:
        return _even(mask, levels)._replace(synapses=_strength(weights, mask, signed=False))

    def probabilities(strengths: Strengths) -> Gene:
        # A living synapse of strength 0 ranks last but stays in the ranking.
        logs = jnp.log(jnp.maximum(strengths.synapses, jnp.finfo(jnp.float32).tiny))
        alive = strengths.synapses > -jnp.inf
        return Gene(tuple(map(_certain, strengths.clusters)), jnp.where(alive, logs, -jnp.inf))

    return Encoding(("synapse",), strengths, probabilities, ranked=True, clustered=False)


def _require_pressure(selection_pressure: float) -> None:
    if not 0 < selection_pressure <= LARGEST:
        raise ValueError(
            f"selection_pressure must be positive and at most 2^100; got {selection_pressure} "
            "(for pressure without bound use the encoding magnitude())"
        )


def _strength(weights: jax.Array, mask: jax.Array, signed: bool) -> jax.Array:
    """Strengths, -inf where the parent has no synapse: so every probability there is 0."""
    weights = weights.astype(jnp.float32)
    size = jnp.abs(weights)
    return jnp.where(mask & (size <= LARGEST), weights if signed else size, -jnp.inf)


def _largest_strength(weights: jax.Array, mask: jax.Array) -> jax.Array:
    size = jnp.abs(weights.astype(jnp.float32))
    return largest(jnp.where(mask & (size <= LARGEST), size, 0.0))


def _log_probability(strength: jax.Array, most: jax.Array, pressure: float) -> jax.Array:
    """beta (w/z - 1); a layer whose strengths are all zero has no preference among them.

    The minima change no value: they keep compilers from rounding a product and a sum at once in
    one place and apart in another, so that a probability is the same number wherever it is used.
    """
    share = jnp.minimum(strength / jnp.where(most > 0, most, 1.0), 1.0)
    return jnp.minimum(pressure * (share - 1.0), 0.0)


def _even(mask: jax.Array, levels: Levels) -> Strengths:
    """All of a parent's clusters and synapses equally strong."""
    clusters = [jnp.where(jnp.any(mask, axes, keepdims=True), 1.0, -jnp.inf) for axes in levels]
    one = jnp.float32(1)
    synapses = jnp.where(mask, 1.0, -jnp.inf)
    return Strengths(tuple(clusters), synapses, (one,) * len(clusters), one)


def _certain(strength: jax.Array) -> jax.Array:
    """The logarithm of probability 1 where there is any strength."""
    return jnp.where(strength > -jnp.inf, 0.0, -jnp.inf)
