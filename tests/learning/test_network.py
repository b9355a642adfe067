"""How evojax sees a Flax Linen module."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.evolution.lineage import entry
from evojax.genetics import layout
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


def counted(module, shape):
    """A model's layers, checked against the multiply-accumulates that `evojax.cost` counts."""
    model = linen(module)
    params, _ = model.init(jax.random.key(0), shape)
    layers = model.layers(shape)
    plan = layout(params)
    alive = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    names = [layer.name for layer in layers]
    census = evojax.census(alive, plan, names, outputs=names[-1])
    assert [layer.name for layer in census.layers] == names
    found = evojax.cost(module.apply, {"params": params}, jnp.zeros((1, *shape)))
    signals = sum(macs for path, macs in found.products if path is None)
    return layers, entry(1, census, layers)["macs"], found.macs - signals, found.macs


def test_positions_are_tokens_whatever_the_shape_of_the_output():
    class Attention(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.MultiHeadDotProductAttention(num_heads=4, name="attention")(x.reshape(1, 16, 8))
            return nn.Dense(3, name="dense")(x.mean(1))

    layers, macs, weights, _ = counted(Attention(), (8, 8, 2))
    names = ("query", "key", "value", "out")
    assert layers == (*(Layer(f"attention/{name}", 16) for name in names), Layer("dense", 1))
    assert macs == weights == 4 * 16 * 64 + 24


def test_positions_of_a_transposed_convolution_are_those_of_its_input():
    class Upwards(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.ConvTranspose(4, (3, 3), strides=(2, 2), name="up")(x)
            return nn.Dense(3, name="dense")(x.mean((1, 2)))

    layers, macs, weights, _ = counted(Upwards(), (8, 6, 2))
    assert layers == (Layer("up", 48), Layer("dense", 1))
    assert macs == weights


class Own(nn.Module):
    """Weights of any name: one alone in its module, two in one, one beside a table added up."""

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        x = x.reshape(len(x), 16, 4) + self.param("table", init, (16, 4))
        x = jnp.einsum("nti,io->nto", x, self.param("w", init, (4, 6)))
        x = Cell(name="cell")(x)
        return nn.Dense(3, name="dense")(x.mean(1))


class Cell(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        hidden, out = self.param("hi", init, (6, 5)), self.param("ho", init, (5, 6))
        return nn.relu(x[:, :8] @ hidden) @ out


def test_weights_are_found_whatever_their_name():
    model, shape = linen(Own()), (8, 8, 1)
    layers = model.layers(shape)
    assert layers == (
        Layer("w", 16), Layer("cell/hi", 8), Layer("cell/ho", 8), Layer("dense", 1)
    )  # fmt: skip
    params, _ = model.init(jax.random.key(0), shape)
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    names = [layer.name for layer in layers]
    census = evojax.census(masks, layout(params), names, outputs=names[-1])
    assert [layer.name for layer in census.layers] == [*names, "table"]
    image = jnp.zeros((1, *shape))
    assert (
        entry(1, census, layers)["macs"] == evojax.cost(Own().apply, {"params": params}, image).macs
    )


def test_weights_are_found_where_they_are_computed_with_first():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.relu(nn.Conv(4, (3, 3), name="conv")(x)), None

    class Computed(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.WeightNorm(nn.Conv(4, (3, 3), name="normalised"))(x)
            axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            x, _ = nn.scan(Block, length=3, **axes)(name="blocks")(x, None)
            part = self.param("part", nn.initializers.lecun_normal(), (4, 6))[:, :3]
            return nn.Dense(3, name="dense")(x.mean((1, 2)) @ part)

    layers, macs, _, total = counted(Computed(), (8, 8, 1))
    assert layers == (
        Layer("normalised", 64), Layer("blocks/conv", 64), Layer("part", 0.5), Layer("dense", 1)
    )  # fmt: skip
    assert macs == total and isinstance(macs, int)


def test_a_table_that_classifies_is_the_last_layer_and_signals_are_none():
    class Tied(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x.reshape(len(x), 16, 4) * self.param("gain", nn.initializers.ones, (16, 4))
            x = nn.Dense(5, name="dense")(x.swapaxes(1, 2) @ x).mean(1)
            return nn.Embed(3, 5, name="classes").attend(x)

    expected = (Layer("dense", 4), Layer("classes/embedding", 1))
    assert linen(Tied()).layers((8, 8, 1)) == expected


def test_logits_are_float32_whatever_the_module_computes_in():
    model = linen(nn.Sequential([lambda x: x.mean((1, 2)), nn.Dense(3, dtype=jnp.bfloat16)]))
    params, stats = model.init(jax.random.key(0), (8, 8, 1))
    for train in (True, False):
        assert model.forward(params, stats, jnp.ones((2, 8, 8, 1)), train)[0].dtype == jnp.float32


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


def test_what_is_no_module_is_refused():
    for wrong in (nn.Dense, None):
        with pytest.raises(ValueError, match="expected an instance of a Flax Linen module"):
            linen(wrong)


def test_a_network_is_traced_once_for_its_layers_and_norms():
    traces = []

    class Traced(nn.Module):
        @nn.compact
        def __call__(self, x):
            traces.append(x.shape)
            return nn.Dense(3)(x.mean((1, 2)))

    model = linen(Traced())
    layers, before = model.layers((8, 8, 1)), len(traces)
    assert before > 0
    assert model.norms((8, 8, 1)) == {} and model.layers((8, 8, 1)) == layers
    assert len(traces) == before
    model.layers((4, 4, 1))
    assert len(traces) > before
