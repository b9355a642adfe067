"""How evojax sees a Flax Linen module."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.learning import Layer, linen


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(6, (1, 5), name="conv")(x))


class Branches(nn.Module):
    """Its call order differs from the order of its names, and one layer lies in a block."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2, name="z")(x)
        x = Block(name="block")(x)
        x = nn.LayerNorm(name="norm")(x)
        x = nn.Conv(2, (3, 2), padding="VALID", name="m")(x)
        return nn.Dense(3, name="a")(x.reshape(len(x), -1))


def test_layers_come_in_call_order_with_their_positions():
    assert linen(Branches()).layers((8, 12, 1)) == (
        Layer("z", 4 * 6),
        Layer("block/conv", 4 * 6),
        Layer("m", 2 * 5),
        Layer("a", 1),
    )


def test_a_layer_used_twice_is_one_layer_with_the_positions_of_both():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            conv = nn.Conv(1, (3, 3), name="conv")
            x = nn.avg_pool(conv(x), (2, 2), (2, 2))
            return nn.Dense(3, name="dense")(conv(x).reshape(len(x), -1))

    assert linen(Twice()).layers((8, 8, 1)) == (Layer("conv", 64 + 16), Layer("dense", 1))


def test_init_is_reproducible_and_compiles_once(tiny, compilations):
    first = tiny.init(jax.random.key(0), (8, 8, 1))
    with compilations() as count:
        again = tiny.init(jax.random.key(0), (8, 8, 1))
        other = tiny.init(jax.random.key(1), (8, 8, 1))
    assert count() == 0
    assert first[1] == {}
    jax.tree.map(np.testing.assert_array_equal, first[0], again[0])
    assert not np.array_equal(first[0]["conv1"]["kernel"], other[0]["conv1"]["kernel"])


def test_a_module_without_train_is_called_without(tiny):
    params, batch_stats = tiny.init(jax.random.key(0), (8, 8, 1))
    images = jnp.ones((3, 8, 8, 1))
    (training, stats), (evaluation, _) = (
        tiny.forward(params, batch_stats, images, train) for train in (True, False)
    )
    assert stats == {}
    np.testing.assert_array_equal(training, evaluation)
    assert training.shape == (3, 4)


def test_a_module_with_train_updates_statistics_only_while_it_trains(normalised):
    params, stats = normalised.init(jax.random.key(0), (8, 8, 1))
    images = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    _, kept = normalised.forward(params, stats, images, False)
    _, updated = normalised.forward(params, stats, images, True)
    jax.tree.map(np.testing.assert_array_equal, kept, stats)
    activations = nn.Conv(4, (3, 3), use_bias=False).apply({"params": params["conv"]}, images)
    expected = 0.5 * activations.mean((0, 1, 2))  # Momentum 0.5, from a mean of 0.
    np.testing.assert_allclose(updated["norm"]["mean"], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["tiny", "dense", "normalised"])
def test_layers_of_the_tests_models(name, request):
    names = [layer.name for layer in request.getfixturevalue(name).layers((8, 8, 1))]
    expected = {
        "tiny": ["conv1", "conv2", "dense"],
        "dense": ["hidden", "logits"],
        "normalised": ["conv", "dense"],
    }
    assert names == expected[name]


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


def test_dropout_is_refused():
    class Dropping(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
            return nn.Dense(3, name="dense")(x)

    model = linen(Dropping())
    params, stats = model.init(jax.random.key(0), (8, 8, 1))
    with pytest.raises(ValueError, match="Dropping draws random numbers while it trains"):
        model.forward(params, stats, jnp.ones((2, 8, 8, 1)), True)
