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


class Dna(NamedTuple):
    """Probabilities before the environment, P(s_c | W) and P(s_i | w_i) of Eq. 1.

    A weight that is not finite has no strength, and the probability 0. Of a ranked encoding only
    the order means something.

    Attributes:
        clusters: one probability per cluster, the cluster's axes kept with length 1.
        synapses: one probability per synapse.
    """

    clusters: PyTree
    synapses: PyTree


Encode = Callable[[jax.Array, jax.Array, tuple[int, ...]], Dna]


class Encoding(NamedTuple):
    """How a parent's weights become the probabilities of its offspring's synapses.

    Attributes:
        name: what tables and figures call it.
        cluster: cluster kind (see `evojax.genetics.clusters`).
        encode: ``(weights, mask, axes) -> Dna`` of log-probabilities for one parameter, ``-inf``
            where the parent has no synapse or no cluster.
        ranked: the most probable synapses of the network survive, instead of a random draw.
        clustered: whether clusters are drawn at all. Where they are not, there is no cluster
            factor and the environment's whole share is the synapses' (Eq. 2 in place of Eq. 3).
    """

    name: str
    cluster: str
    encode: Encode
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

    def encode(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Dna:
        strength = _strength(weights, mask, signed)
        z = _largest_strength(weights, mask)
        strong = (jnp.abs(strength) >= truncation * z) & (strength > -jnp.inf)
        sums = jnp.sum(jnp.where(strong, strength, 0.0), axes, keepdims=True)
        most = largest(jnp.abs(sums)) if axes else z  # A synapse that is its own cluster.
        living = jnp.where(jnp.any(mask, axes, keepdims=True), sums, -jnp.inf)
        return Dna(
            clusters=_log_probability(living, most, selection_pressure),
            synapses=_log_probability(strength, z, selection_pressure),
        )

    return Encoding("cluster_driven", cluster, encode)


def synapse_driven(selection_pressure: float = 1.0, *, signed: bool = False) -> Encoding:
    """The encoding that the papers start from: Eq. 5 alone, every synapse by itself.

    Raises:
        ValueError: if `selection_pressure` is not positive.
    """
    _require_pressure(selection_pressure)

    def encode(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Dna:
        strength = _strength(weights, mask, signed)
        z = _largest_strength(weights, mask)
        synapses = _log_probability(strength, z, selection_pressure)
        return Dna(_certain(jnp.any(mask, axes, keepdims=True)), synapses)

    return Encoding("synapse_driven", "synapse", encode, clustered=False)


def random(cluster: str = "synapse") -> Encoding:
    """The control without heredity: every synapse and cluster of the parent is equally likely.

    Raises:
        ValueError: if the cluster kind is unknown.
    """
    cluster_axes(cluster, 2)

    def encode(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Dna:
        del weights
        return Dna(_certain(jnp.any(mask, axes, keepdims=True)), _certain(mask))

    return Encoding("random", cluster, encode, clustered=cluster != "synapse")


def magnitude() -> Encoding:
    """The control without chance: the strongest synapses of the whole network survive.

    Global magnitude pruning: strengths are compared across layers as they are. Its log-probability
    is the logarithm of the strength, and only the order matters. Strengths that have the same
    logarithm in float32 draw lots for the last place.
    """

    def encode(weights: jax.Array, mask: jax.Array, axes: tuple[int, ...]) -> Dna:
        strength = jnp.abs(weights.astype(jnp.float32))
        # A living synapse of strength 0 ranks last but stays in the ranking.
        synapses = jnp.log(jnp.maximum(strength, jnp.finfo(jnp.float32).tiny))
        alive = jnp.any(mask, axes, keepdims=True)
        return Dna(_certain(alive), jnp.where(mask, synapses, -jnp.inf))

    return Encoding("magnitude", "synapse", encode, ranked=True, clustered=False)


def _require_pressure(selection_pressure: float) -> None:
    if not (selection_pressure > 0 and math.isfinite(selection_pressure)):
        raise ValueError(
            f"selection_pressure must be positive and finite; got {selection_pressure} "
            "(for pressure without bound use the encoding magnitude())"
        )


def _strength(weights: jax.Array, mask: jax.Array, signed: bool) -> jax.Array:
    """Strengths, -inf where the parent has no synapse: so every probability there is 0."""
    weights = weights.astype(jnp.float32)
    return jnp.where(
        mask & jnp.isfinite(weights), weights if signed else jnp.abs(weights), -jnp.inf
    )


def _largest_strength(weights: jax.Array, mask: jax.Array) -> jax.Array:
    weights = weights.astype(jnp.float32)
    return largest(jnp.where(mask & jnp.isfinite(weights), jnp.abs(weights), 0.0))


def _log_probability(strength: jax.Array, most: jax.Array, pressure: float) -> jax.Array:
    """beta (w/z - 1); a layer whose strengths are all zero has no preference among them.

    The minima change no value: they keep compilers from rounding a product and a sum at once in
    one place and apart in another, so that a probability is the same number wherever it is used.
    """
    share = jnp.minimum(strength / jnp.where(most > 0, most, 1.0), 1.0)
    return jnp.minimum(pressure * (share - 1.0), 0.0)


def _certain(alive: jax.Array) -> jax.Array:
    return jnp.where(alive, 0.0, -jnp.inf)
