"""Vestigial synapses: those through which no signal can flow from the input to the output.

When a channel's last outgoing kernel dies, its incoming synapses go on being counted though nothing
reads them; when its last incoming one dies, its outgoing synapses read zeros. Their gradients are
zero, so training neither uses nor shrinks them, and their strength keeps them in the DNA.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from evojax.genetics import Follows, Layout, Synapses
from evojax.genetics.trees import flatten, path_hash
from evojax.learning import Model, Network
from evojax.learning.network import PyTree, Shape

IMAGES = 64


def sweeper(model: Model, plan: Layout, shape: Shape) -> Callable[[Network], PyTree]:
    """Makes ``(network) -> masks`` without vestigial synapses, one compiled function.

    It sends positive images through a copy of the network in which every living synapse has a
    positive weight and every bias is 0, so that no two paths cancel: a synapse carries signal
    exactly where the gradient of the summed outputs is not zero. (Images and weights vary, so that
    each maximum comes once from every place.) This finds dead ends in any model
    built of sums, products with weights, pooling, normalisation by running statistics and monotone
    activations that map 0 to 0. Where no path at all is left, the masks come back unchanged.

    The swept network computes the same function but for constants: a channel that no input reaches
    dies with its bias, which until then was the same number for every image.

    Args:
        model: the model.
        plan: the parameters' roles.
        shape: of an image, (H, W, C).

    Raises:
        ValueError: if it would take living synapses for dead ones in the fully alive network, as
            in one that normalises by the statistics of each image, or finds no path at all.
    """

    def outputs(params: PyTree, batch_stats: PyTree, images: jax.Array) -> jax.Array:
        return jnp.sum(model.forward(params, batch_stats, images, False)[0])

    @jax.jit
    def swept_and_connected(network: Network) -> tuple[PyTree, jax.Array]:
        images = _positive("images", (IMAGES, *shape), 2.0)
        marks, structure = flatten(network.masks)
        leaves, _ = flatten(network.params)
        unit = jax.tree.unflatten(
            structure,
            [_unit(path, plan.roles[path], leaf, marks[path]) for path, leaf in leaves.items()],
        )
        neutral = jax.tree_util.tree_map_with_path(_neutral, network.batch_stats)
        signal, _ = flatten(jax.grad(outputs)(unit, neutral, images))
        swept: dict[str, jax.Array] = {}
        for path, role in plan.roles.items():
            if isinstance(role, Synapses):
                swept[path] = marks[path] & (signal[path] > 0)
        for path, role in plan.roles.items():
            if isinstance(role, Follows):
                kernel = swept[role.of]
                swept[path] = marks[path] & jnp.any(kernel, tuple(range(kernel.ndim - 1)))
        connected = jnp.any(jnp.stack([jnp.any(swept[path]) for path in swept]))
        kept = [
            mask if mask is None else jnp.where(connected, swept[path], mask)
            for path, mask in marks.items()
        ]
        return jax.tree.unflatten(structure, kept), connected

    params, batch_stats = model.init(jax.random.key(0), shape)
    leaves, structure = flatten(params)
    whole = [
        None if plan.roles[path] is None else jnp.ones(leaf.shape, bool)
        for path, leaf in leaves.items()
    ]
    network = Network(params, batch_stats, jax.tree.unflatten(structure, whole))
    swept, connected = jax.device_get(swept_and_connected(network))
    # Whole kernels: taps of one may well be dead, where a small image never fills its window.
    kernels = [np.any(mask, tuple(range(mask.ndim - 2))) for mask in jax.tree.leaves(swept)]
    if not connected or not all(map(np.all, kernels)):
        raise ValueError(
            "sweep cannot follow signals through this model: it would remove living synapses, as "
            "where layer or group normalisation subtracts a mean, or where signals pass a factor "
            "that is not named scale. Do without sweep."
        )
    return lambda network: swept_and_connected(network)[0]


def _unit(path: str, role: object, leaf: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Weights in which no two paths cancel: positive where alive; biases and offsets 0."""
    if isinstance(role, Synapses) and mask is not None:
        # Divided by the living fan-in, so that deep networks neither overflow nor vanish.
        alive = mask.astype(jnp.float32)
        fan_in = jnp.sum(alive, tuple(range(mask.ndim - 1)), keepdims=True)
        return alive * _positive(path, leaf.shape, 0.1) / jnp.maximum(fan_in, 1)
    return jnp.ones_like(leaf) if path.endswith("scale") else jnp.zeros_like(leaf)


def _positive(name: str, shape: Shape, spread: float) -> jax.Array:
    """Fixed positive random numbers around 1."""
    key = jax.random.fold_in(jax.random.key(0), path_hash(name))
    return jnp.exp(spread * jax.random.normal(key, shape))


def _neutral(path: tuple, leaf: jax.Array) -> jax.Array:
    """Running statistics that let signals pass: mean 0, variance 1."""
    return jnp.ones_like(leaf) if "var" in str(path[-1]) else jnp.zeros_like(leaf)
