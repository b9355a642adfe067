"""Gene tagging off: a network whose living channels come first.

Parents without gene tags mate place by place wherever their structures stem from (Chung et al.
2018, section 1): of each parent the first living channel with the other's first, and so on. Moved
to the front with all that enters and leaves them, channels meet so where `gene_tagged` mates
places. The network computes what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.genetics.channels import Axis, Channels, check_channels, living_channels, places
from evojax.genetics.clusters import Layout, check_masks
from evojax.genetics.trees import PyTree, flatten, path_hash

Apply = Callable[[PyTree, PyTree], PyTree]


class Fronting(NamedTuple):
    """How living channels are moved to the front.

    Attributes:
        classes: channels that trade places, class by class, in the order of their places.
        front: ``(variables, masks) -> (variables, masks)`` with the living channels of every class
            in front of its dead ones, else in the order they had; jitted, vmaps over networks.
    """

    classes: tuple[np.ndarray, ...]
    front: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


def fronting(
    apply: Apply, variables: PyTree, x: PyTree, channels: Channels, plan: Layout
) -> Fronting:
    """Makes the function that moves a network's living channels to the front.

    Channels may trade places where they are of one family and lie equally often along the same axes
    (those of ResNet's first stage also lie along the later ones', which have more). Whether the
    network then really stays the same is tried out, on random weights: a class stays where it is
    unless swapping its first two channels and shifting all of them, which together make up every
    order, leave the outputs as they were but for rounding.

    Args:
        apply: ``(variables, x) -> outputs``, as for `evojax.channels`.
        variables: PyTree of arrays, or of their shapes.
        x: an input, of which only shapes matter where it is floating point.
        channels: of the network.
        plan: the parameters' roles.

    Raises:
        ValueError: if the channels are of another network, or none of them can trade places; from
            `Fronting.front`, if masks do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, evojax
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["hidden"]) @ variables["out"]
        >>> variables = {"hidden": jnp.arange(3.0)[None], "out": jnp.ones((3, 2))}
        >>> x = jnp.ones((1, 1))
        >>> found = evojax.channels(apply, variables, x)
        >>> plan = evojax.genetics.layout(variables)
        >>> masks = {"hidden": jnp.array([[False, True, True]]), "out": jnp.ones((3, 2), bool)}
        >>> fronted, _ = evojax.fronting(apply, variables, x, found, plan).front(variables, masks)
        >>> fronted["hidden"].tolist()
        [[1.0, 2.0, 0.0]]
    """
    axes = _axes(variables, channels)
    check_channels(variables, channels._replace(axes=axes))
    classes = _interchangeable(apply, variables, x, channels, axes)
    if not classes:
        raise ValueError(
            "no channels of this network can trade places without changing what it computes (or "
            "rounding hides that they can, as in a type coarser than float32), so none can be "
            "moved to the front: expected some. Mate with gene tags."
        )

    @jax.jit
    def jitted(variables: PyTree, masks: PyTree) -> tuple[PyTree, PyTree]:
        living = living_channels(masks, plan, channels)
        order = jnp.arange(channels.number)
        for members in classes:
            # Stable, and the living ones first.
            order = order.at[members].set(order[members][jnp.argsort(~living[members])])
        return _moved(variables, order, axes), _moved(masks, order, channels.axes)

    def front(variables: PyTree, masks: PyTree) -> tuple[PyTree, PyTree]:
        check_channels(variables, channels._replace(axes=axes))
        check_masks(_params(variables), masks, plan)
        return jitted(variables, masks)

    return Fronting(classes, front)


def _params(variables: PyTree) -> PyTree:
    inner = isinstance(variables, Mapping) and "params" in variables
    return variables["params"] if inner else variables


def _axes(variables: PyTree, channels: Channels) -> dict[str, tuple[Axis, ...]]:
    """The channels along the axes of all variables, by path."""
    prefix = "" if _params(variables) is variables else "params/"
    return {prefix + path: axes for path, axes in channels.axes.items()} | dict(channels.others)


def _moved(tree: PyTree, order: jax.Array, axes: Mapping[str, tuple[Axis, ...]]) -> PyTree:
    """Every channel's entries where those of another one were.

    Args:
        tree: of arrays, ``None`` where there is none.
        order: the channel that comes to each one's place, int32 (channels,).
        axes: the channels along the axes of every array, by path.
    """
    leaves, structure = flatten(tree)
    known: dict[tuple, jax.Array] = {}

    def moved(path: str, leaf: Any) -> Any:  # noqa: ANN401
        for axis, ids in enumerate(axes[path] if leaf is not None else ()):
            if ids.shape[1]:
                key = (ids.shape, ids.tobytes())
                if key not in known:
                    known[key] = _origins(ids, order)
                leaf = jnp.take(leaf, known[key], axis)
        return leaf

    return jax.tree.unflatten(structure, [moved(path, leaf) for path, leaf in leaves.items()])


def _origins(ids: Axis, order: jax.Array) -> jax.Array:
    """Which entry along an axis comes to each place: of a channel's entries the k-th to the k-th.

    Both orders are sorted by channel, an entry's several channels one after the other, and matched.
    """
    coming = jnp.append(order, -1)[ids]  # Where -1 looks.
    return jnp.zeros(len(ids), jnp.int32).at[jnp.lexsort(coming.T)].set(np.lexsort(ids.T))


def _interchangeable(
    apply: Apply,
    variables: PyTree,
    x: PyTree,
    channels: Channels,
    axes: Mapping[str, tuple[Axis, ...]],
) -> tuple[np.ndarray, ...]:
    """The classes whose channels trade places without changing the outputs."""
    weights, images = _random(variables), _random(x)

    @jax.jit
    def outputs(order: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(apply(_moved(weights, order, axes), images))

    def same(members: np.ndarray, others: np.ndarray) -> bool:
        order = np.arange(channels.number)
        order[members] = others
        return all(map(_close, outputs(order), expected))

    with jax.default_matmul_precision("highest"):
        expected = outputs(np.arange(channels.number))
        return tuple(
            members
            for members in _alike(channels)
            if same(members[:2], members[1::-1]) and same(members, np.roll(members, 1))
        )


def _alike(channels: Channels) -> list[np.ndarray]:
    """Channels of one family that lie equally often along the same axes, two or more."""
    factors = [
        factor
        for each in (*channels.axes.values(), *channels.others.values())
        for ids in each
        for factor in ids.T
    ]
    counts = np.stack(
        [np.bincount(places(f, channels), minlength=channels.number + 1)[:-1] for f in factors], 1
    )
    found: dict[tuple, list[int]] = {}
    for name, members in channels.families.items():
        for channel in np.sort(members):
            found.setdefault((name, counts[channel].tobytes()), []).append(int(channel))
    return [np.array(members) for members in found.values() if len(members) > 1]


def _random(tree: PyTree) -> PyTree:
    """Random numbers by path: weights that keep a signal's size, vectors around 1."""

    def drawn(path: str, leaf: Any) -> Any:  # noqa: ANN401
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            return jnp.zeros(shape, dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        generator = np.random.default_rng(path_hash(path))
        if len(shape) < 2:
            return jnp.asarray(generator.uniform(0.5, 1.5, shape), dtype)
        spread = np.sqrt(2 / np.prod(shape[:-1]))
        return jnp.asarray(spread * generator.standard_normal(shape), dtype)

    leaves, structure = flatten(tree)
    return jax.tree.unflatten(structure, [drawn(path, leaf) for path, leaf in leaves.items()])


def _close(one: jax.Array, other: jax.Array) -> bool:
    exact = not jnp.issubdtype(one.dtype, jnp.floating)
    # Some ten times what rounding was seen to do in ResNet-110 and AlexNet.
    tolerance = 0.0 if exact else float(jnp.finfo(one.dtype).eps) ** (2 / 3)
    ours, theirs = (np.asarray(array, np.float64) for array in (one, other))
    return bool(np.all(np.abs(ours - theirs) <= tolerance * np.max(np.abs(theirs), initial=0.0)))
