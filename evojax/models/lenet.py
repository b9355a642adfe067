"""LeNet as the papers on evolutionary synthesis used it: Caffe's `cifar10_quick`."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from evojax.models import layers


class LeNet(nn.Module):
    """Three 5x5 convolutions, a 4x4 one that sees all that is left of the image, and a classifier.

    conv1 to 32 channels, max pool, ReLU; conv2 to 32, ReLU, average pool; conv3 to 64, ReLU,
    average pool; dense1 4x4 to 64 without padding, ReLU; dense2. Pools are 3x3 at stride 2 in
    Caffe's ceil mode. 143,978 parameters with one input channel, 145,578 with three; all float32.

    Its convolutions (`layers.conv`) have no derivatives in forward mode: `jax.jvp`, `jax.jacfwd`
    and `jax.linearize` raise a TypeError. Where you need them, write the module with
    ``conv_general_dilated=lax.conv_general_dilated``.

    Source: Caffe, examples/cifar10/cifar10_quick_train_test.prototxt; MatConvNet,
    examples/cifar/cnn_cifar_init.m, from which the ReLU after dense1 is.

    Attributes:
        classes: number of logits.
        dtype: what to compute in; by default what images and parameters promote to.
        widths: channels of conv1, conv2, conv3 and dense1.
    """

    classes: int = 10
    dtype: jax.typing.DTypeLike | None = None
    widths: tuple[int, ...] = (32, 32, 64, 64)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes), float32, of images (N, 32, 32, C), floating point.

        Raises:
            ValueError: if x is of another rank or its images are of another size, or if an
                attribute cannot be.
        """
        layers.check_images("LeNet", x, 32)
        layers.check_counts("LeNet", "classes", (self.classes,), 1)
        layers.check_counts("LeNet", "widths", self.widths, 4)
        conv = partial(
            nn.Conv,
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=layers.conv,
        )
        first, second, third, hidden = self.widths
        x = conv(first, (5, 5), name="conv1")(x)
        x = nn.relu(layers.max_pool(x))
        x = conv(second, (5, 5), name="conv2")(x)
        x = layers.average_pool(nn.relu(x))
        x = conv(third, (5, 5), name="conv3")(x)
        x = layers.average_pool(nn.relu(x))
        x = nn.relu(conv(hidden, (4, 4), padding="VALID", name="dense1")(x))
        x = nn.Dense(self.classes, dtype=self.dtype, name="dense2")(x.reshape(x.shape[0], -1))
        return x.astype(jnp.float32)
