"""Costs counted by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from evojax.deploy import compact, cost
from evojax.evolution.lineage import entry
from evojax.genetics import census, layout
from evojax.learning import linen
from evojax.models import LeNet


def dense(variables, x):
    return (
        jnp.maximum(x @ variables["hidden"]["kernel"] + variables["hidden"]["bias"], 0)
        @ (variables["out"]["kernel"])
    )


DENSE = {
    "hidden": {"kernel": jnp.ones((3, 8)), "bias": jnp.ones(8)},
    "out": {"kernel": jnp.ones((8, 2))},
}


def convolved(x, kernel, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)


def macs_of(function, kernel, x, mask=None):
    found = cost(
        lambda variables, x: function(x, variables["kernel"]), {"kernel": kernel}, x,
        None if mask is None else {"kernel": mask},
    )  # fmt: skip
    assert found.macs == sum(product.macs for product in found.products)
    return found.macs


def test_two_dense_layers_by_hand():
    found = cost(dense, DENSE, jnp.ones((5, 3)))
    assert [tuple(product) for product in found.products] == [
        ("hidden/kernel", 5 * 24), ("out/kernel", 5 * 16),
    ]  # fmt: skip
    assert (found.parameters, found.macs) == (24 + 8 + 16, 5 * 40)
    assert found.bytes_dense == found.bytes_sparse == 4 * 48
    # The input, hidden values once (bias and relu in place), the output.
    assert found.activation_bytes == 4 * 5 * (3 + 8 + 2)
    assert found.peak_activation_bytes == 4 * 5 * (3 + 8)


def test_masks_are_followed_to_where_weights_are_multiplied():
    mask = jnp.zeros((8, 3), bool).at[0].set(True)

    def turned(variables, x):
        kernel = jax.jit(lambda kernel: kernel.T.reshape(3, 2, 4))(variables["kernel"])
        return jnp.einsum("bi,ijk->bjk", x, kernel.astype(jnp.bfloat16))

    x = jnp.ones((7, 3), jnp.bfloat16)
    found = cost(turned, {"kernel": jnp.ones((8, 3))}, x, {"kernel": mask})
    assert (found.parameters, found.macs) == (3, 7 * 3)
    assert found.products[0].path == "kernel"
    # 3 values and a bitmask of 24 entries; as many indices of 2 bytes would take 6.
    assert (found.bytes_dense, found.bytes_sparse) == (96, 12 + 3)


def test_convolutions_by_hand():
    image = jnp.ones((2, 8, 8, 3))
    kernel = jnp.ones((3, 3, 3, 4))
    assert macs_of(convolved, kernel, image) == 2 * 64 * 108
    assert macs_of(lambda x, k: convolved(x, k, padding="VALID"), kernel, image) == 2 * 36 * 108
    halved = lambda x, k: convolved(x, k, window_strides=(2, 2))  # noqa: E731
    assert macs_of(halved, kernel, image) == 2 * 16 * 108
    mask = jnp.zeros(kernel.shape, bool).at[1, 1].set(True)
    assert macs_of(halved, kernel, image, mask) == 2 * 16 * 12


def test_groups_by_hand():
    depthwise = lambda x, k: convolved(x, k, feature_group_count=3)  # noqa: E731
    assert macs_of(depthwise, jnp.ones((3, 3, 1, 6)), jnp.ones((2, 8, 8, 3))) == 2 * 64 * 54


def test_a_transposed_convolution_multiplies_no_zeros():
    transposed = lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME")  # noqa: E731
    assert macs_of(transposed, jnp.ones((2, 2, 3, 4)), jnp.ones((2, 8, 8, 3))) == 2 * 64 * 48


def test_two_signals_are_multiplied_too():
    def attention(variables, x):
        query = x @ variables["query"]
        return jax.nn.softmax(query @ x.swapaxes(1, 2)) @ x

    found = cost(attention, {"query": jnp.ones((4, 4))}, jnp.ones((2, 6, 4)))
    assert [product.path for product in found.products] == ["query", None, None]
    assert found.macs == 2 * (6 * 16 + 2 * 6 * 6 * 4)


@pytest.mark.parametrize("length", [3, 1000])
def test_scans_count_every_step(length):
    def steps(variables, x):
        return lax.scan(lambda x, _: (x @ variables["kernel"], None), x, length=length)[0]

    found = cost(steps, {"kernel": jnp.ones((4, 4))}, jnp.ones((2, 4)))
    assert (found.macs, found.uncounted) == (length * 2 * 16, ())


def test_what_cannot_be_counted_is_named():
    def forever(variables, x):
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ variables["kernel"], x)

    found = cost(forever, {"kernel": jnp.ones((4, 4))}, jnp.ones((2, 4)))
    assert (found.macs, found.uncounted) == (0, ("while",))


def test_batch_statistics_are_no_parameters():
    module = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=True)])
    variables = module.init(jax.random.key(0), jnp.ones((1, 3)))
    found = cost(module.apply, variables, jnp.ones((1, 3)))
    assert (found.parameters, found.bytes_dense) == (3 * 4 + 4 + 8, 4 * (3 * 4 + 4 + 8 + 8))


def test_collections_of_like_names_are_no_parameters():
    def apply(variables, x):
        return x @ variables["params"]["w"] + x @ variables["params_average"]["w"]

    variables = {name: {"w": jnp.ones((3, 2))} for name in ("params", "params_average")}
    assert cost(apply, variables, jnp.ones((1, 3))).parameters == 6


def test_lenet_as_the_lineage_counts_it():
    shape = (32, 32, 1)
    model, module = linen(LeNet(10)), LeNet(10)
    params, _ = model.init(jax.random.key(0), shape)
    random = np.random.default_rng(0)
    masks = jax.tree.map(lambda p: random.random(p.shape) < (0.3 if p.ndim > 1 else 2), params)
    layers = model.layers(shape)
    counts = census(masks, layout(params), [layer.name for layer in layers], outputs="dense2")
    record = entry(1, counts, layers)
    image = jnp.ones((1, *shape))
    found = cost(module.apply, {"params": params}, image, masks)
    assert (found.parameters, found.macs) == (record["synapses"], record["macs"])
    assert cost(module.apply, {"params": params}, image).parameters == 143_978


def test_what_is_compacted_costs_less():
    mask = {"hidden": {"kernel": jnp.ones((3, 8), bool).at[:, 5:].set(False), "bias": None}}
    mask["hidden"]["bias"] = jnp.arange(8) < 5
    x = jnp.ones((1, 3))
    small = compact(dense, DENSE, mask, x)
    found = cost(small.apply, small.variables, x)
    assert (found.parameters, found.macs) == (15 + 5 + 10, 15 + 10)
    assert found.macs == cost(dense, DENSE, x, mask).macs - 3 * 2  # Readers of what is gone.


def test_masks_of_another_network_are_refused():
    with pytest.raises(ValueError, match="masks are of another network"):
        cost(dense, DENSE, jnp.ones((1, 3)), {"hidden": {"kernel": jnp.ones((3, 9), bool)}})


DEAD = jnp.ones((4, 6), bool).at[:, :3].set(False)


@pytest.mark.parametrize(
    ("used", "macs"),
    [
        (lambda w: w[:, :3], 0),
        (lambda w: w[:, 2:], 12),
        (lambda w: w * 2, 12),
        (lambda w: jnp.concatenate([w, w], 1), 24),
        (lambda w: w[::-1], 12),
        (lambda w: w + 1, 24),  # What was 0 is not any more.
    ],
)
def test_pruned_weights_cost_nothing_wherever_they_are_put(used, macs):
    found = cost(
        lambda v, x: x @ used(v["w"]), {"w": jnp.ones((4, 6))}, jnp.ones((1, 4)), {"w": DEAD}
    )
    assert found.macs == macs


def test_a_signal_that_is_scaled_is_no_weight():
    def apply(variables, x):
        queries, keys = x @ variables["q"] * variables["scale"], x @ variables["k"]
        return queries @ keys.T

    variables = {"q": jnp.ones((3, 4)), "k": jnp.ones((3, 4)), "scale": jnp.ones((2, 4))}
    masks = {"q": None, "k": None, "scale": jnp.zeros((2, 4), bool)}
    found = cost(apply, variables, jnp.ones((2, 3)), masks)
    assert [tuple(product) for product in found.products] == [("q", 24), ("k", 24), (None, 16)]


def test_scanned_weights_are_told_apart_step_by_step():
    def apply(variables, x):
        return lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, variables["w"])[0]

    mask = jnp.ones((3, 4, 4), bool).at[1, 0].set(False)
    found = cost(apply, {"w": jnp.ones((3, 4, 4))}, jnp.ones((2, 4)), {"w": mask})
    assert found.macs_by_path == {"w": 2 * (16 + 12 + 16)}


def test_products_of_other_kinds_are_named():
    def apply(variables, x):
        return lax.ragged_dot(x, variables["w"], jnp.array([2, 1]))

    assert cost(apply, {"w": jnp.ones((2, 4, 5))}, jnp.ones((3, 4))).uncounted
