"""Which weights an offspring starts from."""

from __future__ import annotations

import jax

from evojax.learning import Model, Network, apply_masks
from evojax.learning.network import PyTree, Shape


def conceive(
    key: jax.Array, ancestor_key: jax.Array, heredity: str, model: Model, shape: Shape,
    parent: Network, masks: PyTree,
) -> Network:  # fmt: skip
    """An offspring before its training.

    Args:
        key: for the fresh weights of a newborn.
        ancestor_key: from which the ancestor's initial weights came.
        heredity: ``"inherit"`` takes the parent's weights, ``"newborn"`` new ones, ``"rewind"`` the
            ones that the ancestor started from.
        model: the model.
        shape: of an image, (H, W, C).
        parent: the trained parent.
        masks: the offspring's.

    Returns:
        The network, its pruned weights exactly 0.
    """
    if heredity == "inherit":
        params, batch_stats = parent.params, parent.batch_stats
    else:
        params, batch_stats = model.init(key if heredity == "newborn" else ancestor_key, shape)
    return Network(apply_masks(params, masks), batch_stats, masks)
