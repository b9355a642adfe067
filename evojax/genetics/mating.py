"""Mating: the strengths of m parents made one (Chung et al. 2018, Eq. 1 to 3).

Parents are aligned place by place, as gene tags have it: a cluster mates with the cluster that
stems from the same place in the common ancestor, and this place is the index in a parameter's
array, since offspring keep their ancestor's shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.encoding import Strengths


class Mating(NamedTuple):
    """How parents mate.

    Attributes:
        strengths: ``(parents) -> Strengths``: the stacked strengths of one parameter of m parents,
            those on the first axis, made one.
        shared: ``(masks) -> mask``: of what every parent has or lacks, (m, ...), what enough
            parents have for it to be passed on.
    """

    strengths: Callable[[Strengths], Strengths]
    shared: Callable[[jax.Array], jax.Array]


def gene_tagged(
    chi: float = 1.0,
    *,
    cluster_weights: Sequence[float] | None = None,
    synapse_weights: Sequence[float] | None = None,
) -> Mating:
    r"""Mating by gene tags: the product over the parents that have the cluster.

    .. math::
        \mathcal M_c = \prod_{k \in K_c} \alpha_{c,k} \bar W_k, \quad
        \mathcal M_s = \prod_{k \in K_c} \alpha_{s,k} \bar w_{k,j}, \quad
        \chi m \le |K_c| \le m

    :math:`\bar W` and :math:`\bar w` are strengths in shares of their layer's largest, in each
    parent by itself. A cluster lives on only where at least chi m parents have it, and a synapse
    only where all of those have it: the product over one that lacks it would be 0. Z and z of Eq. 4
    and 5 are then the layer's largest products, among what lives on. With one parent of finite
    weights this is the asexual synthesis of Shafiee & Wong (2016), bit for bit.

    Two things follow. A product over fewer parents, of shares that are at most 1, tends to be
    larger: of two clusters that are passed on, the rarer one is favoured. And where all parents
    have a cluster their alpha are in every product and in Z, and cancel: under the intersection
    they change nothing.

    Args:
        chi: percent of population, in (0, 1]. 1 is the intersection: all parents have the cluster.
            At least one parent must have it, however small chi is.
        cluster_weights: alpha_c of every parent, positive; 1 each by default. The product of those
            below 1 must be at least 1e-20, that of those above 1 at most 1e20, for float32.
        synapse_weights: alpha_s likewise.

    Raises:
        ValueError: if an argument is out of range; when synthesis runs, if there are not as many
            weights as parents.

    Example:
        >>> import jax, jax.numpy as jnp, evojax
        >>> parents = {"dense": {"kernel": jnp.ones((2, 8, 4))}}  # Two of them.
        >>> mates = {"dense": {"kernel": jnp.ones((2, 8, 4), bool).at[1, 0].set(False)}}
        >>> whole = evojax.budget(total=1.0)
        >>> mating = evojax.gene_tagged(chi=1.0)
        >>> evolve = evojax.synthesis(evojax.cluster_driven(), whole, mating=mating)
        >>> child = evolve.offspring(jax.random.key(0), parents, mates)
        >>> child["dense"]["kernel"].shape, int(child["dense"]["kernel"].sum())
        ((8, 4), 28)
    """
    if not 0.0 < chi <= 1.0:
        raise ValueError(f"chi must lie in (0, 1]; got {chi}")
    _require_weights("cluster_weights", cluster_weights)
    _require_weights("synapse_weights", synapse_weights)

    def shared(masks: jax.Array) -> jax.Array:
        # Rounded, for 0.6 times 5 is a little more than 3 in floating point.
        enough = max(1, math.ceil(round(chi * len(masks), 9)))
        return jnp.sum(masks, axis=0, dtype=jnp.int32) >= enough

    def strengths(parents: Strengths) -> Strengths:
        having = [level > -jnp.inf for level in parents.clusters]
        passed = [shared(each) for each in having]
        products = [
            _product(*each, cluster_weights)
            for each in zip(parents.clusters, parents.cluster_units, having, strict=True)
        ]
        # A synapse: over the parents that have its innermost cluster, which all must have it.
        lacking = jnp.any(having[-1] & (parents.synapses == -jnp.inf), axis=0)
        whole = passed[-1] & ~lacking  # Who has a cluster has those that it lies in.
        synapses = _product(parents.synapses, parents.synapse_unit, having[-1], synapse_weights)
        return Strengths(
            clusters=tuple(map(_within, products, passed)),
            synapses=_within(synapses, whole),
            cluster_units=tuple(map(_largest, products, passed)),
            synapse_unit=_largest(synapses, whole),
        )

    return Mating(strengths, shared)


def _product(
    strengths: jax.Array, units: jax.Array, having: jax.Array, weights: Sequence[float] | None
) -> jax.Array:
    """The product over the parents that have the cluster, in shares of each one's largest."""
    parents = len(strengths)
    if weights is not None and len(weights) != parents:
        raise ValueError(f"{len(weights)} weights (alpha) for {parents} parents: expected one each")

    def each(numbers: jax.Array) -> jax.Array:
        return numbers.reshape(-1, *[1] * (strengths.ndim - 1))

    shares = strengths / each(jnp.where(units > 0, units, 1.0))
    if weights is not None:
        shares = shares * each(jnp.array(weights, jnp.float32))
    return jnp.prod(jnp.where(having, shares, 1.0), axis=0)


def _within(products: jax.Array, passed: jax.Array) -> jax.Array:
    """The strengths of what is passed on."""
    return jnp.where(passed, products, -jnp.inf)


def _largest(products: jax.Array, passed: jax.Array) -> jax.Array:
    """The largest of them in size, Z or z of Eq. 4 and 5."""
    return jnp.max(jnp.where(passed, jnp.abs(products), 0.0))


def _require_weights(name: str, weights: Sequence[float] | None) -> None:
    if weights is None:
        return
    if not len(weights) or not all(w > 0 and math.isfinite(w) for w in weights):
        raise ValueError(f"{name} must be positive numbers, one for each parent; got {weights}")
    least, most = (math.prod(pick(w, 1.0) for w in weights) for pick in (min, max))
    if least < 1e-20 or most > 1e20:
        raise ValueError(
            f"{name} must have a product of at least 1e-20 of those below 1, and of at most 1e20 "
            f"of those above, or products of strengths leave float32; got {weights}"
        )
