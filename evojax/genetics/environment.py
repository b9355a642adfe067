"""Environmental factors: how many clusters and synapses an offspring may keep (Eq. 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.encoding import Dna
from evojax.genetics.reduction import count, total
from evojax.genetics.search import search

SAMPLE = 1 << 17
"""About how many of a network's entries the estimate of a factor looks at."""

LOWEST = -20.0
"""The lowest log F: e^-20 of survivors is below any budget."""

UNBOUNDED = 1e6
"""A log F that makes every probability 1."""


class Environment(NamedTuple):
    """What the surroundings of a generation allow.

    Attributes:
        name: how it was made, for records.
        factors: ``(genes, alive, extra, share, clustered) -> (log F_c, log F_s)`` where `genes` are
            the groups' log-probabilities, `alive` the parent's number of synapses, those that no
            draw decides (`extra`, the biases) included, `share` the share to leave, and `clustered`
            whether the encoding draws clusters; if not, F_c is 1 and the share is all F_s's.
        share: the share of the parent's synapses that an offspring keeps, in (0, 1].
        capped: whether no offspring may exceed `share`.
        min_clusters: how many clusters a layer keeps, whatever is drawn.
    """

    name: str
    factors: Callable[..., tuple[jax.Array, jax.Array]]
    share: float
    capped: bool
    min_clusters: int


def budget(
    clusters: float | None = None,
    synapses: float | None = None,
    *,
    total: float | None = None,
    min_clusters: int = 1,
) -> Environment:
    """Solves for the factors F_c and F_s that leave an expected share of the parent.

    F_c is such that the expected share of surviving clusters is `clusters`; F_s then is such that
    the expected share of surviving synapses is ``clusters * synapses``. Both are solved over the
    whole network, so strong layers keep more; F may exceed 1, a probability is clipped at 1. No
    offspring keeps more than ``clusters * synapses`` of its parent's synapses: "an offspring deep
    neural network should not have more than 80% of the total number of synapses in its direct
    ancestor" (Shafiee & Wong 2016, section 3). Biases count as synapses, and as surviving ones:
    where channels die and take theirs along, fewer survive than the shares say.

    Args:
        clusters: in (0, 1].
        synapses: in (0, 1], within the surviving clusters.
        total: in (0, 1], in place of the two: each is its square root.
        min_clusters: at least 1. A layer never falls below it: this goes before the cap, which
            the clusters that are kept so may exceed.

    Raises:
        ValueError: if a share or a number is out of range, or if `total` comes with the two.
    """
    if total is not None:
        if clusters is not None or synapses is not None:
            raise ValueError("budget takes either total= or clusters= and synapses=, not both")
        require_share("total", total)
        clusters = synapses = total**0.5
    if clusters is None or synapses is None:
        raise ValueError("budget needs clusters= and synapses=, or total=")
    _require(clusters, synapses, min_clusters)
    share = clusters * synapses
    # Another share than this one divides between clusters and synapses in the same proportion.
    part = math.log(clusters) / math.log(share) if share < 1 else 0.5

    def factors(
        genes: Sequence[Dna],
        alive: jax.Array,
        extra: jax.Array,
        share: jax.Array,
        clustered: bool,
    ) -> tuple[jax.Array, jax.Array]:
        logs = [gene.clusters for gene in genes]
        certain = [jnp.zeros((), jnp.float32)] * len(logs)
        living = count(*[log > -jnp.inf for log in logs])
        log_fc = jnp.float32(0.0)
        if clustered:
            log_fc = solve(certain, logs, living, share**part * living)
        given = [jnp.minimum(0.0, log_fc + log) for log in logs]
        drawn = alive - extra
        log_fs = solve(given, [gene.synapses for gene in genes], drawn, share * alive - extra)
        return log_fc, log_fs

    name = f"budget(clusters={clusters:g}, synapses={synapses:g})"
    return Environment(name, factors, share, True, min_clusters)


