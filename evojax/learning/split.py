"""A batch split over devices: each learns from its share, and one exchange a step joins them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

PyTree = Any
DATA = "data"
"""The axis of a mesh along which batches are split."""


class Split(NamedTuple):
    """How batches are split, for functions within `jax.shard_map`; by default they are not.

    A layer that looks at the whole batch sees its device's share: batch normalisation normalises
    each by its own statistics.

    Attributes:
        parts: over how many devices.
    """

    parts: int = 1

    def size(self, wanted: int, there: int) -> int:
        """Of how many entries a batch is: as many as wanted, or of fewer all that split evenly.

        Raises:
            ValueError: if they do not split evenly, or there are fewer than devices.
        """
        size = min(wanted, there - there % self.parts)
        self._each(size or there)  # Of 0 nobody could learn, though they split evenly.
        return size

    def share(self, batch: jax.Array) -> jax.Array:
        """This device's entries of a batch.

        Raises:
            ValueError: if they do not split evenly.
        """
        if self.parts == 1:
            return batch
        size = self._each(batch.shape[0])
        return jax.lax.dynamic_slice_in_dim(batch, jax.lax.axis_index(DATA) * size, size)

    def key(self, key: jax.Array) -> jax.Array:
        """This device's own key."""
        return key if self.parts == 1 else jax.random.fold_in(key, jax.lax.axis_index(DATA))

    def mean(self, tree: PyTree) -> PyTree:
        """The mean of all devices' trees, but for whole numbers, which stay each device's own.

        It is one exchange of one array. Devices that exchange several at a time can wait for each
        other in different ones, and on CPUs, which have no thread to spare, do.
        """
        if self.parts == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        with jax.numpy_dtype_promotion("standard"):
            flat, each = ravel_pytree(list(filter(_inexact, leaves)))
            means = iter(each(jax.lax.pmean(flat, DATA)))
        joined = [next(means) if _inexact(leaf) else leaf for leaf in leaves]
        return jax.tree.unflatten(structure, joined)

    def total(self, count: jax.Array) -> jax.Array:
        """The sum of all devices' counts."""
        return count if self.parts == 1 else jax.lax.psum(count, DATA)

    def _each(self, size: int) -> int:
        """Of how many entries the share of each device is."""
        if size % self.parts:
            raise ValueError(
                f"batches of {size} images cannot be split evenly over {self.parts} devices: "
                "expected a batch_size that is a multiple of them, and at least as many images"
            )
        return size // self.parts


WHOLE = Split()
"""Every batch on one device."""


def _inexact(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
