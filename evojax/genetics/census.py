"""Counting: synapses, clusters and the papers' efficiencies."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.genetics.clusters import Clusters, Follows, Layout, Role, Synapses, cluster_axes, nested
from evojax.genetics.trees import PyTree, flatten


class LayerCensus(NamedTuple):
    """Counts of one layer.

    Attributes:
        name: path of the layer's module; of its weights, where the module has several.
        weights: living synapses, without biases.
        synapses: living synapses, biases included (the papers' totals fit only so).
        clusters: clusters with at least one living synapse.
        size: synapses of the ancestor, biases included.
        total_clusters: clusters of the ancestor.
    """

    name: str
    weights: int
    synapses: int
    clusters: int
    size: int
    total_clusters: int


class Census(NamedTuple):
    """Counts of a network and its efficiencies against the ancestor that the masks' shapes give.

    Attributes:
        layers: counts by layer, in the order asked for.
        synapses: living synapses, biases included.
        clusters: living clusters, the classifier's left out.
        architectural_efficiency: A-E, ancestor's synapses / living synapses.
        cluster_efficiency: E, mean over layers of the ancestor's clusters / living ones, the
            classifier left out (as the papers' tables do, worked out from their figures). A layer
            without any living cluster counts as if it had one.
        cluster_efficiency_pooled: the ratio of the sums instead.
    """

    layers: tuple[LayerCensus, ...]
    synapses: int
    clusters: int
    architectural_efficiency: float
    cluster_efficiency: float
    cluster_efficiency_pooled: float


def census(
    masks: PyTree,
    plan: Layout,
    order: Sequence[str] = (),
    outputs: str | Collection[str] = (),
    cluster: str = "kernel",
) -> Census:
    """Counts a network's living synapses and clusters, on the host.

    Args:
        masks: PyTree of bool arrays, ``None`` where nothing is pruned.
        plan: the parameters' roles (`Synthesis.layout`).
        order: names of layers in the order to report; layers not named come after.
        outputs: name of the layer, or names of the layers, left out of the cluster efficiency,
            unless there are no others: the classifier, in the papers' tables.
        cluster: what counts as a cluster. The papers count kernels whatever the encoding.
    """
    marks = {path: np.asarray(m) for path, m in flatten(masks)[0].items() if m is not None}
    kernels = [path for path, role in plan.roles.items() if isinstance(role, Synapses)]
    rank = {name: index for index, name in enumerate(order)}
    names = layer_names(kernels)
    kernels.sort(key=lambda path: rank.get(names[path], len(rank)))
    layers = tuple(_layer(path, names[path], marks, plan, cluster) for path in kernels)
    outside = {outputs} if isinstance(outputs, str) else set(outputs)
    counted = [layer for layer in layers if layer.name not in outside] or list(layers)
    alive = sum(layer.clusters for layer in counted)
    total = sum(layer.total_clusters for layer in counted)
    ratios = [layer.total_clusters / max(layer.clusters, 1) for layer in counted]
    synapses = sum(layer.synapses for layer in layers)
    return Census(
        layers=layers,
        synapses=synapses,
        clusters=alive,
        architectural_efficiency=sum(layer.size for layer in layers) / max(synapses, 1),
        cluster_efficiency=sum(ratios) / len(ratios),
        cluster_efficiency_pooled=total / max(alive, 1),
    )


def living(masks: PyTree, plan: Layout) -> jax.Array:
    """How many synapses are alive, an int32 scalar: `Census.synapses`, without leaving the device.

    Args:
        masks: PyTree of bool arrays, ``None`` where nothing is pruned.
        plan: the parameters' roles.
    """
    marks, _ = flatten(masks)
    counted = [
        marks[path]
        for path, role in plan.roles.items()
        if isinstance(role, Synapses) or (isinstance(role, Follows) and role.counted)
    ]
    return jnp.sum(jnp.stack([jnp.sum(mask, dtype=jnp.int32) for mask in counted]))


def similarity(masks: Sequence[PyTree], plan: Layout, cluster: Clusters = "kernel") -> float:
    r"""How alike the architectures of a population are, on the host.

    .. math::
        \frac{2}{n (n - 1)} \sum_{a < b} \frac{|C_a \cap C_b|}{|C_a \cup C_b|}

    over all pairs of n networks and their living clusters C, place by place: so the "percentage
    overlap of architectural clusters" of Chung et al. (2019, abstract) is read here. 1 where there
    is only one network, and for two that have no cluster at all.

    Args:
        masks: of each network, PyTrees of bool arrays.
        plan: the parameters' roles.
        cluster: cluster kind, or kinds, of which the innermost is counted, where a parameter names
            none; of channels their layers' filters.
    """
    living = []
    for each in masks:
        marks, _ = flatten(each)
        living.append(
            np.concatenate(
                [
                    _clusters(np.asarray(marks[path]), role, cluster).ravel()
                    for path, role in plan.roles.items()
                    if isinstance(role, Synapses)
                ]
            )
        )
    shares = [
        np.sum(one & other) / np.sum(one | other) if np.any(one | other) else 1.0
        for one, other in itertools.combinations(living, 2)
    ]
    return float(np.mean(shares)) if shares else 1.0


def sparse_bytes(size: int, alive: int, width: int = 4) -> int:
    """Bytes of living entries and of where they are: the least that says so.

    That is all entries as they are, or the living ones with a bitmask or with their indices.

    Args:
        size: entries, those included that are pruned.
        alive: living entries.
        width: bytes of one value.
    """
    places = min(-(-size // 8), index_bytes(size) * alive)
    return min(width * size, width * alive + places)


def index_bytes(size: int) -> int:
    """Bytes of an index into so many entries: 2 or 4."""
    return 2 if size <= 1 << 16 else 4


def layer_names(paths: Collection[str]) -> dict[str, str]:
    """The layers' names: a module's path, or the parameter's own where the module has several.

    Args:
        paths: of all parameters that carry synapses.

    Example:
        >>> layer_names(["conv/kernel", "cell/hi", "cell/hf"])
        {'conv/kernel': 'conv', 'cell/hi': 'cell/hi', 'cell/hf': 'cell/hf'}
    """
    modules = {path: path.rpartition("/")[0] for path in paths}
    held = Counter(modules.values())
    return {
        path: module if held[module] == 1 and module else path for path, module in modules.items()
    }


def _layer(
    path: str, name: str, marks: dict[str, np.ndarray], plan: Layout, cluster: str
) -> LayerCensus:
    mask = marks[path]
    clusters = _clusters(mask, plan.roles[path], cluster)
    followers = [
        marks[follower]
        for follower, role in plan.roles.items()
        if isinstance(role, Follows) and role.of == path and role.counted
    ]
    weights = int(mask.sum())
    return LayerCensus(
        name=name,
        weights=weights,
        synapses=weights + sum(int(m.sum()) for m in followers),
        clusters=int(clusters.sum()),
        size=mask.size + sum(m.size for m in followers),
        total_clusters=clusters.size,
    )


def _clusters(mask: np.ndarray, role: Role, cluster: Clusters) -> np.ndarray:
    """Which clusters of one parameter have a living synapse."""
    kind = role.cluster if isinstance(role, Synapses) else None
    innermost = nested(kind or cluster)[-1]
    axes = cluster_axes("filter" if innermost == "channel" else innermost, mask.ndim)
    return np.asarray(mask.any(axes))