def constant(clusters: float, synapses: float, *, min_clusters: int = 1) -> Environment:
    """Multiplies every probability by F_c = `clusters` and F_s = `synapses` (Chung et al. 2018).

    Raises:
        ValueError: if a factor lies outside (0, 1] or `min_clusters` is below 1.
    """
    _require(clusters, synapses, min_clusters)

    def factors(
        genes: Sequence[Dna],
        alive: jax.Array,
        extra: jax.Array,
        share: jax.Array,
        clustered: bool,
    ) -> tuple[jax.Array, jax.Array]:
        del genes, alive, extra, share
        if not clustered:
            return jnp.float32(0.0), jnp.log(jnp.float32(clusters * synapses))
        return jnp.log(jnp.float32(clusters)), jnp.log(jnp.float32(synapses))

    name = f"constant(clusters={clusters:g}, synapses={synapses:g})"
    return Environment(name, factors, clusters * synapses, False, min_clusters)


def share_of(number: jax.Array, share: float | jax.Array) -> jax.Array:
    """``floor(share * number)`` of an int32; in whole numbers, as float32 is too coarse."""
    if isinstance(share, jax.Array):
        return jnp.floor(share * number).astype(jnp.int32)
    ratio = Fraction(share).limit_denominator(40_000)
    many, rest = number // ratio.denominator, number % ratio.denominator
    return many * ratio.numerator + rest * ratio.numerator // ratio.denominator


def solve(
    given: Sequence[jax.Array], logs: Sequence[jax.Array], living: jax.Array, target: jax.Array
) -> jax.Array:
    """Solves ``sum(exp(given) * min(1, F exp(logs))) = target`` for log F.

    In a large network the search looks at a regular sample of the entries. The sum over all of
    them at its result then says in which proportion the sample misleads, and corrects the target.

    Args:
        given: log-probabilities of what must happen first, broadcastable against `logs`.
        logs: log-probabilities, ``-inf`` where there is nothing.
        living: how many of `logs` are finite.
        target: the expected number of survivors; one that cannot be reached gives F so large that
            every probability is 1.

    Returns:
        log F, a float32 scalar.
    """
    pairs = [(jnp.broadcast_to(g, log.shape), log) for g, log in zip(given, logs, strict=True)]
    # An odd stride walks through all channels, whose number mostly is a power of two.
    stride = sum(log.size for log in logs) // SAMPLE | 1
    sample = tuple(
        jnp.concatenate([entries.reshape(-1)[::stride] for entries in side])
        for side in zip(*pairs, strict=True)
    )
    finite = sample[1] > -jnp.inf
    scale = living / jnp.maximum(count(finite), 1)
    # F never needs to exceed 1/P of the least likely.
    highest = -jnp.min(jnp.where(finite, sample[1], 0.0))

    def estimate(log_f: jax.Array) -> jax.Array:
        return scale * jnp.sum(_kept(sample[0], sample[1], log_f))

    def solved(wanted: jax.Array) -> jax.Array:
        log_f = search(estimate, (1.0 + 1e-6) * wanted, LOWEST, highest, 1e-5 * wanted)
        return jnp.where(log_f < highest, log_f, UNBOUNDED)

    wanted = jnp.asarray(target, jnp.float32)
    log_f = solved(wanted)
    if stride > 1:
        expected = total(*[_kept(*pair, log_f) for pair in pairs])
        log_f = solved(wanted * (wanted / jnp.maximum(expected, 1e-30)))
    return log_f


def _kept(given: jax.Array, log: jax.Array, log_f: jax.Array | float) -> jax.Array:
    return jnp.exp(given + jnp.minimum(0.0, log_f + log))


def _require(clusters: float, synapses: float, min_clusters: int) -> None:
    require_share("clusters", clusters)
    require_share("synapses", synapses)
    if min_clusters < 1 or int(min_clusters) != min_clusters:
        raise ValueError(f"min_clusters must be a whole number of at least 1; got {min_clusters}")


def require_share(name: str, share: float) -> None:
    """Raises ValueError if a share lies outside (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{name} must lie in (0, 1]; got {share}")
