"""A batch split over devices: each learns from its share, and one exchange a step joins them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any


class Split(NamedTuple):
    """How batches are split, for functions within `jax.shard_map`; by default they are not.

    A layer that looks at the whole batch sees its device's share: batch normalisation normalises
    each by its own statistics.

    Attributes:
        parts: over how many devices.
        axis: of the mesh, along which they lie.
    """

    parts: int = 1
    axis: str = "data"

    def size(self, wanted: int, there: int) -> int:
        """Of how many entries a batch is: as many as wanted, or of fewer all that split evenly.

        Raises:
            ValueError: if they do not split evenly, or there are fewer than devices.
        """
        size = min(wanted, there - there % self.parts)
        self._each(size or there)
        return size

    def share(self, batch: jax.Array) -> jax.Array:
        """This device's entries of a batch.

        Raises:
            ValueError: if they do not split evenly.
        """
        if self.parts == 1:
            return batch
        size = self._each(batch.shape[0])
        return jax.lax.dynamic_slice_in_dim(batch, jax.lax.axis_index(self.axis) * size, size)

    def key(self, key: jax.Array) -> jax.Array:
        """This device's own key."""
        return key if self.parts == 1 else jax.random.fold_in(key, jax.lax.axis_index(self.axis))

    def mean(self, tree: PyTree) -> PyTree:
        """The mean of all devices' trees; whole numbers, alike on all of them, stay.

        It is one exchange of one array. Devices that exchange several at a time can wait for each
        other in different ones, and on CPUs, which have no thread to spare, do.
        """
        if self.parts == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        floats = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        flat = jnp.concatenate([leaves[i].astype(jnp.float32).reshape(-1) for i in floats])
        flat, start = jax.lax.pmean(flat, self.axis), 0
        for i in floats:
            leaf, end = leaves[i], start + leaves[i].size
            leaves[i] = flat[start:end].reshape(leaf.shape).astype(leaf.dtype)
            start = end
        return jax.tree.unflatten(structure, leaves)

    def total(self, count: jax.Array) -> jax.Array:
        """The sum of all devices' counts."""
        return count if self.parts == 1 else jax.lax.psum(count, self.axis)

    def _each(self, size: int) -> int:
        """Of how many entries the share of each device is."""
        if size % self.parts:
            raise ValueError(
                f"batches of {size} images cannot be split evenly over {self.parts} devices: "
                "expected a batch_size that is a multiple of them, and at least as many images"
            )
        return size // self.parts
