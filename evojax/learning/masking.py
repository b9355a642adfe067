"""Masked training as an Optax transformation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any


def freeze_pruned(masks: PyTree) -> optax.GradientTransformation:
    """Keeps pruned weights where they are, by zeroing their updates.

    Put it last in the chain: momentum, weight decay and the learning rate act before it, so nothing
    moves a pruned weight away from 0.0. (Masking gradients alone is not enough: weight decay and
    Adam's state move weights whose gradient is zero.)

    Args:
        masks: PyTree of bool arrays in the parameters' shapes, ``None`` where nothing is pruned.

    Example:
        >>> import jax.numpy as jnp, optax, evojax
        >>> tx = optax.chain(optax.adamw(0.1), evojax.freeze_pruned({"w": jnp.array([True, False])}))
        >>> params = {"w": jnp.array([1.0, 0.0])}
        >>> updates, _ = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
        >>> float(updates["w"][1])
        0.0
    """

    def init(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.EmptyState]:
        del params
        return apply_masks(updates, masks), state

    return optax.GradientTransformation(init, update)


def apply_masks(tree: PyTree, masks: PyTree) -> PyTree:
    """Sets to 0 what the masks prune.

    Args:
        tree: PyTree of arrays.
        masks: PyTree of bool arrays in the tree's shapes, or ``None`` at leaves to leave alone.

    Raises:
        ValueError: if structure or shapes differ.
    """
    return jax.tree.map(
        lambda mask, leaf: leaf if mask is None else jnp.where(mask, leaf, jnp.zeros_like(leaf)),
        masks,
        tree,
        is_leaf=lambda leaf: leaf is None,
    )
