"""The losses of a grid network, as DetectNet has them (detectnet_network.prototxt)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax.detection.targets import Targets

BOX_WEIGHT = 2.0


class Losses(NamedTuple):
    """Both losses of a batch, float32 scalars.

    Attributes:
        coverage: of the cells' coverage.
        boxes: of the objects' boxes.
    """

    coverage: jax.Array
    boxes: jax.Array

    @property
    def total(self) -> jax.Array:
        """What is minimised: coverage + 2 boxes."""
        return self.coverage + BOX_WEIGHT * self.boxes


def losses(predictions: jax.Array, targets: Targets) -> Losses:
    """The losses of N images' predictions.

    Coverage: ``sum((prediction - target)^2) / (2 N)``. Boxes, over left, top, right and bottom:
    ``sum(|prediction - target| * coverage * scale * weight) / N``, with the target's own coverage,
    scale = 1 / width for left and right and 1 / height for top and bottom, and weight as in
    `Targets`.
    Both are sums over the cells, not means (Caffe's EuclideanLoss and L1Loss).

    Args:
      predictions: ``(N, h, w, 5)``: coverage, and left, top, right, bottom in pixels from the
        cell's top left corner.
      targets: of the N images, by `vmap` of `targets`.

    Raises:
      ValueError: where the shapes do not fit.
    """
    if predictions.shape != (*targets.coverage.shape, 5) or predictions.ndim != 4:
        raise ValueError(
            f"predictions have shape {predictions.shape}, and targets' coverage has "
            f"{targets.coverage.shape}; expected (N, h, w, 5) and (N, h, w)."
        )
    predictions = predictions.astype(jnp.float32)
    count = len(predictions)
    coverage = jnp.sum((predictions[..., 0] - targets.coverage) ** 2) / (2 * count)
    scale = jnp.concatenate([targets.size, targets.size], -1)
    scale *= (targets.coverage * targets.weight)[..., None]
    # Prediction and target are scaled apart in the original: the same, but for rounding.
    boxes = jnp.sum(jnp.abs(predictions[..., 1:] - targets.offsets) * scale) / count
    return Losses(coverage, boxes)
