"""Which weights an offspring starts from."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from evojax.learning import Model, Network, apply_masks
from evojax.learning.network import PyTree, Shape


def conceive(
    key: jax.Array, ancestor_key: jax.Array, heredity: str, model: Model, shape: Shape,
    parents: Network, masks: PyTree,
) -> Network:  # fmt: skip
    """An offspring before its training.

    Args:
        key: for the fresh weights of a newborn.
        ancestor_key: from which the ancestor's initial weights came.
        heredity: ``"inherit"`` takes the only parent's weights, ``"mean"`` and ``"fittest"`` those
            of several (`merged`), ``"newborn"`` new ones, ``"rewind"`` the ones that the
            ancestor started from.
        model: the model.
        shape: of an image, (H, W, C).
        parents: the trained parent; for mean and fittest several on the first axis of every array,
            the fittest first.
        masks: the offspring's.

    Returns:
        The network, its pruned weights exactly 0; weights and running statistics are its own.
    """
    match heredity:
        case "inherit":
            params, batch_stats = parents.params, parents.batch_stats
        case "mean" | "fittest":
            params, batch_stats = merged(parents, heredity)
        case _:
            params, batch_stats = model.init(key if heredity == "newborn" else ancestor_key, shape)
    return owning(params, batch_stats, masks)


def owning(params: PyTree, batch_stats: PyTree, masks: PyTree) -> Network:
    """The network under its masks; weights and statistics share no memory with any other's."""
    params, batch_stats = _owned(params, batch_stats, masks)
    return Network(params, batch_stats, masks)


@jax.jit
def _owned(params: PyTree, batch_stats: PyTree, masks: PyTree) -> tuple[PyTree, PyTree]:
    return jax.tree.map(jnp.copy, (apply_masks(params, masks), batch_stats))


@partial(jax.jit, static_argnums=1)
def merged(parents: Network, heredity: str) -> tuple[PyTree, PyTree]:
    r"""Weights of several parents made one; a single parent's are left as they are.

    .. math::
        \bar w_i = \frac{1}{|K_i|} \sum_{k \in K_i} w_{k,i}, \quad w^*_i = w_{\min K_i,i}

    for ``"mean"`` and ``"fittest"``, over the parents :math:`K_i` that have synapse i, the fittest
    of them the first. What is never pruned, running statistics too, is the mean of all parents', or
    the fittest's.

    Args:
        parents: m of them on the first axis of every array, the fittest first.
        heredity: ``"mean"`` or ``"fittest"``.

    Returns:
        Parameters and running statistics; 0 where no parent has the synapse.
    """

    def weights(leaf: jax.Array, mask: jax.Array | None) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if mask is None:
            return leaf[0] if heredity == "fittest" else jnp.mean(leaf, 0).astype(leaf.dtype)
        having = jnp.where(mask, leaf, 0)
        if heredity == "fittest":
            return jnp.take_along_axis(having, jnp.argmax(mask, 0)[None], 0)[0]
        number = jnp.maximum(jnp.sum(mask, 0), 1).astype(leaf.dtype)
        return jnp.sum(having, 0) / number

    params = jax.tree.map(weights, parents.params, parents.masks)
    return params, jax.tree.map(lambda leaf: weights(leaf, None), parents.batch_stats)
