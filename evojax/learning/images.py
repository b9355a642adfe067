"""Labelled images on the device, and what is done to them before a network sees them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax.data.augment import crop, cutout, flip, shift
from evojax.learning.recipe import Recipe


class Images(NamedTuple):
    """Labelled images on the device, with the statistics that normalise them.

    Attributes:
        images: uint8 (N, H, W, C).
        labels: int32 (N,).
        mean: float32 (C,), of the training images, in units of [0, 1].
        deviation: float32 (C,), likewise.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    deviation: jax.Array


def on_device(images: np.ndarray, labels: np.ndarray, like: Images | None = None) -> Images:
    """Puts labelled images on the device.

    Args:
        images: uint8 (N, H, W, C).
        labels: int (N,).
        like: images whose mean and deviation to use (the training set's); by default their own.

    Raises:
        ValueError: if there are no images, or shapes or types differ.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise ValueError(
            "images must be uint8 of shape (N, H, W, C), at least one; got "
            f"{images.dtype} of shape {images.shape}"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape ({len(images)},), one an image; got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if like is None:
        pixels = images.reshape(-1, images.shape[-1])
        mean = pixels.mean(0, dtype=np.float64) / 255
        deviation = np.maximum(pixels.std(0, dtype=np.float64) / 255, 1e-3)
    else:
        mean, deviation = like.mean, like.deviation
    return Images(
        jnp.asarray(images),
        jnp.asarray(labels, jnp.int32),
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(deviation, jnp.float32),
    )


def augment(key: jax.Array, images: jax.Array, data: Images, recipe: Recipe) -> jax.Array:
    """Images as a network is trained on: changed as the recipe says, and normalised.

    Args:
        key: of the training step.
        images: uint8 (N, H, W, C).
        data: the training set, whose mean and deviation normalise them.
        recipe: says by how much to shift, crop, flip and cut out.

    Returns:
        float32 (N, H, W, C).

    Raises:
        ValueError: while tracing, if a shift, crop or cutout is as large as the images or larger.
    """
    # 0 and 1 are left out: folded into a key they give the two keys that drawing whole numbers
    # from it uses inside, so that a flip would follow from the move.
    flip_key, cutout_key = (jax.random.fold_in(key, number) for number in (2, 3))
    if recipe.shift:
        images = shift(key, images, recipe.shift)
    if recipe.crop:
        images = crop(key, images, recipe.crop)
    if recipe.flip:
        images = flip(flip_key, images)
    images = normalise(images, data)
    if recipe.cutout:  # After normalisation, so that what is cut out has the mean colour.
        images = cutout(cutout_key, images, recipe.cutout)
    return images


def normalise(images: jax.Array, data: Images) -> jax.Array:
    """Pixels of uint8 images with zero mean and unit deviation per channel, float32."""
    return (images.astype(jnp.float32) / 255 - data.mean) / data.deviation
