"""Environmental factors: how many clusters and synapses an offspring may keep (Eq. 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.genetics.encoding import Encoding, Gene
from evojax.genetics.reduction import count, total
from evojax.genetics.search import search

SAMPLE = 1 << 17
"""About how many of a network's entries the estimate of a factor looks at."""

LOWEST = -20.0
"""The lowest log F: e^-20 of survivors is below any budget."""

UNBOUNDED = 1e6
"""A log F that makes every probability 1."""


CURRENCIES = ("macs", "parameters", "latency")
"""What a budget may be counted in, other than synapses."""


class Environment(NamedTuple):
    """What the surroundings of a generation allow.

    Attributes:
        clusters: share of the clusters of each kind, or one for all kinds together; or factors.
        synapses: share of the synapses within them; or their factor.
        share: what an offspring keeps of its parent, in (0, 1], counted in `currency`.
        currency: one of `CURRENCIES`; ``None`` for synapses.
        solved: whether factors are solved for, so that these shares are left.
        capped: whether no offspring may exceed `share`.
        min_clusters: how many clusters a layer keeps, whatever is drawn.
    """

    clusters: tuple[float, ...]
    synapses: float
    share: float
    currency: str | None
    solved: bool
    capped: bool
    min_clusters: int


def budget(
    clusters: float | Sequence[float] | None = None,
    synapses: float | None = None,
    *,
    total: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    latency: float | None = None,
    min_clusters: int = 1,
) -> Environment:
    """Solves for the factors F_c and F_s that leave an expected share of the parent.

    F_c is such that the expected share of surviving clusters is `clusters`; F_s then is such that
    the expected share of surviving synapses is ``clusters * synapses``. Both are solved over the
    whole network, so strong layers keep more; F may exceed 1, a probability is clipped at 1. No
    offspring keeps more than ``clusters * synapses`` of its parent's synapses. The papers have it
    that "an offspring deep neural network should not have more than 80% of the total number of
    synapses in its direct ancestor" (Shafiee & Wong 2016, section 3), which is ``total=0.8``; their
    tables fit 0.8 of the clusters and 0.8 of the synapses in them, and so does their LeNet. Biases
    count as synapses, and as surviving ones:
    where channels die and take theirs along, fewer survive than the shares say. So they do where
    few clusters are drawn: half of the draws exceed the share and are cut back to it, and the mean
    draw lies below it (by 0.6 % with 2,600 clusters at 0.8, by a tenth with 70 at 0.5).

    With `macs`, `parameters` or `latency` the budget is one of cost: that of the dense network that
    is left when dead channels are cut out (`evojax.compact`), every entry at its parameter's price
    (`evojax.channels`). Channels must be clusters then: their F is solved for the expected cost, no
    offspring costs more than this share of its parent, and `clusters` and `synapses` are shares
    within the living channels.

    Args:
        clusters: in (0, 1]. Where clusters nest, one share for each kind, the outermost first, or
            one that is the product of all. In a budget of cost channels are not among them.
        synapses: in (0, 1], within the surviving clusters.
        total: in (0, 1], in place of the two: each is its square root.
        macs: share of the multiply-accumulates, in (0, 1]. `clusters` and `synapses` are 1 where
            they are not given.
        parameters: likewise, of the entries of all parameters.
        latency: likewise, of the measured time.
        min_clusters: at least 1. A layer never falls below it: this goes before the cap, which
            the clusters that are kept so may exceed.

    Raises:
        ValueError: if a share or a number is out of range, or if shares exclude each other.
    """
    costs = {"macs": macs, "parameters": parameters, "latency": latency}
    named = {currency: share for currency, share in costs.items() if share is not None}
    if len(named) + (total is not None) > 1:
        raise ValueError("budget takes one of total=, macs=, parameters= and latency=, not several")
    if total is not None:
        if clusters is not None or synapses is not None:
            raise ValueError("budget takes either total= or clusters= and synapses=, not both")
        require_share("total", total)
        clusters, synapses = total**0.5, total**0.5
    elif named:
        clusters = 1.0 if clusters is None else clusters
        synapses = 1.0 if synapses is None else synapses
    if clusters is None or synapses is None:
        raise ValueError("budget needs clusters= and synapses=, or total=, or a share of cost")
    each = _require(clusters, synapses, min_clusters)
    currency, share = next(iter(named.items()), (None, math.prod(each) * synapses))
    require_share(currency or "share", share)
    return Environment(each, synapses, share, currency, True, True, min_clusters)


def constant(
    clusters: float | Sequence[float], synapses: float, *, min_clusters: int = 1
) -> Environment:
    """Multiplies every probability by F_c = `clusters` and F_s = `synapses`.

    That is Eq. 3 of Shafiee & Wong 2016 by itself: nothing is solved for, and nothing capped. Where
    clusters nest, `clusters` holds a factor for each kind, the outermost first, or one that
    is the product of all.

    Raises:
        ValueError: if a factor lies outside (0, 1] or `min_clusters` is below 1.
    """
    each = _require(clusters, synapses, min_clusters)
    share = math.prod(each) * synapses
    return Environment(each, synapses, share, None, False, False, min_clusters)


