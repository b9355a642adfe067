"""Masked training as an Optax transformation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from evojax.genetics.trees import flatten

PyTree = Any


def freeze_pruned(masks: PyTree) -> optax.GradientTransformation:
    """Keeps pruned weights where they are, by zeroing their updates.

    Put it last in the chain: momentum, weight decay and the learning rate act before it, so nothing
    moves a pruned weight away from 0.0. (Masking gradients alone is not enough: weight decay and
    Adam's state move weights whose gradient is zero.)

    Args:
        masks: PyTree of bool arrays in the parameters' shapes, ``None`` where nothing is pruned.

    In a jitted step take the masks as an argument and make the chain inside, or every generation
    compiles the step anew:
    ``lambda masks, *rest: optax.chain(tx, freeze_pruned(masks)).update(*rest)``.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from evojax.learning import freeze_pruned
        >>> masks = {"w": jnp.array([True, False])}
        >>> tx = optax.chain(optax.adamw(0.1), freeze_pruned(masks))
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
        ValueError: if structure or shapes differ, or a mask is not bool.
    """
    leaves, structure = flatten(tree)
    marks, _ = flatten(masks)
    if leaves.keys() != marks.keys():
        missing = sorted(leaves.keys() - marks.keys())
        surplus = sorted(marks.keys() - leaves.keys())
        raise ValueError(
            "masks do not have the structure of what they are applied to: missing "
            f"{missing}, unknown {surplus}. Make them with synthesis.ancestor(params)."
        )
    kept = [_apply(path, leaf, marks[path]) for path, leaf in leaves.items()]
    return jax.tree.unflatten(structure, kept)


def _apply(path: str, leaf: jax.Array, mask: jax.Array | None) -> jax.Array:
    if mask is None:
        return leaf
    # Broadcast, a mask of another shape would prune something else than was meant.
    if jnp.shape(mask) != jnp.shape(leaf) or jnp.result_type(mask) != jnp.bool_:
        raise ValueError(
            f"the mask of {path} must be bool of shape {jnp.shape(leaf)}; got "
            f"{jnp.result_type(mask)} of shape {jnp.shape(mask)}"
        )
    return jnp.where(mask, leaf, jnp.zeros_like(leaf))


def density(masks: PyTree) -> jax.Array:
    """The share of the prunable parameters that are alive, a float32 scalar; 1 where none is."""
    leaves = jax.tree.leaves(masks)
    if not leaves:
        return jnp.float32(1.0)
    alive = jnp.sum(jnp.stack([jnp.sum(mask, dtype=jnp.float32) for mask in leaves]))
    return alive / sum(mask.size for mask in leaves)
