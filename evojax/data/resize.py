"""Brings images to the size a network takes, on the host and in NumPy alone."""

import numpy as np

# Images at a time: bounds the float32 copies to some tens of MB for usual image sizes.
_CHUNK = 512


def fit(images: np.ndarray, size: int) -> np.ndarray:
    """Makes images ``size`` x ``size``.

    Images of that size are kept as they are. Images no larger, and at least half as large in both
    directions, are centred in zeros (MNIST: 28 -> 32, which adds no pixel that is not there).
    Others are resized to the square, whatever their proportions: bilinear where they grow, with
    the triangle filter widened by the scale (antialiased) where they shrink.

    Args:
      images: ``(N, H, W, C)`` uint8.
      size: height and width wanted, in pixels.

    Returns:
      ``(N, size, size, C)`` uint8.
    """
    height, width = images.shape[1:3]
    if (height, width) == (size, size):
        return images
    if all(side <= size <= 2 * side for side in (height, width)):
        top, left = (size - height) // 2, (size - width) // 2
        around = ((top, size - height - top), (left, size - width - left))
        return np.pad(images, ((0, 0), *around, (0, 0)))
    rows, columns = _triangle(height, size), _triangle(width, size)
    out = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.float32)
        resized = columns @ np.tensordot(rows, chunk, (1, 1)).swapaxes(0, 1)
        # The weights are convex, so only rounding can leave 0..255.
        out[start : start + _CHUNK] = np.clip(np.rint(resized), 0, 255)
    return out


def _triangle(before: int, after: int) -> np.ndarray:
    """Weights ``(after, before)`` of the old pixels in each new one; every row sums to 1."""
    scale = before / after
    centre = (np.arange(after) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(before) - centre[:, None]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
