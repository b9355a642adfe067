"""Augmentation on the device: pure functions of a key and a batch, each image changed by itself.

All work on any type of pixel, inside jit, scan and vmap, and leave shape and type as they are.
"""

import jax
import jax.numpy as jnp


def shift(key: jax.Array, images: jax.Array, pixels: int) -> jax.Array:
    """Moves each image by its own random whole number of pixels; what moves in is zero.

    For images on a black ground, such as digits.

    Args:
      key: a typed key.
      images: ``(N, H, W, C)``, any type.
      pixels: the furthest move in each direction, at least 0 and less than the images' sides;
        static under jit.

    Returns:
      Images of the same shape and type, each moved by (dy, dx) drawn uniformly from
      -pixels..pixels.

    Raises:
      ValueError: where pixels is out of range or the images have another rank.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from evojax.data import shift
      >>> shift(jax.random.key(0), jnp.ones((2, 8, 8, 1)), 2).shape
      (2, 8, 8, 1)
    """
    _check("shift: pixels", pixels, images)
    return _move(key, images, pixels, "constant")


def crop(key: jax.Array, images: jax.Array, pixels: int) -> jax.Array:
    """Moves each image as `shift` does; what moves in is the image's own reflection.

    The same as cutting a random H x W window out of the image extended by reflection about its
    outermost pixels. For photographs, which zeros would give edges that are not there.

    Args:
      key: a typed key.
      images: ``(N, H, W, C)``, any type.
      pixels: the furthest move in each direction, at least 0 and less than the images' sides;
        static under jit.

    Returns:
      Images of the same shape and type.

    Raises:
      ValueError: where pixels is out of range or the images have another rank.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from evojax.data import crop
      >>> float(crop(jax.random.key(0), jnp.ones((2, 8, 8, 1)), 2).min())
      1.0
    """
    _check("crop: pixels", pixels, images)
    return _move(key, images, pixels, "reflect")


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability 1/2.

    Args:
      key: a typed key.
      images: ``(N, H, W, C)``, any type.

    Returns:
      Images of the same shape and type.

    Raises:
      ValueError: where the images have another rank.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from evojax.data import flip
      >>> flip(jax.random.key(0), jnp.arange(24.0).reshape(2, 3, 4, 1)).sum((1, 2, 3)).tolist()
      [66.0, 210.0]
    """
    _check("flip", 0, images)
    mirrored = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def cutout(key: jax.Array, images: jax.Array, size: int) -> jax.Array:
    """Sets a random square of each image to zero, in all channels.

    The square's centre is uniform over the pixels; what lies outside the image is clipped, so
    that squares at an edge are smaller. Apply it after normalisation, where zero is the mean
    colour.

    Source: T. DeVries and G. W. Taylor, Improved Regularization of Convolutional Neural Networks
    with Cutout, arXiv:1708.04552, 2017.

    Args:
      key: a typed key.
      images: ``(N, H, W, C)``, any type.
      size: the square's side, at least 0 and less than the images' sides; static under jit. An
        even one reaches one pixel further up and left of its centre than down and right.

    Returns:
      Images of the same shape and type.

    Raises:
      ValueError: where size is out of range or the images have another rank.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from evojax.data import cutout
      >>> cutout(jax.random.key(0), jnp.ones((2, 8, 8, 1)), 1).sum((1, 2, 3)).tolist()
      [63.0, 63.0]
    """
    _check("cutout: size", size, images)
    if size == 0:
        return images
    row_key, column_key = jax.random.split(key)
    rows = _segment(row_key, images, 1, size)
    columns = _segment(column_key, images, 2, size)
    return jnp.where(rows & columns, jnp.zeros((), images.dtype), images)


def _check(what: str, value: int, images: jax.Array) -> None:
    if images.ndim != 4:
        raise ValueError(f"images have shape {images.shape}; expected (N, H, W, C).")
    height, width = images.shape[1:3]
    if not 0 <= value < min(height, width):
        raise ValueError(
            f"{what} is {value}; expected 0 (none) or more, and less than the sides of the images, "
            f"which are {height} x {width}."
        )


def _move(key: jax.Array, images: jax.Array, pixels: int, padding: str) -> jax.Array:
    """Cuts a window of the images' size out of each padded one, at a random corner."""
    if pixels == 0:
        return images
    around = (pixels, pixels)
    padded = jnp.pad(images, ((0, 0), around, around, (0, 0)), mode=padding)
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pixels + 1)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(window)(padded, corners)


def _segment(key: jax.Array, images: jax.Array, axis: int, size: int) -> jax.Array:
    """Where along an axis each image's square lies: bool, to be broadcast against the images."""
    side = images.shape[axis]
    centres = jax.random.randint(key, (len(images), 1, 1, 1), 0, side)
    # Counted from the square's first pixel. Comparing a grid of places fuses with what reads the
    # images; writing into each at a place of its own would be a scatter.
    places = jax.lax.broadcasted_iota(jnp.int32, (1, *images.shape[1:3], 1), axis)
    places = places - (centres - size // 2)
    return (places >= 0) & (places < size)
