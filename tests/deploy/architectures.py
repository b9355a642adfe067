"""Small networks of every kind of layer: ``ARCHITECTURES[name]() -> (apply, variables, input)``."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from evojax.models import detectnet, layers

IMAGE = (2, 8, 8, 3)
ARCHITECTURES = {}


def architecture(make):
    ARCHITECTURES[make.__name__] = make
    return make


def _drawn(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numbers(shape, seed=0):
    return jnp.asarray(_drawn(shape, seed))


def filled(tree):
    """Random numbers in place of every leaf; variances stay positive, biases small."""

    def fill(path, leaf):  # By NumPy, which compiles nothing.
        name = jax.tree_util.keystr(path)
        drawn = _drawn(leaf.shape, sum(map(ord, name)))
        drawn /= np.float32(np.sqrt(leaf.size / leaf.shape[-1]))
        positive, small = "var" in name, "bias" in name
        return jnp.asarray(np.abs(drawn) + 0.5 if positive else drawn / 10 if small else drawn)

    return jax.tree_util.tree_map_with_path(fill, tree)


def linen(forward, shape=IMAGE):
    """A Linen network from its forward pass."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return forward(x)

    net, x = Net(), numbers(shape)
    return net.apply, filled(jax.eval_shape(net.init, jax.random.key(0), x)), x


def plain(apply, shapes, shape):
    return (
        apply,
        {name: numbers(s, i) for i, (name, s) in enumerate(shapes.items())},
        numbers(shape),
    )


def norm(x):
    return nn.BatchNorm(use_running_average=True)(x)


def head(x):
    return nn.Dense(3)(x.mean((1, 2)))


@architecture
def strided_convolutions():
    def forward(x):
        x = nn.relu(nn.Conv(6, (3, 3), strides=2)(x))
        return head(nn.relu(nn.Conv(5, (3, 3), strides=2, padding="VALID")(x)))

    return linen(forward)


@architecture
def dilated_convolutions():
    def forward(x):
        x = nn.relu(nn.Conv(6, (3, 3), kernel_dilation=2)(x))
        return head(nn.relu(nn.Conv(5, (2, 2), kernel_dilation=(1, 3))(x)))

    return linen(forward)


