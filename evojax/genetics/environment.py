"""Environmental factors: how many clusters and synapses an offspring may keep (Eq. 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.encoding import Dna

SAMPLE = 1 << 16
"""How many entries of each group the first estimate of a factor looks at."""


class Environment(NamedTuple):
    """What the surroundings of a generation allow.

    Attributes:
        name: how it was made, for records.
        factors: ``(genes, alive, extra, share) -> (log F_c, log F_s)`` where `genes` are the groups'
            log-probabilities, `alive` the parent's number of synapses, those that no draw decides
            (`extra`, the biases) included, and `share` the share to leave.
        share: the share of the parent's synapses that an offspring keeps, in (0, 1].
        capped: whether no offspring may exceed `share`.
        min_clusters: how many clusters a layer keeps, whatever is drawn.
    """

    name: str
    factors: Callable[[Sequence[Dna], jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
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
    ancestor" (Shafiee & Wong 2016, section 3). Biases count as synapses.

    Args:
        clusters: in (0, 1].
        synapses: in (0, 1], within the surviving clusters.
        total: in (0, 1], in place of the two: each is its square root.
        min_clusters: at least 1. A layer never falls below it; this goes before the cap.

    Raises:
        ValueError: if a share or a number is out of range, or if `total` comes with the two.
    """
    if total is not None:
        if clusters is not None or synapses is not None:
            raise ValueError("budget takes either total= or clusters= and synapses=, not both")
        _require_share("total", total)
        clusters = synapses = total**0.5
    if clusters is None or synapses is None:
        raise ValueError("budget needs clusters= and synapses=, or total=")
    _require(clusters, synapses, min_clusters)
    share = clusters * synapses
    # Another share than this one divides between clusters and synapses in the same proportion.
    part = math.log(clusters) / math.log(share) if share < 1 else 0.5

    def factors(
        genes: Sequence[Dna], alive: jax.Array, extra: jax.Array, share: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logs = [gene.clusters for gene in genes]
        ones = [jnp.zeros((), jnp.float32)] * len(logs)
        living = sum(jnp.sum(log > -jnp.inf, dtype=jnp.float32) for log in logs)
        log_fc = solve(ones, logs, share**part * living)
        given = [jnp.minimum(0.0, log_fc + log) for log in logs]
        log_fs = solve(given, [gene.synapses for gene in genes], share * alive - extra)
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
        genes: Sequence[Dna], alive: jax.Array, extra: jax.Array, share: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        del genes, alive, extra, share
        return jnp.log(jnp.float32(clusters)), jnp.log(jnp.float32(synapses))

    name = f"constant(clusters={clusters:g}, synapses={synapses:g})"
    return Environment(name, factors, clusters * synapses, False, min_clusters)


def solve(given: Sequence[jax.Array], logs: Sequence[jax.Array], target: jax.Array) -> jax.Array:
    """Solves ``sum(exp(given) * min(1, F exp(logs))) = target`` for log F.

    The sum is increasing and concave in F. A bisection on a regular sample of the entries comes
    near; Newton steps over all of them, which approach from below, finish.

    Args:
        given: log-probabilities of what must happen first, broadcastable against `logs`.
        logs: log-probabilities, ``-inf`` where there is nothing.
        target: the expected number of survivors; one that cannot be reached gives F so large that
            every probability is 1.

    Returns:
        log F, a float32 scalar.
    """
    sample = [
        _thin(jnp.broadcast_to(g, log.shape), log) for g, log in zip(given, logs, strict=True)
    ]
    lowest = min_finite(sample)
    log_f = _bisect(sample, target, lowest)

    def newton(_: int, log_f: jax.Array) -> jax.Array:
        clipped, sloped = jnp.float32(0), jnp.float32(0)
        for g, log in zip(given, logs, strict=True):
            weight = jnp.exp(g)
            full = log_f + log >= 0
            clipped += jnp.sum(jnp.where(full, weight, 0.0))
            sloped += jnp.sum(jnp.where(full, 0.0, jnp.exp(g + log_f + log)))
        step = jnp.log(jnp.maximum(target - clipped, 1e-30) / jnp.maximum(sloped, 1e-30))
        # Where all is clipped, or the sample misled, a bounded step keeps the estimate sane.
        return log_f + jnp.where(sloped > 0, jnp.clip(step, -1.0, 1.0), 0.0)

    return jax.lax.fori_loop(0, 3, newton, log_f)


def _thin(given: jax.Array, log: jax.Array) -> tuple[jax.Array, jax.Array, float]:
    """Every n-th entry of a group, and n."""
    stride = max(1, log.size // SAMPLE)
    flat_given, flat_log = given.reshape(-1)[::stride], log.reshape(-1)[::stride]
    return flat_given, flat_log, log.size / flat_log.size


def min_finite(sample: Sequence[tuple[jax.Array, jax.Array, float]]) -> jax.Array:
    """The smallest finite log-probability of a sample."""
    smallest = [jnp.min(jnp.where(log > -jnp.inf, log, 0.0)) for _, log, _ in sample]
    return jnp.min(jnp.stack(smallest))


def _bisect(
    sample: Sequence[tuple[jax.Array, jax.Array, float]], target: jax.Array, lowest: jax.Array
) -> jax.Array:
    def expected(log_f: jax.Array) -> jax.Array:
        return sum(
            (
                stride * jnp.sum(jnp.exp(g + jnp.minimum(0.0, log_f + log)))
                for g, log, stride in sample
            ),
            start=jnp.float32(0),
        )

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        enough = expected(middle) >= target
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    # F never needs to exceed 1/P of the least likely; e^-20 of survivors is below any budget.
    bounds = (jnp.float32(-20.0), -lowest)
    return jax.lax.fori_loop(0, 24, halve, bounds)[1]


def _require(clusters: float, synapses: float, min_clusters: int) -> None:
    _require_share("clusters", clusters)
    _require_share("synapses", synapses)
    if min_clusters < 1 or int(min_clusters) != min_clusters:
        raise ValueError(f"min_clusters must be a whole number of at least 1; got {min_clusters}")


def _require_share(name: str, share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{name} must lie in (0, 1]; got {share}")
