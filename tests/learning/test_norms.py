"""Which kernel each normalisation belongs to, in Linen and in NNX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as flax_nnx

import evojax
from evojax.genetics import layout
from evojax.learning import linen, nnx

SHAPE = (8, 8, 1)


def test_normalisation_belongs_to_the_layer_whose_very_output_it_takes():
    class Norms(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            def norm(name):
                return nn.BatchNorm(use_running_average=not train, name=name)

            x = norm("first")(nn.Conv(4, (3, 3), name="conv")(x))
            x = nn.Conv(4, (3, 3), name="block")(nn.relu(x))
            x = norm("second")(x=x)
            x = norm("after")(nn.relu(x))  # Of an activation: nobody's.
            shared = norm("shared")
            x = shared(nn.Conv(4, (1, 1), name="a")(x)) + shared(nn.Conv(4, (1, 1), name="b")(x))
            return nn.Dense(3, name="dense")(x.mean((1, 2)))

    assert linen(Norms()).norms((8, 8, 1)) == {
        "first/scale": "conv/kernel", "first/bias": "conv/kernel",
        "second/scale": "block/kernel", "second/bias": "block/kernel",
    }  # fmt: skip


def test_a_normalisation_of_a_reshaped_output_belongs_to_its_layer():
    class Shapes(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            def norm(x, name):
                return nn.BatchNorm(use_running_average=not train, name=name)(x)

            x = nn.Conv(4, (3, 3), name="conv")(x)
            y = norm(x.astype(jnp.bfloat16).reshape(len(x), 64, 4), "pixels")
            z = norm(x.reshape(len(x), 256), "flat")  # By pixel and channel: nobody's.
            t = norm(x.transpose(0, 3, 1, 2).reshape(len(x), 4, 64).swapaxes(1, 2), "turned")
            rows = norm(x.swapaxes(2, 3), "rows")  # Eight columns are no channels.
            heads = norm(nn.DenseGeneral((2, 6), name="heads")(x), "head")
            shifted = norm(x + self.param("shift", nn.initializers.zeros, (4,)), "shifted")
            parts = (y, z, t, rows, heads, shifted)
            return nn.Dense(3, name="dense")(
                sum(p.reshape(len(p), -1).sum(1) for p in parts)[:, None]
            )

    assert linen(Shapes()).norms(SHAPE) == {
        "pixels/scale": "conv/kernel", "pixels/bias": "conv/kernel",
        "turned/scale": "conv/kernel", "turned/bias": "conv/kernel",
        "head/scale": "heads/kernel", "head/bias": "heads/kernel",
    }  # fmt: skip


class LinenTwin(nn.Module):
    """conv, norm, relu, conv, norm, residual sum; then a norm of the sum, and a normed dense."""

    @nn.compact
    def __call__(self, x, train):
        def norm(name, **options):
            return nn.BatchNorm(use_running_average=not train, name=name, **options)

        x = nn.Conv(4, (3, 3), name="stem")(x)
        y = nn.relu(norm("norm1")(nn.Conv(6, (3, 3), use_bias=False, name="conv1")(x)))
        x = x + norm("norm2", use_bias=False)(nn.Conv(4, (3, 3), name="conv2")(y))
        x = nn.relu(norm("norm3")(x)).mean((1, 2))
        shared = norm("shared")
        x = shared(nn.Dense(5, name="one")(x)) + shared(nn.Dense(5, name="other")(x))
        return nn.Dense(3, name="out")(norm("norm4")(nn.Dense(5, name="hidden")(x)))


class Twin(flax_nnx.Module):
    def __init__(self, rngs):
        def conv(ins, outs, **options):
            return flax_nnx.Conv(ins, outs, (3, 3), rngs=rngs, **options)

        def norm(size, **options):
            return flax_nnx.BatchNorm(size, rngs=rngs, **options)

        def dense(ins, outs):
            return flax_nnx.Linear(ins, outs, rngs=rngs)

        self.stem, self.conv1, self.conv2 = conv(1, 4), conv(4, 6, use_bias=False), conv(6, 4)
        self.norm1, self.norm2, self.norm3 = norm(6), norm(4, use_bias=False), norm(4)
        self.one, self.other, self.shared = dense(4, 5), dense(4, 5), norm(5)
        self.hidden, self.norm4, self.out = dense(5, 5), norm(5), dense(5, 3)

    def __call__(self, x):
        x = self.stem(x)
        y = flax_nnx.relu(self.norm1(self.conv1(x)))
        x = x + self.norm2(self.conv2(y))
        x = flax_nnx.relu(self.norm3(x)).mean((1, 2))
        x = self.shared(self.one(x)) + self.shared(self.other(x))
        return self.out(self.norm4(self.hidden(x)))


def test_nnx_finds_what_linen_finds():
    norms = nnx(Twin).norms(SHAPE)
    assert norms == {
        "norm1/scale": "conv1/kernel", "norm1/bias": "conv1/kernel",
        "norm2/scale": "conv2/kernel",
        "norm4/scale": "hidden/kernel", "norm4/bias": "hidden/kernel",
    }  # fmt: skip
    assert linen(LinenTwin()).norms(SHAPE) == norms


def test_nothing_is_left_of_a_dead_channel_of_an_nnx_model():
    model = nnx(Twin)
    params, stats = model.init(jax.random.key(0), SHAPE)
    rule = evojax.following(model.norms(SHAPE))
    plan = layout(params, rule)
    masks = evojax.synthesis(evojax.random(), evojax.budget(total=0.5), rule).ancestor(params)
    alive = np.arange(6) != 2
    masks["conv1"]["kernel"] = jnp.broadcast_to(alive, params["conv1"]["kernel"].shape)
    masks["norm1"] = {"scale": jnp.asarray(alive), "bias": jnp.asarray(alive)}
    # Without, this would be the constant that reaches the padded convolution.
    params["norm1"]["bias"] = jnp.ones(6)
    assert plan.roles["norm1/bias"] == evojax.Follows("conv1/kernel", counted=False)
    x = jnp.zeros((1, *SHAPE))
    small = evojax.compact(model.predict, {"params": params, "batch_stats": stats}, masks, x)
    assert small.variables["params"]["conv2"]["kernel"].shape == (3, 3, 5, 4)
