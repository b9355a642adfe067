"""DetectNet (Tao et al. 2016): GoogLeNet made into a detector of cars in large images."""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from evojax.models import layers

STEM = ("conv1", "conv2_reduce", "conv2")
INCEPTIONS = tuple(
    f"inception_{block}" for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
)
BRANCHES = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
WIDTHS = (
    (64, 64, 192),  # STEM, then the BRANCHES of every one of INCEPTIONS
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)

STRIDE = 16
"""Pixels from one cell of the output to the next, in which the box head counts."""

Normalisation = Literal["batch", "response"]

XAVIER = nn.initializers.lecun_uniform()
"""Caffe's "xavier" filler: variance 1 / fan-in."""

XAVIER_OF_CELLS = nn.initializers.variance_scaling(STRIDE**-2, "fan_in", "uniform")
"""Likewise, of a layer whose outputs are multiplied by `STRIDE`."""


class DetectNet(nn.Module):
    """GoogLeNet's trunk to inception_5b, without pool4 and so at stride 16, and two 1x1 heads.

    With three input channels 59 convolutions of 5,971,392 weights. Normalised by batch, every
    convolution of the trunk has a scale and an offset per channel (14,560, and as many running
    statistics) in place of its bias, and only the heads' 5 biases are left. With `normalisation`
    "response" it is the original: 7,285 biases, and local response normalisation after pool1 and
    conv2. That is made for pixels minus 127: of images of deviation 1 it changes next to nothing.
    It mixes neighbouring channels, so `evojax.compact` keeps those of conv1 and conv2 whole.

    Deviations from the original: no dropout (0.4 before the heads; evojax's models draw no random
    numbers), the box head counts in cells of 16 pixels (it starts with the same outputs and
    learns offsets of hundreds of pixels in fewer steps), and normalised by batch the trunk's
    kernels start as He et al. 2015 say, not as Caffe's Xavier. Heads compute in float32, for
    bfloat16 knows large offsets only to a pixel or two.

    Its convolutions (`layers.conv`) have no derivatives in forward mode: `jax.jvp`, `jax.jacfwd`
    and `jax.linearize` raise a TypeError.

    Source: NVIDIA/caffe, examples/kitti/detectnet_network.prototxt; layers bear its names.

    Attributes:
        normalisation: "batch" normalises every convolution of the trunk, "response" as above.
        dtype: what the trunk computes in; by default what images and parameters promote to.
        widths: channels of conv1, conv2_reduce and conv2, and of each inception block's 1x1,
            3x3_reduce, 3x3, 5x5_reduce, 5x5 and pool_proj.
    """

    normalisation: Normalisation = "batch"
    dtype: jax.typing.DTypeLike | None = None
    widths: tuple[tuple[int, ...], ...] = WIDTHS

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """A grid of cells of 16x16 pixels, (N, H/16, W/16, 5) float32.

        Channel 0 is the coverage, in [0, 1]: how surely a car covers the cell. Channels 1 to 4 are
        that car's left, top, right and bottom in pixels from the cell's top left corner.

        Args:
            x: images (N, H, W, C), floating point.
            train: whether to normalise by the batch's own statistics.

        Raises:
            ValueError: if x is of another rank, H or W is no multiple of 16, the normalisation is
                unknown, or widths are not as many as layers.
        """
        _check(x, self.normalisation, self.widths)
        layer = partial(convolution, self.normalisation == "batch", self.dtype, train)
        (first, reduced, second), *inceptions = self.widths
        x = layer(x, first, 7, "conv1", stride=2, pool=layers.max_pool)
        x = self._response(x)
        x = layer(layer(x, reduced, 1, "conv2_reduce"), second, 3, "conv2")
        x = layers.max_pool(self._response(x))
        for block, widths in zip(INCEPTIONS, inceptions, strict=True):
            if block == "inception_4a":
                x = layers.max_pool(x)
            x = Inception(widths, name=block)(x, layer)
        head = partial(
            nn.Conv, kernel_size=(1, 1), dtype=jnp.float32, conv_general_dilated=layers.conv
        )
        coverage = head(1, kernel_init=XAVIER, name="coverage")(x)
        boxes = head(4, kernel_init=XAVIER_OF_CELLS, name="box")(x)
        return jnp.concatenate([nn.sigmoid(coverage), STRIDE * boxes], axis=-1)

    def _response(self, x: jax.Array) -> jax.Array:
        return layers.response_norm(x) if self.normalisation == "response" else x


class Inception(nn.Module):
    """Four branches of the same image, put one after another along the channels.

    Source: Szegedy et al. 2015, arXiv 1409.4842, figure 2b.

    Attributes:
        widths: channels of the `BRANCHES`.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, layer: Callable[..., jax.Array]) -> jax.Array:
        """The image (N, H, W, D) of an image (N, H, W, C).

        Args:
            x: (N, H, W, C).
            layer: `convolution`, its settings (all before `x`) given.
        """
        one, three_reduce, three, five_reduce, five, projected = self.widths
        branches = [
            layer(x, one, 1, "1x1"),
            layer(layer(x, three_reduce, 1, "3x3_reduce"), three, 3, "3x3"),
            layer(layer(x, five_reduce, 1, "5x5_reduce"), five, 5, "5x5"),
            layer(layers.max_pool_same(x), projected, 1, "pool_proj"),
        ]
        return jnp.concatenate(branches, axis=-1)


def convolution(
    batch: bool,
    dtype: jax.typing.DTypeLike | None,
    train: bool,
    x: jax.Array,
    channels: int,
    window: int,
    name: str,
    stride: int = 1,
    pool: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> jax.Array:
    """A convolution that keeps the image's size at stride 1, and ReLU.

    Args:
        batch: whether to normalise by batch, in place of a bias.
        dtype: what to compute in.
        train: whether to normalise by the batch's own statistics.
        x: (N, H, W, C).
        channels: of the output.
        window: its height and width, odd.
        name: of the layer.
        stride: of the convolution.
        pool: a max pool, before the ReLU, which gives the same for less.
    """
    conv = nn.Conv(
        channels, (window, window), stride, padding=window // 2, use_bias=not batch, dtype=dtype,
        name=name, kernel_init=nn.initializers.he_normal() if batch else XAVIER,
        bias_init=nn.initializers.constant(0.2), conv_general_dilated=layers.conv,
    )  # fmt: skip
    x = conv(x)
    if batch:
        x = layers.batch_norm(train, dtype, name=f"{name}_norm")(x)
    return nn.relu(pool(x))


def _check(x: jax.Array, normalisation: str, widths: tuple[tuple[int, ...], ...]) -> None:
    if normalisation not in get_args(Normalisation):
        raise ValueError(
            f"DetectNet's normalisation must be one of {', '.join(get_args(Normalisation))}; "
            f"got {normalisation!r}"
        )
    if len(widths) != len(WIDTHS):
        raise ValueError(
            f"DetectNet's widths must be {len(WIDTHS)} tuples, of its stem and of each inception "
            f"block; got {len(widths)}"
        )
    for block, inside, known in zip(("stem", *INCEPTIONS), widths, WIDTHS, strict=True):
        layers.check_counts("DetectNet", f"widths of {block}", inside, len(known))
    if x.ndim != 4 or any(size % STRIDE or not size for size in x.shape[1:3]):
        raise ValueError(
            f"DetectNet expects images of shape (N, H, W, C) with H and W multiples of {STRIDE}, "
            f"got {x.shape}: pad the images at the right and below"
        )