@architecture
def grouped_convolution():
    def forward(x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        x = nn.relu(nn.Conv(9, (3, 3), feature_group_count=3)(x))
        return head(nn.Conv(4, (1, 1))(x))

    return linen(forward)


@architecture
def depthwise_separable():
    def forward(x):
        x = nn.relu(norm(nn.Conv(6, (3, 3))(x)))
        x = nn.relu(norm(nn.Conv(6, (3, 3), feature_group_count=6)(x)))
        return head(nn.relu(nn.Conv(5, (1, 1))(x)))

    return linen(forward)


@architecture
def transposed_convolution():
    def forward(x):
        x = nn.relu(nn.Conv(5, (3, 3), strides=2)(x))
        x = nn.relu(nn.ConvTranspose(6, (3, 3), strides=(2, 2))(x))
        return nn.Conv(2, (1, 1))(x)

    return linen(forward)


@architecture
def dense_layers():
    def forward(x):
        x = nn.relu(nn.Dense(8)(x.reshape(len(x), -1)))
        return nn.Dense(3)(nn.tanh(nn.Dense(6)(x)))

    return linen(forward, (4, 5))


@architecture
def batch_norm_without_bias():
    def forward(x):
        x = nn.relu(norm(nn.Conv(6, (3, 3), use_bias=False)(x)))
        return head(nn.relu(norm(nn.Conv(5, (3, 3), use_bias=False)(x))))

    return linen(forward)


@architecture
def layer_norm():
    def forward(x):
        x = nn.gelu(nn.LayerNorm()(nn.Dense(8)(x)))
        x = nn.LayerNorm(use_fast_variance=False)(nn.Dense(6)(x))
        return nn.Dense(3)(nn.silu(x))

    return linen(forward, (4, 5))


@architecture
def sigmoid_gate():
    def forward(x):
        gate = nn.sigmoid(nn.Dense(6)(x))
        return nn.Dense(3)(gate * nn.tanh(nn.Dense(6)(x)))

    return linen(forward, (4, 5))


@architecture
def pools_and_flatten():
    def forward(x):
        x = nn.max_pool(nn.relu(nn.Conv(6, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.avg_pool(nn.relu(nn.Conv(5, (3, 3))(x)), (3, 3), (2, 2), "SAME")
        x = nn.relu(nn.Dense(7)(x.reshape(len(x), -1)))
        return nn.Dense(3)(x)

    return linen(forward)


@architecture
def residual_branches():
    def forward(x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        y = nn.Conv(6, (3, 3))(nn.relu(nn.Conv(4, (3, 3))(x)))
        z = nn.Conv(6, (1, 1))(nn.relu(nn.Conv(3, (3, 3))(x)))
        return head(nn.relu(x + y + z))

    return linen(forward)


@architecture
def padded_shortcut():
    def forward(x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        y = norm(nn.Conv(8, (3, 3), strides=2, use_bias=False)(x))
        shortcut = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2)))
        return head(nn.relu(y + shortcut))

    return linen(forward)


@architecture
def concatenation():
    def forward(x):
        one, other = nn.relu(nn.Conv(4, (3, 3))(x)), nn.relu(nn.Conv(3, (1, 1))(x))
        both = jnp.concatenate([one, other, x], -1)
        return head(nn.relu(nn.Conv(5, (3, 3))(both)))

    return linen(forward)


def inception(normalisation):
    """Where the stem of a DetectNet ends, and a block."""

    def forward(x):
        layer = partial(detectnet.convolution, normalisation == "batch", None, False)
        x = layer(x, 8, 3, "conv2")
        if normalisation == "response":
            x = layers.response_norm(x)
        return nn.Conv(2, (1, 1))(detectnet.Inception((4, 6, 5, 5, 5, 4))(x, layer))

    return linen(forward, (2, 4, 6, 3))


@architecture
def inception_normalised_by_batch():
    return inception("batch")


@architecture
def inception_normalised_by_response():
    return inception("response")


@architecture
def concatenation_then_groups():
    def forward(x):
        one, other = nn.relu(nn.Conv(4, (3, 3))(x)), nn.relu(nn.Conv(4, (1, 1))(x))
        both = jnp.concatenate([one, other], -1)
        x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=4)(both))
        return head(nn.Conv(4, (1, 1))(x))

    return linen(forward)


@architecture
def split_and_slice():
    def forward(x):
        x = nn.Conv(8, (3, 3))(x)
        one, other = jnp.split(x, 2, -1)
        x = nn.relu(nn.Conv(6, (1, 1))(one * nn.sigmoid(other)))
        return nn.Dense(3)(x[..., 1:5].mean((1, 2))) + nn.Dense(3)(x[:, 0, 0, 3:])

    return linen(forward)


@architecture
def transposes():
    def apply(v, x):
        x = jax.nn.relu(jnp.einsum("nhwc,cd->ndhw", x, v["a"]))
        x = jax.nn.relu(jnp.einsum("ndhw,ed->hwne", x, v["b"])).transpose(2, 3, 0, 1)
        return x.max((2, 3))[:, ::-1] @ v["c"]

    return plain(apply, {"a": (3, 6), "b": (5, 6), "c": (5, 2)}, IMAGE)


@architecture
def attention():
    def forward(x):
        x = nn.Dense(6)(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)(x)
        return nn.Dense(3)(nn.LayerNorm()(x).mean(1))

    return linen(forward, (2, 5, 4))


@architecture
def heads_by_reshape():
    def apply(v, x):
        n, t, _ = x.shape
        q, k, w = (
            (x @ v[name]).reshape(n, t, 3, 4).transpose(0, 2, 1, 3) for name in ("q", "k", "w")
        )
        mix = jax.nn.softmax(jnp.where(jnp.tri(t, dtype=bool), q @ k.swapaxes(2, 3), -1e9))
        return (mix @ w).transpose(0, 2, 1, 3).reshape(n, t, 12) @ v["out"]

    shapes = {"q": (5, 12), "k": (5, 12), "w": (5, 12), "out": (12, 3)}
    return plain(apply, shapes, (2, 4, 5))


@architecture
def scanned_blocks():
    def apply(v, x):
        def block(x, w):
            return x + jnp.tanh(x @ w["up"]) @ w["down"], jnp.sum(x)

        x, _ = lax.scan(block, x @ v["in"], v["blocks"])
        return x @ v["out"]

    variables = {"in": numbers((4, 6), 1), "out": numbers((6, 3), 2)}
    blocks = {"up": numbers((3, 6, 5), 3), "down": numbers((3, 5, 6), 4)}
    return apply, {**variables, "blocks": blocks}, numbers((2, 4))


@architecture
def remat_blocks():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x + nn.Conv(5, (3, 3))(nn.relu(norm(nn.Conv(4, (3, 3))(x))))

    def forward(x):
        x = nn.Conv(5, (1, 1))(x)
        return head(nn.remat(Block)()(nn.remat(Block)()(x)))

    return linen(forward)


@architecture
def several_outputs():
    def forward(x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        y = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        return {"boxes": nn.Conv(2, (1, 1))(x), "classes": (head(y), nn.sigmoid(head(x)))}

    return linen(forward)


@architecture
def shared_parameters():
    def apply(v, x):
        for _ in range(2):
            x = x + jnp.tanh(x @ v["w"] + v["b"]) @ v["w"].T
        return x @ v["embed"] @ v["out"], jax.nn.relu(x @ v["embed"])[:, :2] @ v["last"]

    shapes = {"w": (5, 6), "b": (6,), "embed": (5, 4), "out": (4, 2), "last": (2, 2)}
    return plain(apply, shapes, (3, 5))


@architecture
def a_single_channel():
    def forward(x):
        x = nn.relu(nn.Conv(5, (3, 3))(x))
        gate = nn.sigmoid(nn.Conv(1, (1, 1))(x))
        return head(nn.relu(nn.Conv(4, (3, 3))(x * gate))) + nn.Dense(3)(x.mean((1, 2)))

    return linen(forward)


@architecture
def squeeze_and_excitation():
    def forward(x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        gate = nn.sigmoid(nn.Dense(6)(nn.relu(nn.Dense(4)(x.mean((1, 2))))))
        return head(x * gate[:, None, None, :])

    return linen(forward)


@architecture
def group_norm():
    def forward(x):
        x = nn.relu(nn.GroupNorm(num_groups=3)(nn.Conv(6, (3, 3))(x)))
        return head(nn.Conv(4, (1, 1))(x))

    return linen(forward)


@architecture
def embedding():
    def forward(tokens):
        x = nn.Embed(10, 6)(tokens)
        return nn.Dense(3)(nn.relu(nn.Dense(5)(x)).mean(1))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return forward(x)

    net, x = Net(), jnp.asarray([[1, 4, 2], [9, 0, 3]])
    return net.apply, filled(jax.eval_shape(net.init, jax.random.key(0), x)), x


@architecture
def decoder():
    def forward(x):
        x = nn.relu(nn.Dense(4 * 4 * 5)(x)).reshape(len(x), 4, 4, 5)
        x = nn.relu(nn.ConvTranspose(4, (3, 3), strides=(2, 2))(x))
        return nn.Conv(1, (3, 3))(jnp.tile(x, (1, 1, 1, 2)))

    return linen(forward, (2, 6))


@architecture
def sorted_channels():
    """Not to be understood: what is sorted is kept whole."""

    def apply(v, x):
        return jnp.sort(jax.nn.relu(x @ v["a"]), 1) @ v["b"] + jax.nn.relu(x @ v["c"]) @ v["d"]

    return plain(apply, {"a": (4, 5), "b": (5, 2), "c": (4, 6), "d": (6, 2)}, (3, 4))


@architecture
def nnx_network():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
            self.dense = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x):
            return self.dense(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))

    graph, state = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))
    return lambda state, x: nnx.merge(graph, state)(x), filled(state), numbers(IMAGE)
