"""Augmentation on the device: pure functions of a key and a batch."""

import jax
import jax.numpy as jnp


def shift(key: jax.Array, images: jax.Array, pixels: int) -> jax.Array:
    """Moves each image by its own random whole number of pixels; what moves in is zero.

    Args:
      key: a typed key.
      images: ``(N, H, W, C)``, any type.
      pixels: the furthest move in each direction, at least 0; static under jit.

    Returns:
      Images of the same shape and type, each moved by (dy, dx) drawn uniformly from
      -pixels..pixels.

    Raises:
      ValueError: where pixels is negative or the images have another rank.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from evojax.data import shift
      >>> shift(jax.random.key(0), jnp.ones((2, 8, 8, 1)), 2).shape
      (2, 8, 8, 1)
    """
    if pixels < 0:
        raise ValueError(f"pixels is {pixels}; expected 0 (no shift) or more.")
    if images.ndim != 4:
        raise ValueError(f"images have shape {images.shape}; expected (N, H, W, C).")
    if pixels == 0:
        return images
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pixels + 1)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)