def kinds_of_shares(encoding: Encoding, environment: Environment) -> int:
    """How many kinds of clusters the environment has a share for."""
    kinds = len(encoding.cluster)
    return kinds - ("channel" in encoding.cluster and environment.currency is not None)


def portions(
    environment: Environment, kinds: int, share: float | jax.Array
) -> list[float | jax.Array]:
    """The share of each kind of clusters where `share` is left of the parent, not the usual one.

    Raises:
        ValueError: if the environment names shares of another number of kinds.
    """
    each = environment.clusters
    if len(each) == 1:
        each = (each[0] ** (1 / max(kinds, 1)),) * kinds
    if len(each) != kinds:
        raise ValueError(
            f"the environment has shares of {len(each)} kinds of clusters, the encoding {kinds}: "
            "expected one share for each kind, or one for all"
        )
    if not environment.solved or environment.currency is not None:
        return list(each)
    usual = environment.share
    # Another share than the usual one divides between kinds and synapses in the same proportion.
    parts = [math.log(part) / math.log(usual) if usual < 1 else 0.5 / kinds for part in each]
    return [share**part for part in parts]


def channel_factor(
    share: float | jax.Array,
    log: jax.Array,
    expected: Callable[[jax.Array], jax.Array],
    parent: jax.Array,
) -> jax.Array:
    """log F of the channels that leaves an expected share of the parent's cost, or of its channels.

    Args:
        share: the share to leave.
        log: log-probabilities of the channels, -inf where there is none.
        expected: from probabilities of the channels to what is expected to be left.
        parent: what the parent has.
    """
    highest = -jnp.min(jnp.where(log > -jnp.inf, log, 0.0))
    wanted = jnp.asarray(share * parent, jnp.float32)

    def left(log_f: jax.Array) -> jax.Array:
        return expected(jnp.exp(jnp.minimum(0.0, log_f + log)))

    log_f = search(left, (1.0 + 1e-6) * wanted, LOWEST, highest, 1e-5 * wanted)
    return jnp.where(log_f < highest, log_f, UNBOUNDED)


def factors(
    environment: Environment,
    genes: Sequence[Gene],
    shares: Sequence[float | jax.Array],
    drawn: jax.Array,
    target: jax.Array,
    clustered: bool,
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """log F_c of each kind of clusters, and log F_s.

    Args:
        environment: decides whether they are solved for.
        genes: the groups' log-probabilities.
        shares: of each kind of clusters (`portions`), channels left out.
        drawn: number of the synapses that are drawn.
        target: how many of them are to be left.
        clustered: whether the encoding draws clusters; if not, F_c is 1 and the share all F_s's.
    """
    kinds = range(len(shares))
    log_fcs = [jnp.float32(0.0) for _ in kinds]
    if not environment.solved:
        multipliers = [*shares, environment.synapses]
        if not clustered:
            multipliers = [*[1.0] * len(shares), math.prod(multipliers)]
        logs = [jnp.log(jnp.float32(factor)) for factor in multipliers]
        return tuple(logs[:-1]), logs[-1]
    kept = [jnp.zeros((), jnp.float32)] * len(genes)
    left: float | jax.Array = 1.0
    for kind in kinds:
        logs = [gene.clusters[kind] for gene in genes]
        if clustered:
            left = left * shares[kind]
            living = count(*[log > -jnp.inf for log in logs])
            log_fcs[kind] = solve(kept, logs, living, left * living.astype(jnp.float32))
        pairs = zip(kept, logs, strict=True)
        kept = [given + jnp.minimum(0.0, log_fcs[kind] + log) for given, log in pairs]
    log_fs = solve(kept, [gene.synapses for gene in genes], drawn, target)
    return tuple(log_fcs), log_fs


def share_of(number: jax.Array, share: float | jax.Array) -> jax.Array:
    """``floor(share * number)`` of an int32; in whole numbers, as float32 is too coarse."""
    if isinstance(share, jax.Array):
        return jnp.floor(share * number.astype(jnp.float32)).astype(jnp.int32)
    ratio = Fraction(share).limit_denominator(40_000)  # 7/10, not the float just below it.
    if ratio > share * (1 + 1e-12):
        ratio = Fraction(math.floor(share * 40_000), 40_000)
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


def _require(
    clusters: float | Sequence[float], synapses: float, min_clusters: int
) -> tuple[float, ...]:
    """The shares of clusters, checked."""
    each = tuple(clusters) if isinstance(clusters, Sequence) else (clusters,)
    if not each:
        raise ValueError("clusters must be one share or more; got none")
    for share in each:
        require_share("clusters", share)
    require_share("synapses", synapses)
    if min_clusters < 1 or int(min_clusters) != min_clusters:
        raise ValueError(f"min_clusters must be a whole number of at least 1; got {min_clusters}")
    return each


def require_share(name: str, share: float) -> None:
    """Raises ValueError if a share lies outside (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{name} must lie in (0, 1]; got {share}")
