"""LeNet as the evolutionary-synthesis papers used it: Caffe's `cifar10_quick`, MatConvNet's `cnn_cifar`."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from evojax.models import layers


class LeNet(nn.Module):
    """Three 5x5 convolutions, a 4x4 one that sees the whole remaining image, and a classifier.

    conv1 5x5x32, max pool, ReLU; conv2 5x5x32, ReLU, average pool; conv3 5x5x64, ReLU, average pool;
    dense1 4x4x64 (no padding), ReLU; dense2. Pools are 3x3 at stride 2 in Caffe's ceil mode. 143,978
    parameters at one channel, 145,578 at three. Source: Caffe examples/cifar10/cifar10_quick; the ReLU
    after dense1 is MatConvNet's examples/cifar/cnn_cifar_init.m.

    Attributes:
        classes: how many logits to return.
        dtype: what to compute in; the parameters and the logits are float32 whatever it is.
    """

    classes: int = 10
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return logits (N, classes), float32, of images (N, 32, 32, C), floating point.

        Raises:
            ValueError: if x is not of rank 4 or its images are not 32x32.
        """
        if x.ndim != 4 or x.shape[1:3] != (32, 32):
            raise ValueError(
                f"LeNet expects images of shape (N, 32, 32, C), got {x.shape}: "
                "load the data with size=32 and keep the batch and channel axes"
            )
        he = nn.initializers.he_normal()
        conv = partial(nn.Conv, dtype=self.dtype, kernel_init=he, conv_general_dilated=layers.conv)
        x = conv(32, (5, 5), name="conv1")(x)
        x = nn.relu(layers.max_pool(x))
        x = conv(32, (5, 5), name="conv2")(x)
        x = layers.average_pool(nn.relu(x))
        x = conv(64, (5, 5), name="conv3")(x)
        x = layers.average_pool(nn.relu(x))
        x = nn.relu(conv(64, (4, 4), padding="VALID", name="dense1")(x))
        x = nn.Dense(self.classes, dtype=self.dtype, name="dense2")(x.reshape(x.shape[0], -1))
        return x.astype(jnp.float32)
