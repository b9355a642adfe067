"""What compact returns is an ordinary JAX function."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export, lax

from evojax.deploy import compact
from evojax.models.lenet import LeNet
from tests.deploy.architectures import filled, numbers


class Net(nn.Module):
    """3 -> 6 channels, normalised -> 2."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3), name="conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(x))
        return nn.Dense(2, name="dense")(x.reshape(x.shape[0], -1))


LIVING = np.array([0, 1, 1, 0, 1, 0], bool)


@pytest.fixture(scope="module")
def example():
    return numbers((2, 4, 4, 3))


@pytest.fixture(scope="module")
def variables(example):
    return filled(jax.eval_shape(Net().init, jax.random.key(0), example))


@pytest.fixture(scope="module")
def masks():
    """Filters 0, 3 and 5 dead, with their scales and offsets."""
    return {
        "conv": {"kernel": jnp.tile(LIVING, (3, 3, 3, 1)), "bias": jnp.asarray(LIVING)},
        "norm": {"scale": jnp.asarray(LIVING), "bias": jnp.asarray(LIVING)},
        "dense": {"kernel": None, "bias": None},
    }


@pytest.fixture(scope="module")
def small(variables, masks, example):
    return compact(Net().apply, variables, masks, example)


@pytest.fixture(scope="module")
def masked(variables, masks):
    params = jax.tree.map(
        lambda leaf, mask: leaf if mask is None else leaf * mask,
        variables["params"],
        masks,
        is_leaf=lambda leaf: leaf is None,
    )
    return {**variables, "params": params}


def same(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_variables_statistics_and_masks_are_sliced_alike(small, variables):
    after = {change.path: change.after for change in small.report.variables}
    assert after == {
        "params/conv/kernel": (3, 3, 3, 3), "params/conv/bias": (3,),
        "params/norm/scale": (3,), "params/norm/bias": (3,),
        "batch_stats/norm/mean": (3,), "batch_stats/norm/var": (3,),
        "params/dense/kernel": (48, 2), "params/dense/bias": (2,),
    }  # fmt: skip
    kept = {change.path: change.kept for change in small.report.variables}
    assert kept["params/conv/kernel"] == (None, None, None, (1, 2, 4))
    assert kept["params/dense/bias"] == (None,)
    statistics = small.variables["batch_stats"]["norm"]["mean"]
    np.testing.assert_array_equal(statistics, variables["batch_stats"]["norm"]["mean"][LIVING])
    assert small.masks["conv"]["kernel"].shape == (3, 3, 3, 3) and small.masks["conv"]["bias"].all()
    assert small.masks["dense"] == {"kernel": None, "bias": None}
    assert small.report.parameters_before == 168 + 12 + 12 + 194
    assert small.report.parameters_after == 84 + 6 + 6 + 98
    assert small.report.kept_whole == ()
    assert "params/conv/kernel     3x3x3x6 -> 3x3x3x3" in str(small.report)


@pytest.mark.parametrize("count", [1, 5])
def test_batches_of_any_size(small, masked, count):
    x = numbers((count, 4, 4, 3), 9)
    same(jax.jit(small.apply)(small.variables, x), Net().apply(masked, x))


def test_vmap(small, masked):
    x = numbers((3, 4, 4, 3), 5)
    found = jax.vmap(lambda image: small.apply(small.variables, image[None])[0])(x)
    same(found, Net().apply(masked, x))


def test_gradients_are_those_of_what_is_left(small, masked, example):
    def loss(apply):
        return lambda variables: jnp.sum(apply(variables, example) ** 2)

    ours = jax.jit(jax.grad(loss(small.apply)))(small.variables)["params"]
    theirs = jax.jit(jax.grad(loss(Net().apply)))(masked)["params"]
    same(ours["conv"]["kernel"], theirs["conv"]["kernel"][..., LIVING])
    same(ours["dense"]["bias"], theirs["dense"]["bias"])


def test_export_with_any_number_of_images(small, masked):
    images = jax.ShapeDtypeStruct((export.symbolic_shape("n")[0], 4, 4, 3), jnp.float32)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), small.variables)
    data = export.export(jax.jit(small.apply))(shapes, images).serialize()
    x = numbers((3, 4, 4, 3), 3)
    same(export.deserialize(bytearray(data)).call(small.variables, x), Net().apply(masked, x))


def test_bfloat16_weights(small):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), small.variables)
    out = small.apply(half, numbers((2, 4, 4, 3)).astype(jnp.bfloat16))
    assert out.dtype == jnp.bfloat16 and np.all(np.isfinite(out.astype(jnp.float32)))


