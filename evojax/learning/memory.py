"""How much memory training takes, reckoned from shapes before anything is allocated."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import jax

from evojax.learning.network import Model, PyTree, Shape
from evojax.learning.recipe import Recipe, compute_dtype, optimizer


class Memory(NamedTuple):
    """Device memory in bytes.

    Attributes:
        parameters: how many parameters there are, normalisation included (a number, not bytes).
        state: weights, gradients, the optimizer's state and masks.
        activations: what a batch's forward pass keeps for the backward pass. A compiler that
            fuses needs less.
        images: images on the device and their labels.
        members: how many networks train at once on a device (a number, not bytes); `state` and
            `activations` are of each.
    """

    parameters: int
    state: int
    activations: int
    images: int
    members: int = 1

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.members * (self.state + self.activations) + self.images

    def fitting(self, limit: int | None, most: int) -> Memory:
        """With as many networks at once as fit into a device: at least one, at most so many.

        Args:
            limit: the device's memory in bytes, ``None`` where that is not known.
            most: how many there are.
        """
        if limit is not None:
            most = min(most, (limit - self.images) // (self.state + self.activations))
        return self._replace(members=max(most, 1))


def training_memory(model: Model, recipe: Recipe, shape: Shape, images: int) -> Memory:
    """Reckons what it takes to train a network.

    Args:
        model: the model.
        recipe: how it is trained.
        shape: of an image, (H, W, C).
        images: how many there are to train on.
    """
    dtype = compute_dtype(recipe)
    params, batch_stats = model.shapes(shape)
    batch = jax.ShapeDtypeStruct((min(recipe.batch_size, images), *shape), dtype)

    def kept(params: PyTree, batch_stats: PyTree, batch: jax.Array) -> PyTree:
        def logits(params: PyTree) -> jax.Array:
            low = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
            return model.forward(low, batch_stats, batch, True)[0]

        return jax.vjp(logits, params)[1]  # A PyTree of what the backward pass reads.

    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    moments = _bytes(jax.eval_shape(optimizer(recipe).init, params))
    return Memory(
        parameters=count,
        state=2 * _bytes(params) + moments + count + _bytes(batch_stats),
        activations=_bytes(jax.eval_shape(kept, params, batch_stats, batch)),
        images=images * (math.prod(shape) + 4),
    )


def check_room(
    memory: Memory, smaller: str = "a smaller network or fewer images (subset)"
) -> Memory:
    """The same, if at least a network and the images fit into the device's memory.

    Args:
        memory: what training takes.
        smaller: what would take less, for the message.

    Raises:
        ValueError: if not.
    """
    limit = available()
    if limit is not None and memory.state + memory.images > limit:
        raise ValueError(
            f"training takes {memory.state / 1e9:.1f} GB for {memory.parameters:,} parameters with "
            f"gradients and the optimizer's state, and {memory.images / 1e9:.1f} GB for images; "
            f"the device has {limit / 1e9:.1f} GB. Take {smaller}, or another device."
        )
    return memory


def check_generation(model: Model, shape: Shape, networks: int) -> None:
    """Checks that a generation's networks, which are all kept until its end, fit into memory.

    Args:
        model: the model.
        shape: of an image, (H, W, C).
        networks: how many there are: weights, masks and running statistics of each.

    Raises:
        ValueError: if not.
    """
    limit = available()
    params, batch_stats = model.shapes(shape)
    each = _bytes(params) + _bytes(batch_stats) + sum(p.size for p in jax.tree.leaves(params))
    if limit is not None and networks * each > limit:
        raise ValueError(
            f"a generation of {networks:,} networks takes {networks * each / 1e9:,.1f} GB; the "
            f"device has {limit / 1e9:.1f} GB. Train fewer (offspring), or take a smaller network."
        )


def available() -> int | None:
    """Memory of the default device in bytes, ``None`` where that cannot be told."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and device.platform == "cpu" and hasattr(os, "sysconf"):
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return limit


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
