"""AlexNet (Krizhevsky et al. 2012) for images of 32x32 pixels, as the papers evolve it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from evojax.models import layers

CONVOLUTIONS = (
    # name, window, followed by a pool
    ("conv1", 5, True),
    ("conv2", 5, True),
    ("conv3", 3, False),
    ("conv4", 3, False),
    ("conv5", 3, True),
)


class AlexNet(nn.Module):
    """Five convolutions, two hidden dense layers and a classifier.

    Convolutions have stride 1 and keep the size, pools are 3x3 at stride 2: 32 to 16 to 8 to 4
    pixels. dense1 is a 4x4 convolution that sees all that is left of the image, as in LeNet. With
    three input channels 37,313,578 parameters that count as synapses, all float32.

    The papers tell the layers, the first kernel (5x5x3) and, by their cluster efficiencies, the
    first layer's 96 channels; the other widths are AlexNet's own, ungrouped. Batch normalisation
    stands in place of the original's response normalisation, dropout and hidden biases. Without
    it (`batch_norm` False) every layer has a bias: 37,323,146 parameters.

    Its convolutions (`layers.conv`) have no derivatives in forward mode: `jax.jvp`, `jax.jacfwd`
    and `jax.linearize` raise a TypeError. Where you need them, write the module with
    ``conv_general_dilated=lax.conv_general_dilated``.

    Attributes:
        classes: number of logits.
        batch_norm: whether to normalise every hidden layer by batch.
        dtype: what to compute in; by default what images and parameters promote to.
        widths: channels of conv1 to conv5, dense1 and dense2.
    """

    classes: int = 10
    batch_norm: bool = True
    dtype: jax.typing.DTypeLike | None = None
    widths: tuple[int, ...] = (96, 256, 384, 384, 256, 4096, 4096)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits (N, classes), float32, of images (N, 32, 32, C), floating point.

        Raises:
            ValueError: if x is of another rank or its images are of another size, or if an
                attribute cannot be.
        """
        layers.check_images("AlexNet", x, 32)
        layers.check_counts("AlexNet", "classes", (self.classes,), 1)
        layers.check_counts("AlexNet", "widths", self.widths, 7)
        bias, he = not self.batch_norm, nn.initializers.he_normal()
        conv = partial(
            nn.Conv, use_bias=bias, dtype=self.dtype, kernel_init=he,
            conv_general_dilated=layers.conv,
        )  # fmt: skip
        dense = partial(nn.Dense, use_bias=bias, dtype=self.dtype, kernel_init=he)

        def normalised(x: jax.Array, layer: str) -> jax.Array:
            if not self.batch_norm:
                return x
            return layers.batch_norm(train, self.dtype, name=f"{layer}_norm")(x)

        *widths, first, second = self.widths
        for (name, window, pooled), channels in zip(CONVOLUTIONS, widths, strict=True):
            x = normalised(conv(channels, (window, window), name=name)(x), name)
            x = nn.relu(layers.max_pool(x) if pooled else x)
        x = conv(first, (4, 4), padding="VALID", name="dense1")(x)
        x = nn.relu(normalised(x, "dense1")).reshape(x.shape[0], -1)
        x = nn.relu(normalised(dense(second, name="dense2")(x), "dense2"))
        x = nn.Dense(self.classes, dtype=self.dtype, name="dense3")(x)
        return x.astype(jnp.float32)