def test_compacting_again_removes_nothing_more(small, example):
    again = compact(small.apply, small.variables, small.masks, example)
    assert all(change.before == change.after for change in again.report.variables)


def test_widths_are_multiples_of_round_to(variables, masks, example):
    widths = {}
    for multiple in (2, 4, 5, 100):
        rounded = compact(Net().apply, variables, masks, example, round_to=multiple)
        widths[multiple] = rounded.variables["params"]["conv"]["kernel"].shape[-1]
    assert widths == {2: 4, 4: 4, 5: 5, 100: 6}


def test_masks_of_some_parameters_of_an_nnx_network():
    rngs = nnx.Rngs(0)
    layers = nnx.Linear(3, 5, rngs=rngs), nnx.relu, nnx.Linear(5, 2, rngs=rngs)
    graph, state = nnx.split(nnx.Sequential(*layers))
    masks = {"layers": {0: {"kernel": jnp.tile(jnp.arange(5) < 3, (3, 1))}}}
    small = compact(lambda state, x: nnx.merge(graph, state)(x), state, masks, jnp.ones((1, 3)))
    assert small.masks["layers"][0]["kernel"].shape == (3, 3)
    assert small.variables["layers"][2]["kernel"].shape == (3, 2)


def test_constants_are_folded_into_the_sums_that_read_them():
    def apply(v, x):
        hidden = jax.nn.sigmoid(x @ v["a"] + v["b"])
        return hidden @ v["c"], hidden.sum(1)

    variables = {"a": numbers((4, 6)), "b": numbers((6,), 1), "c": numbers((6, 3), 2)}
    masks = {"a": jnp.tile(jnp.arange(6) < 2, (4, 1)), "b": jnp.arange(6) < 4, "c": None}
    x = numbers((3, 4), 4)
    small = compact(apply, variables, masks, x[:1])
    assert small.variables["a"].shape == (4, 2) and small.variables["c"].shape == (2, 3)
    masked = {
        "a": variables["a"] * masks["a"],
        "b": variables["b"] * masks["b"],
        "c": variables["c"],
    }
    for one, other in zip(small.apply(small.variables, x), apply(masked, x), strict=True):
        same(one, other)


def test_a_constant_before_padding_is_kept():
    def apply(v, x):
        x = jax.nn.sigmoid(nn_conv(x, v["a"], "VALID"))
        return nn_conv(nn_conv(x, v["b"], "VALID"), v["c"], "SAME")

    def nn_conv(x, kernel, padding):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)

    shapes = {"a": (2, 2, 1, 4), "b": (2, 2, 4, 3), "c": (3, 3, 3, 2)}
    variables = {name: numbers(shape) for name, shape in shapes.items()}
    masks = {"a": jnp.tile(jnp.arange(4) < 1, (2, 2, 1, 1)), "b": None, "c": None}
    masks["b"] = jnp.ones(shapes["b"], bool).at[:, :, 0, 2].set(False)
    small = compact(apply, variables, masks, numbers((2, 6, 6, 1)))
    # What enters b is known, 1/2 but for channel 0; its output 2 is constant, and c pads it.
    assert small.variables["b"].shape == (2, 2, 1, 3)


def test_an_entirely_dead_branch_is_removed():
    def apply(v, x):
        return x + jnp.tanh(x @ v["up"]) @ v["down"]

    variables = {"up": numbers((3, 4)), "down": numbers((4, 3))}
    masks = {"up": jnp.zeros((3, 4), bool), "down": None}
    small = compact(apply, variables, masks, numbers((2, 3)))
    assert small.variables["up"].shape == (3, 0) and small.variables["down"].shape == (0, 3)
    same(jax.jit(small.apply)(small.variables, numbers((2, 3))), numbers((2, 3)))


@pytest.mark.parametrize("dead", [{"gain"}, {"gain", "hidden"}, {"gain", "hidden", "w"}])
@pytest.mark.parametrize(
    "unread",
    [
        lambda hidden: hidden.max(1, keepdims=True),
        lambda hidden: jax.nn.logsumexp(hidden, 1, keepdims=True),
        lambda hidden: 1 / hidden.sum(1, keepdims=True),
    ],
)
def test_what_nobody_reads_may_lose_all_its_channels(unread, dead):
    """It would be infinite, and that times 0 is no number."""

    def apply(v, x):
        one, other = unread(jnp.cos(x @ v["hidden"])), jnp.square(x @ v["w"]).max(1, keepdims=True)
        return x @ v["out"] + v["gain"] * one + v["gain"] * other + v["gain"] / one

    shapes = {"hidden": (3, 4), "w": (3, 4), "gain": (2,), "out": (3, 2)}
    variables = {name: numbers(shape) for name, shape in shapes.items()}
    masks = {name: jnp.full(shapes[name], name not in dead) for name in shapes}
    small = compact(apply, variables, masks, numbers((2, 3)))
    assert small.variables["hidden"].shape == small.variables["w"].shape == (3, 0)
    x = numbers((5, 3), 1)
    same(small.apply(small.variables, x), x @ variables["out"])


