"""Genetic encoding: a parent's weights as probabilities of clusters and synapses (its DNA).

Probabilities are kept as logarithms, because at a high selection pressure most of them are too
small for float32, and because the environment's factor then is a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.clusters import cluster_axes
from evojax.genetics.reduction import largest
from evojax.genetics.trees import PyTree

LARGEST = 2.0**100
"""Weights beyond it are those of a training that broke down: their sums would overflow."""


class Dna(NamedTuple):
    """Probabilities before the environment, P(s_c | W) and P(s_i | w_i) of Eq. 1.

    A weight that is not finite, or beyond 2^100, has no strength, and the probability 0. Of a
    ranked encoding only the order means something.

    Attributes:
        clusters: one probability per cluster, the cluster's axes kept with length 1.
        synapses: one probability per synapse.
    """

    clusters: PyTree
    synapses: PyTree


class Strengths(NamedTuple):
    """How strong one parameter's clusters and synapses are; -inf where there is none.

    Attributes:
        clusters: one strength per cluster, the cluster's axes kept with length 1.
        synapses: one strength per synapse.
        cluster_unit: what a cluster's strength is measured by, a scalar: Z of Eq. 4.
        synapse_unit: what a synapse's strength is measured by, a scalar: z of Eq. 5.
    """

    clusters: jax.Array
    synapses: jax.Array
    cluster_unit: jax.Array
    synapse_unit: jax.Array


class Encoding(NamedTuple):
    """How a parent's weights become the probabilities of its offspring's synapses.

    Attributes:
        name: what tables and figures call it.
        cluster: cluster kind (see `evojax.genetics.clusters`).
        strengths: ``(weights, mask, axes) -> Strengths`` of one parameter.
        probabilities: ``(strengths) -> Dna`` of log-probabilities, -inf where there is none.
        ranked: the most probable synapses of the network survive, instead of a random draw.
        clustered: whether clusters are drawn at all. Where they are not, there is no cluster
            factor and the environment's whole share is the synapses' (Eq. 2 in place of Eq. 3).
    """

    name: str
    cluster: str
    strengths: Callable[[jax.Array, jax.Array, tuple[int, ...]], Strengths]
    probabilities: Callable[[Strengths], Dna]
    ranked: bool = False
    clustered: bool = True


def cluster_driven(
    selection_pressure: float = 1.0,
    truncation: float = 0.05,
    cluster: str = "kernel",
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
        cluster: ``"kernel"``, ``"filter"`` or ``"synapse"``.
        signed: take w itself for the strength instead of abs(w), as Eq. 5 reads literally.

    Raises:
        ValueError: if an argument is out of range.
    """
    _require_pressure(selection_pressure)
    if not 0.0 <= truncation < 1.0:
        raise ValueError(f"truncation must lie in [0, 1); got {truncation}")
    cluster_axes(cluster, 2)

    def strengths(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Strengths:
        strength = _strength(weights, mask, signed)
        z = _largest_strength(weights, mask)
        strong = (jnp.abs(strength) >= truncation * z) & (strength > -jnp.inf)
        sums = jnp.sum(jnp.where(strong, strength, 0.0), axes, keepdims=True)
        most = largest(jnp.abs(sums)) if axes else z  # A synapse that is its own cluster.
        living = jnp.where(jnp.any(mask, axes, keepdims=True), sums, -jnp.inf)
        return Strengths(living, strength, most, z)

    def probabilities(strengths: Strengths) -> Dna:
        return Dna(
            _log_probability(strengths.clusters, strengths.cluster_unit, selection_pressure),
            _log_probability(strengths.synapses, strengths.synapse_unit, selection_pressure),
        )

    return Encoding("cluster_driven", cluster, strengths, probabilities)


def synapse_driven(selection_pressure: float = 1.0, *, signed: bool = False) -> Encoding:
    """The encoding that the papers start from: Eq. 5 alone, every synapse by itself.

    Raises:
        ValueError: if `selection_pressure` is not positive.
    """
    _require_pressure(selection_pressure)

    def strengths(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Strengths:
        strength = _strength(weights, mask, signed)
        return _even(mask, axes)._replace(
            synapses=strength, synapse_unit=_largest_strength(weights, mask)
        )

    def probabilities(strengths: Strengths) -> Dna:
        return Dna(
            _certain(strengths.clusters),
            _log_probability(strengths.synapses, strengths.synapse_unit, selection_pressure),
        )

    return Encoding("synapse_driven", "synapse", strengths, probabilities, clustered=False)


def random(cluster: str = "synapse") -> Encoding:
    """The control without heredity: every synapse and cluster of the parent is equally likely.

    Raises:
        ValueError: if the cluster kind is unknown.
    """
    cluster_axes(cluster, 2)

    def strengths(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Strengths:
        del weights
        return _even(mask, axes)

    def probabilities(strengths: Strengths) -> Dna:
        return Dna(_certain(strengths.clusters), _certain(strengths.synapses))

    return Encoding("random", cluster, strengths, probabilities, clustered=cluster != "synapse")


def magnitude() -> Encoding:
    """The control without chance: the strongest synapses of the whole network survive.

    Global magnitude pruning: strengths are compared across layers as they are. Its log-probability
    is the logarithm of the strength, and only the order matters. Strengths that have the same
    logarithm in float32 draw lots for the last place.
    """

    def strengths(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Strengths:
        return _even(mask, axes)._replace(synapses=_strength(weights, mask, signed=False))

    def probabilities(strengths: Strengths) -> Dna:
        # A living synapse of strength 0 ranks last but stays in the ranking.
        logs = jnp.log(jnp.maximum(strengths.synapses, jnp.finfo(jnp.float32).tiny))
        alive = strengths.synapses > -jnp.inf
        return Dna(_certain(strengths.clusters), jnp.where(alive, logs, -jnp.inf))

    return Encoding("magnitude", "synapse", strengths, probabilities, ranked=True, clustered=False)


def _require_pressure(selection_pressure: float) -> None:
    if not (selection_pressure > 0 and math.isfinite(selection_pressure)):
        raise ValueError(
            f"selection_pressure must be positive and finite; got {selection_pressure} "
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


def _even(mask: jax.Array, axes: tuple[int, ...]) -> Strengths:
    """All of a parent's clusters and synapses equally strong."""
    clusters = jnp.where(jnp.any(mask, axes, keepdims=True), 1.0, -jnp.inf)
    return Strengths(clusters, jnp.where(mask, 1.0, -jnp.inf), jnp.float32(1), jnp.float32(1))


def _certain(strength: jax.Array) -> jax.Array:
    """The logarithm of probability 1 where there is any strength."""
    return jnp.where(strength > -jnp.inf, 0.0, -jnp.inf)
