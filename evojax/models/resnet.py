"""Residual networks for small images (He et al. 2016, section 4.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from evojax.models import layers


class ResNet(nn.Module):
    """A convolution, three stages of residual blocks, the mean over the image and a classifier.

    Stages have 16, 32 and 64 channels; the second and the third begin at stride 2. A block is two
    3x3 convolutions without bias, each normalised by batch. Its shortcut is the identity, and
    where the stage changes every second pixel with the new channels zero, half of them before and
    half after the old ones (option A: no parameters).

    `blocks` = 9 is ResNet-56: 848,944 weights and the classifier's 10 biases count as synapses,
    4,064 scales and offsets of normalisation apart. All float32.

    Its convolutions (`layers.conv`) have no derivatives in forward mode: `jax.jvp`, `jax.jacfwd`
    and `jax.linearize` raise a TypeError. Where you need them, write the module with
    ``conv_general_dilated=lax.conv_general_dilated``.

    Source: He et al. 2016, arXiv 1512.03385.

    Attributes:
        blocks: in each stage; the network is 6 blocks + 2 layers deep.
        classes: number of logits.
        dtype: what to compute in; by default what images and parameters promote to.
        widths: channels of the three stages.
        inner: channels between the two convolutions of every block, in order; by default its
            stage's.
    """

    blocks: int = 9
    classes: int = 10
    dtype: jax.typing.DTypeLike | None = None
    widths: tuple[int, ...] = (16, 32, 64)
    inner: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits (N, classes), float32, of images (N, H, W, C), floating point, at least 4x4.

        Raises:
            ValueError: if x is of another rank or its images are smaller, or if an attribute
                cannot be.
        """
        if x.ndim != 4 or min(x.shape[1:3]) < 4:
            raise ValueError(
                f"ResNet expects images of shape (N, H, W, C) of at least 4x4, got {x.shape}"
            )
        layers.check_counts("ResNet", "blocks", (self.blocks,), 1)
        layers.check_counts("ResNet", "classes", (self.classes,), 1)
        layers.check_counts("ResNet", "widths", self.widths, max(1, len(self.widths)))
        default = [width for width in self.widths for _ in range(self.blocks)]
        layers.check_counts("ResNet", "inner", self.inner or default, len(default))
        inner = iter(self.inner or default)
        x = nn.relu(_convolution(x, self.widths[0], 1, "conv", train, self.dtype))
        for stage, channels in enumerate(self.widths, 1):
            for block in range(1, self.blocks + 1):
                stride = 2 if block == 1 and stage > 1 else 1
                name = f"stage{stage}_block{block}"
                x = _Block(channels, next(inner), stride, self.dtype, name=name)(x, train)
        x = nn.Dense(self.classes, dtype=self.dtype, name="dense")(jnp.mean(x, (1, 2)))
        return x.astype(jnp.float32)


class _Block(nn.Module):
    channels: int
    inner: int
    stride: int
    dtype: jax.typing.DTypeLike | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.relu(_convolution(x, self.inner, self.stride, "conv1", train, self.dtype))
        y = _convolution(y, self.channels, 1, "conv2", train, self.dtype)
        new = self.channels - x.shape[-1]
        shortcut = x[:, :: self.stride, :: self.stride]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))
        return nn.relu(y + shortcut)


def _convolution(
    x: jax.Array,
    channels: int,
    stride: int,
    name: str,
    train: bool,
    dtype: jax.typing.DTypeLike | None,
) -> jax.Array:
    """A 3x3 convolution that pads a pixel on each side, normalised."""
    conv = nn.Conv(
        channels, (3, 3), stride, padding=1, use_bias=False, dtype=dtype, name=name,
        kernel_init=nn.initializers.he_normal(), conv_general_dilated=layers.conv,
    )  # fmt: skip
    return layers.batch_norm(train, dtype, name=f"{name}_norm")(conv(x))