def test_a_layer_of_constants_goes_with_the_constants_that_it_reads():
    def apply(v, x):
        hidden = jnp.cos(x @ v["a"])
        return jnp.cos(hidden @ v["b"]) @ v["c"] + hidden @ v["d"]

    shapes = {"a": (3, 4), "b": (4, 5), "c": (5, 2), "d": (4, 2)}
    variables = {name: numbers(shape) for name, shape in shapes.items()}
    constant = jnp.arange(4) < 2
    masks = {"a": jnp.tile(~constant, (3, 1)), "b": jnp.tile(constant[:, None], (1, 5))}
    small = compact(apply, variables, masks, numbers((2, 3)))
    shapes = {name: leaf.shape for name, leaf in small.variables.items()}
    assert shapes == {"a": (3, 2), "b": (2, 0), "c": (0, 2), "d": (2, 2)}
    masked = variables | {name: variables[name] * mask for name, mask in masks.items()}
    x = numbers((5, 3), 1)
    same(small.apply(small.variables, x), apply(masked, x))


@pytest.mark.parametrize("half", [slice(0, 4), slice(4, 8)])
def test_half_of_a_split_may_be_dead(half):
    def apply(v, x):
        one, other = jnp.split(jnp.tanh(x @ v["a"]), 2, -1)
        return jnp.concatenate([other, one], -1) @ v["b"]

    variables = {"a": numbers((3, 8)), "b": numbers((8, 2), 1)}
    masks = {"a": np.ones((3, 8), bool), "b": None}
    masks["a"][:, half] = False
    x = numbers((2, 3), 2)
    small = compact(apply, variables, masks, x)
    assert small.variables["a"].shape == (3, 4)
    masked = variables | {"a": variables["a"] * masks["a"]}
    same(small.apply(small.variables, x), apply(masked, x))


def test_what_is_not_understood_is_kept_whole_and_named():
    def apply(v, x):
        return jnp.sort(x @ v["a"], 1) @ v["b"] + lax.while_loop(
            lambda x: jnp.sum(x) < 0, lambda x: x + 1, x @ v["c"]
        )

    variables = {"a": numbers((3, 4)), "b": numbers((4, 2)), "c": numbers((3, 2))}
    masks = {"a": jnp.tile(jnp.arange(4) < 2, (3, 1)), "b": None, "c": None}
    small = compact(apply, variables, masks, numbers((2, 3)))
    assert small.variables["a"].shape == (3, 4)
    whole = {(path, axis): reason for path, axis, reason in small.report.kept_whole}
    assert whole["a", 1] == whole["b", 0] == "sort goes along it"
    assert whole["c", 1] == "while is not understood"
    assert "kept whole: c, axis 1: while is not understood" in str(small.report)


def test_lenet_shrinks_to_the_widths_that_are_left():
    net, x = LeNet(), numbers((2, 32, 32, 1))
    variables = filled(jax.eval_shape(net.init, jax.random.key(0), x))
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), variables["params"])
    for layer, dead in {"conv1": range(12), "conv2": range(3, 10), "dense1": range(50)}.items():
        masks[layer]["kernel"][..., list(dead)] = False
        masks[layer]["bias"][list(dead)] = False
    masks["conv3"]["kernel"][:, :, 20:24] = False  # So that nobody reads 4 more of conv2,
    masks["conv3"]["kernel"][..., 5] = False  # And nothing but its bias enters conv3's channel 5.
    masks["dense1"]["kernel"][:, :, 60:] = False
    small = compact(net.apply, variables, masks, x)
    shapes = {name: layer["kernel"].shape for name, layer in small.variables["params"].items()}
    assert shapes == {
        "conv1": (5, 5, 1, 20),
        "conv2": (5, 5, 20, 21),
        "conv3": (5, 5, 21, 59),
        "dense1": (4, 4, 59, 14),
        "dense2": (14, 10),
    }
    assert small.report.parameters_after == 520 + 10521 + 31034 + 13230 + 150
