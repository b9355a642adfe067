"""How much memory training takes, reckoned from shapes before anything is allocated."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from evojax.learning.network import Model, PyTree, Shape
from evojax.learning.recipe import Recipe, compute_dtype, optimizer


class Memory(NamedTuple):
    """Device memory in bytes.

    Attributes:
        parameters: how many parameters there are, normalisation included (a number, not bytes).
        state: weights, running statistics, the optimizer's state and masks.
        gradients: of the weights.
        activations: what a batch's forward pass keeps for the backward pass, and what that works
            on: about the truth, for what a compiler fuses cannot be told before.
        images: images on the device and their labels.
        members: how many networks train at once on a device (a number, not bytes); `state` is of
            each. They take turns, and `gradients` and `activations` are of the one whose turn it
            is, with a copy of its state where there are several.
    """

    parameters: int
    state: int
    gradients: int
    activations: int
    images: int
    members: int = 1

    @property
    def network(self) -> int:
        """What one network in training takes, whatever it learns from, in bytes."""
        return self.state + self.gradients

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        states = self.members + (self.members > 1)
        return states * self.state + self.gradients + self.activations + self.images

    def fitting(self, limit: int | None, most: int) -> Memory:
        """With as many networks at once as fit into a device: at least one, at most so many.

        Args:
            limit: the device's memory in bytes, ``None`` where that is not known.
            most: how many there are.
        """
        if limit is not None:
            left = limit - self.images - self.activations - self.network
            most = min(most, left // self.state)
        return self._replace(members=max(most, 1))


def training_memory(model: Model, recipe: Recipe, shape: Shape, images: int) -> Memory:
    """Reckons what it takes to train a network.

    Args:
        model: the model.
        recipe: how it is trained.
        shape: of an image, (H, W, C).
        images: how many there are to train on.
    """
    params, batch_stats = model.shapes(shape)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    moments = _bytes(jax.eval_shape(optimizer(recipe).init, params))
    batch = (min(recipe.batch_size, images), *shape)
    return Memory(
        parameters=count,
        state=_bytes(params) + moments + count + _bytes(batch_stats),
        gradients=_bytes(params),
        activations=_activations(model, compute_dtype(recipe), params, batch_stats, batch),
        images=images * (math.prod(shape) + 4),
    )


def _activations(
    model: Model, dtype: jnp.dtype, params: PyTree, batch_stats: PyTree, batch: Shape
) -> int:
    """What the backward pass reads of the forward pass, and twice the forward pass's largest array.

    For where the backward pass meets that one, its gradient comes in and another array goes out.
    Weights are counted elsewhere, also in another shape, and constants in the shape of an array
    are made where they are read.
    """

    def kept(params: PyTree, batch_stats: PyTree, images: jax.Array) -> PyTree:
        def outputs(params: PyTree) -> jax.Array:
            low = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
            return model.forward(low, batch_stats, images, True)[0]

        return jax.vjp(outputs, params)[1]  # A PyTree of what the backward pass reads.

    images = jax.ShapeDtypeStruct(batch, dtype)
    program = jax.make_jaxpr(kept)(params, batch_stats, images).jaxpr
    free = set(program.invars[:-1])
    for equation in program.eqns:
        of_weights = equation.primitive.name == "reshape" and equation.invars[0] in free
        if of_weights or equation.primitive.name == "broadcast_in_dim":
            free.update(equation.outvars)
    read = {value for value in program.outvars if isinstance(value, Var)} - free
    made = {value for equation in program.eqns for value in equation.outvars} - free
    return sum(map(_size, read)) + 2 * max(map(_size, made), default=0)


def _size(value: Any) -> int:  # noqa: ANN401 (a variable of an array)
    return value.aval.size * value.aval.dtype.itemsize


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
    if limit is not None and memory.network + memory.images > limit:
        raise ValueError(
            f"training takes {memory.network / 1e9:.1f} GB for {memory.parameters:,} parameters "
            f"with gradients and the optimizer's state, and {memory.images / 1e9:.1f} GB for "
            f"images; the device has {limit / 1e9:.1f} GB. Take {smaller}, or another device."
        )
    return memory


def check_generation(model: Model, shape: Shape, networks: int) -> None:
    """Checks that the networks fit into memory that are kept while others train.

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
            f"{networks:,} networks, parents and the offspring that live on, take "
            f"{networks * each / 1e9:,.1f} GB; the device has {limit / 1e9:.1f} GB. Let fewer live "
            "(population), or take a smaller network."
        )


def available() -> int | None:
    """Memory of the default device in bytes, ``None`` where that cannot be told.

    A CPU's devices share the host's.
    """
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and device.platform == "cpu" and hasattr(os, "sysconf"):
        host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = host // jax.local_device_count()
    return limit


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
