"""Channels as clusters: what enters or leaves one channel lives or dies together, across layers.

The papers' clusters lie within one layer. A channel is the cluster that pays: when it is gone, the
network is physically smaller (`evojax.compact`). Which entries of which parameters carry the same
channel is found by tracing the network (`evojax.channels`); here it is data.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.genetics.clusters import Layout, Synapses
from evojax.genetics.encoding import Encoding, Strengths
from evojax.genetics.trees import PyTree, flatten

Axis = np.ndarray
"""Channels of the entries along an axis, int32 (length, factors), -1 for none. Where a reshape
merged axes, an entry lies in several channels and is gone if one of them is; an axis without
channels has no factors.
"""


class Channels(NamedTuple):
    """The channels of a network.

    Attributes:
        axes: the channels along each axis of every parameter, by path.
        families: by name, the channels that are alike: the outputs of one layer, or of several
            whose outputs are added. Every channel is in one of them.
        prices: by currency (`evojax.genetics.environment.CURRENCIES`) and path, what one entry of a
            parameter costs in the dense network.
        others: as `axes`, of the variables that are no parameters (running statistics).
    """

    axes: Mapping[str, tuple[Axis, ...]]
    families: Mapping[str, np.ndarray]
    prices: Mapping[str, Mapping[str, float]]
    others: Mapping[str, tuple[Axis, ...]] = MappingProxyType({})

    @property
    def number(self) -> int:
        """How many channels there are."""
        return sum(len(members) for members in self.families.values())


def check_channels(params: PyTree, channels: Channels) -> None:
    """Checks that channels are those of a network.

    Raises:
        ValueError: if paths or shapes differ; the message names the first.
    """
    leaves, _ = flatten(params)
    shapes = {path: jnp.shape(leaf) for path, leaf in leaves.items() if leaf is not None}
    for path in sorted(shapes.keys() | channels.axes.keys()):
        axes = channels.axes.get(path)
        found = shapes.get(path)
        fits = (
            axes is not None
            and found is not None
            and len(axes) == len(found)
            and all(len(a) == n for a, n in zip(axes, found, strict=True))
        )
        if not fits:
            raise ValueError(
                f"the channels are of another network: {path} has the shape {found} here, and "
                f"{'other' if path in channels.axes else 'no'} axes there. Find them with "
                "evojax.channels(apply, variables, x)."
            )


def living_channels(masks: PyTree, plan: Layout, channels: Channels) -> jax.Array:
    """Which channels are alive: living ones enter them, and are entered by them where any could be.

    To a fixed point: what is fed by dead channels only is dead. A bias that lives on there makes a
    constant of its channel, which `evojax.compact` folds where it can.

    Args:
        masks: PyTree of bool arrays, ``None`` where nothing is pruned.
        plan: the parameters' roles.
        channels: of the network.

    Returns:
        bool (channels,).
    """
    marks, _ = flatten(masks)
    paths = [path for path, role in plan.roles.items() if isinstance(role, Synapses)]

    def opened_by(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        alive, _ = state
        opened = {path: open_to(alive, channels, path, marks[path]) for path in paths}
        return _connected_to(opened, channels), alive

    everything = jnp.ones(channels.number, bool)
    start = _connected_to({path: marks[path] for path in paths}, channels), everything
    return jax.lax.while_loop(lambda state: jnp.any(state[0] != state[1]), opened_by, start)[0]


def _connected_to(marks: Mapping[str, jax.Array], channels: Channels) -> jax.Array:
    """Channels that synapses enter, and that others leave where any could."""
    entered, left = (jnp.zeros(channels.number, bool) for _ in range(2))
    leaving = np.zeros(channels.number, bool)
    for path, mask in marks.items():
        for axis, ids in enumerate(channels.axes[path]):
            last = axis == mask.ndim - 1
            alive = jnp.any(mask, tuple(i for i in range(mask.ndim) if i != axis))
            for factor in ids.T:
                found = jnp.zeros(channels.number, bool)
                found = found.at[places(factor, channels)].max(alive, mode="drop")
                entered, left = (entered | found, left) if last else (entered, left | found)
                leaving[factor[factor >= 0]] |= not last
    return entered & (left | ~leaving)


def spent(alive: jax.Array, channels: Channels, currency: str | None) -> jax.Array:
    """What the dense network costs that is left when dead channels are cut out.

    Args:
        alive: which channels live, bool (channels,); or with which probability, float.
        channels: of the network.
        currency: a key of `Channels.prices`; ``None`` counts living channels.

    Returns:
        float32 scalar; of probabilities, the cost at the expected widths.
    """
    alive = alive.astype(jnp.float32)
    if currency is None:
        return jnp.sum(alive)
    padded = jnp.append(alive, 1.0)  # Where -1 looks.
    known: dict[tuple, jax.Array] = {}

    def length(ids: np.ndarray) -> jax.Array:
        if not ids.shape[1]:
            return jnp.float32(len(ids))
        key = (ids.shape, ids.tobytes())
        if key not in known:
            known[key] = jnp.sum(jnp.prod(padded[ids], axis=1))
        return known[key]

    costs = []
    for path, price in channels.prices[currency].items():
        lengths = [length(ids) for ids in channels.axes[path]]
        costs.append(price * functools.reduce(jnp.multiply, lengths, jnp.float32(1.0)))
    return jnp.sum(jnp.stack(costs))


def channel_gene(
    params: Mapping[str, jax.Array],
    masks: Mapping[str, jax.Array],
    plan: Layout,
    encoding: Encoding,
    channels: Channels,
    living: jax.Array,
) -> jax.Array:
    """Log-probabilities of the channels: Eq. 4 over all that enters or leaves each.

    Of every layer along a channel the sum over its synapses is taken in shares of the layer's
    largest such sum, so that layers count alike; the channel's strength is the mean of these
    shares, in shares of its family's largest.

    Args:
        params: by path.
        masks: by path.
        plan: the parameters' roles.
        encoding: gives synapses their strengths.
        channels: of the network.
        living: which channels are alive, bool (channels,).

    Returns:
        (channels,), -inf where dead.
    """
    sums = jnp.zeros(channels.number, jnp.float32)
    layers = np.zeros(channels.number, np.float32)
    for path, role in plan.roles.items():
        if isinstance(role, Synapses):
            for axis, ids in enumerate(channels.axes[path]):
                if ids.shape[1]:
                    others = tuple(i for i in range(params[path].ndim) if i != axis)
                    strengths = encoding.strengths(params[path], masks[path], (others,))
                    along = strengths.clusters[0].reshape(-1)
                    along = jnp.where(along > -jnp.inf, along, 0.0)
                    for factor in ids.T:
                        each = jnp.zeros(channels.number, jnp.float32)
                        each = each.at[places(factor, channels)].add(along, mode="drop")
                        sums += each / _positive(jnp.max(jnp.abs(each)))
                        layers[np.unique(factor[factor >= 0])] += 1
    mean = sums / np.maximum(layers, 1)
    rows = family_rows(channels)
    most = jnp.max(in_rows(jnp.abs(mean), rows, 0.0), axis=1)
    units = (
        jnp.zeros(channels.number, jnp.float32)
        .at[places(rows, channels)]
        .set(most[:, None], mode="drop")
    )
    strength = jnp.where(living, mean, -jnp.inf)
    zero = jnp.zeros((), jnp.float32)
    return encoding.probabilities(Strengths((strength,), zero, (units,), zero + 1)).clusters[0]


def open_to(
    alive: jax.Array, channels: Channels, path: str, mask: jax.Array | bool = True
) -> jax.Array:
    """Which entries of a parameter, of those in a mask, lie in living channels only.

    Args:
        alive: which channels live, bool (channels,).
        channels: of the network.
        path: of the parameter.
        mask: of its shape.

    Returns:
        bool, of the mask's shape; without a mask only broadcastable to the parameter's.
    """
    padded = jnp.append(alive, True)  # Where -1 looks.
    axes = channels.axes[path]
    factors = [
        jnp.all(padded[ids], axis=1).reshape([-1 if i == axis else 1 for i in range(len(axes))])
        for axis, ids in enumerate(axes)
        if ids.shape[1]
    ]
    return functools.reduce(jnp.logical_and, factors, jnp.asarray(mask))


def places(ids: np.ndarray, channels: Channels) -> np.ndarray:
    """Where to put what belongs to these channels; behind the end, where it is dropped, for -1."""
    return np.where(ids < 0, np.int32(channels.number), ids)


def family_rows(channels: Channels) -> np.ndarray:
    """The families as rows of one table, -1 where a family has fewer."""
    width = max((len(members) for members in channels.families.values()), default=1)
    rows = np.full((len(channels.families), width), -1, np.int32)
    for row, members in zip(rows, channels.families.values(), strict=True):
        row[: len(members)] = members
    return rows


def in_rows(values: jax.Array, rows: np.ndarray, empty: float) -> jax.Array:
    """What belongs to channels, where `family_rows` has them; `empty` where it has none."""
    return jnp.where(rows >= 0, values[np.maximum(rows, 0)], empty)


def _positive(number: jax.Array) -> jax.Array:
    return jnp.where(number > 0, number, 1.0)
