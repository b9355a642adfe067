"""What a grid network is taught: for each cell, whether it covers an object, and the object's box.

Pure functions in JAX, for jit and vmap. Source: DetectNet in NVIDIA's fork of Caffe, the layer
DetectNetTransformation with rectangular coverage and GRIDBOX_MIN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

# A cell counts as covered where more than this share of it is: FLT_EPSILON in the original.
COVERED = 1.1920929e-07


@dataclass(frozen=True)
class Coverage:
    """How boxes become cells.

    Attributes:
        stride: the side of a cell, pixels.
        shrink: the share of a box's width and height, about its centre, that covers cells.
        smallest: the shortest side of what covers cells, pixels, or the box's own side where that
            is shorter. It belongs to the stride (a cell and a quarter, so that small objects cover
            two cells rather than one), not to the images' size: it stays where images are smaller.
        least: boxes with a shorter side, pixels, are passed over, such as what augmentation leaves
            of a car that it pushes out of the image; 0 is the original. Losses divide by a box's
            sides and by what of it covers cells, so that one sliver of a tenth of a pixel outweighs
            thousands of cars: of 322 of KITTI's images at half size, augmented, one in 4,000 has
            one, and Adam's steps are small for long afterwards.
    """

    stride: int = 16
    shrink: float = 0.4
    smallest: float = 20.0
    least: float = 4.0

    def __post_init__(self) -> None:
        if self.stride < 1 or not 0 < self.shrink <= 1 or min(self.smallest, self.least) < 0:
            raise ValueError(
                f"{self}: expected a stride of at least 1 pixel, a share to shrink to above 0 and "
                "at most 1, and shortest sides of at least 0 pixels."
            )


class Targets(NamedTuple):
    """What an image's ``(h, w)`` cells are taught; all float32 and 0 where no object covers a cell.

    Attributes:
        coverage: ``(h, w)``: 1 where an object covers the cell.
        offsets: ``(h, w, 4)``: left, top, right and bottom of its box, pixels from the cell's top
            left corner.
        size: ``(h, w, 2)``: 1 / the box's width and height.
        weight: ``(h, w)``: a cell's area / the area that covers cells, so that large and small
            objects weigh the same.
    """

    coverage: jax.Array
    offsets: jax.Array
    size: jax.Array
    weight: jax.Array


def targets(
    boxes: jax.Array,
    count: jax.Array | int,
    height: int,
    width: int,
    coverage: Coverage = Coverage(),
) -> Targets:
    """The targets of one image; vmap it for a batch.

    A box is shrunk about its centre (see `Coverage`); every cell that the shrunk box overlaps is
    covered. Where several do, the last in the list wins: give them from far to near.

    Args:
      boxes: ``(M, 4)`` left, top, right, bottom in pixels; those from `count` on are padding.
        Boxes without area, inside out or not finite are passed over, and small ones (see
        `Coverage`).
      count: how many boxes there are.
      height: of the image, pixels, a multiple of the stride; static.
      width: likewise.
      coverage: how boxes become cells; static.

    Raises:
      ValueError: where height or width is no multiple of the stride, or boxes have another shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from evojax.detection import targets
      >>> compiled = jax.jit(targets, static_argnums=(2, 3))
      >>> compiled(jnp.array([[10.0, 0, 40, 16]]), 1, 32, 64).coverage
      Array([[1., 1., 1., 0.],
             [0., 0., 0., 0.]], dtype=float32)
    """
    stride = coverage.stride
    if height % stride or width % stride or height < stride or width < stride:
        raise ValueError(
            f"the image is {height} x {width} pixels; expected multiples of the stride, {stride}: "
            "pad it."
        )
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes have shape {boxes.shape}; expected (M, 4).")
    # An image without room for boxes: one of padding, so that there is something to gather.
    boxes = jnp.pad(boxes.astype(jnp.float32), ((0, not len(boxes)), (0, 0)))
    corner, opposite = boxes[:, :2], boxes[:, 2:]
    sides = opposite - corner
    real = (jnp.arange(len(boxes)) < count) & jnp.all(jnp.isfinite(boxes), -1)
    real &= jnp.all((sides > 0) & (sides >= coverage.least), -1)
    shrunk = jnp.minimum(sides, jnp.maximum(coverage.smallest, coverage.shrink * sides))
    start, end = (corner + opposite - shrunk) / 2, (corner + opposite + shrunk) / 2

    def shared(axis: int, cells: int) -> jax.Array:
        """``(M, cells)``: the length that a box shares with each cell along an axis."""
        edges = stride * jnp.arange(cells, dtype=jnp.float32)[None]
        first = jnp.maximum(start[:, axis, None], edges)
        return jnp.maximum(jnp.minimum(end[:, axis, None], edges + stride) - first, 0)

    rows, columns = height // stride, width // stride
    share = shared(1, rows)[:, :, None] * shared(0, columns)[:, None, :] / stride**2
    covers = (share > COVERED) & real[:, None, None]
    winner = jnp.max(jnp.where(covers, jnp.arange(len(boxes))[:, None, None], -1), axis=0)
    covered = winner >= 0
    own = jnp.maximum(winner, 0)
    places = (jnp.arange(cells, dtype=jnp.float32) for cells in (columns, rows))
    origin = stride * jnp.stack(jnp.meshgrid(*places), -1)
    safe = jnp.where(real[:, None], sides, 1)
    area = jnp.where(real, shrunk.prod(-1), 1)

    def where(values: jax.Array) -> jax.Array:
        return jnp.where(covered.reshape(rows, columns, *[1] * (values.ndim - 2)), values, 0)

    return Targets(
        covered.astype(jnp.float32),
        where(boxes[own] - jnp.concatenate([origin, origin], -1)),
        where(1 / safe[own]),
        where(stride**2 / area[own]),
    )
