"""Channels as genetics takes them for clusters are those that compaction cuts out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.genetics.channels import living_channels, spent
from tests.deploy.architectures import ARCHITECTURES

NAMES = (
    "grouped_convolution", "depthwise_separable", "transposed_convolution",
    "batch_norm_without_bias", "pools_and_flatten", "residual_branches", "padded_shortcut",
    "concatenation", "split_and_slice", "shared_parameters", "scanned_blocks", "nnx_network",
)  # fmt: skip
UNPRICED = {"scanned_blocks"}  # Its parameters are stacked, and not multiplied as they stand.


@pytest.mark.parametrize("name", NAMES)
def test_a_draw_costs_what_compaction_leaves(name):
    apply, variables, x = ARCHITECTURES[name]()
    x = x[:1]
    found = evojax.channels(apply, variables, x)
    inner = isinstance(variables, dict) and "params" in variables
    params = variables["params"] if inner else variables
    evolve = evojax.synthesis(
        evojax.cluster_driven(cluster="channel"), evojax.budget(parameters=0.6), channels=found
    )
    masks = evolve.offspring(jax.random.key(1), params, evolve.ancestor(params))
    alive = living_channels(masks, evolve.layout(params), found)
    assert 0 < int(alive.sum()) < found.number
    small = evojax.compact(apply, variables, masks, x)
    after = {v.path.removeprefix("params/"): v.after for v in small.report.variables}
    left = sum(int(np.prod(after[path])) for path in found.axes)
    assert left == float(spent(alive, found, "parameters"))
    if name not in UNPRICED:
        macs = evojax.cost(small.apply, small.variables, x).macs
        assert macs == float(spent(alive, found, "macs"))


def test_latency_is_measured_where_weights_are_multiplied():
    apply, variables, x = ARCHITECTURES["strided_convolutions"]()
    found = evojax.channels(apply, variables, x, latency=True)
    assert found.prices["latency"].keys() == found.prices["macs"].keys()
    assert all(0 < seconds < 1 for seconds in found.prices["latency"].values())
    evolve = evojax.synthesis(
        evojax.cluster_driven(cluster="channel"), evojax.budget(latency=0.5), channels=found
    )
    params = variables["params"]
    masks = evolve.ancestor(params)
    plan = evolve.layout(params)
    before, after = (
        float(spent(living_channels(each, plan, found), found, "latency"))
        for each in (masks, evolve.offspring(jax.random.key(0), params, masks))
    )
    assert 0 < after <= 0.5 * before * (1 + 1e-6)


def test_a_network_without_channels_is_refused():
    with pytest.raises(ValueError, match="no channel of this network can be cut out"):
        evojax.channels(lambda v, x: x @ v["w"], {"w": jnp.ones((3, 4))}, jnp.ones((1, 3)))


def test_an_input_that_the_function_rejects_is_named():
    with pytest.raises(ValueError, match="apply rejects"):
        evojax.channels(lambda v, x: x @ v["w"], {"w": jnp.ones((3, 4))}, jnp.ones((1, 5)))
