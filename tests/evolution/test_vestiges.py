"""Synapses that no signal reaches or leaves: hand-made networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.evolution.vestiges import sweeper
from evojax.genetics import budget, cluster_driven, following, synthesis
from evojax.learning import Network, apply_masks, linen
from evojax.models import ResNet

SHAPE = (6, 6, 1)
SYNTHESIS = synthesis(cluster_driven(), budget(clusters=0.8, synapses=0.8))


class Chain(nn.Module):
    """Two convolutions of three channels each and a classifier of two classes."""

    norm: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3), name="a")(x))
        x = nn.Conv(3, (3, 3), name="b")(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        return nn.Dense(2, name="c")(x.mean((1, 2)))


def a_network(module, seed=0):
    """Random weights and biases, all alive."""
    model = linen(module)
    params, batch_stats = model.init(jax.random.key(seed), SHAPE)
    random = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), params)
    masks = jax.tree.map(np.array, SYNTHESIS.ancestor(params))
    return model, Network(params, batch_stats, masks)


def prune(network, **entries):
    """Kills entries of kernels, and the biases of channels that nothing enters any more."""
    for layer, index in entries.items():
        mask = network.masks[layer]["kernel"]
        mask[index] = False
        network.masks[layer]["bias"][:] = mask.any(tuple(range(mask.ndim - 1)))
    return network._replace(params=apply_masks(network.params, network.masks))


def sweep(model, network):
    plan = SYNTHESIS.layout(network.params)
    return jax.tree.map(np.asarray, sweeper(model, plan, SHAPE)(network))


def outputs(model, network):
    images = jax.random.normal(jax.random.key(1), (5, *SHAPE))
    params = apply_masks(network.params, network.masks)
    return model.forward(params, network.batch_stats, images, False)[0]


def alive(masks):
    return {
        layer: masks[layer]["kernel"].any(tuple(range(masks[layer]["kernel"].ndim - 2))).tolist()
        for layer in "abc"
    }


ALL = {"a": [[True] * 3], "b": [[True] * 3] * 3, "c": [[True] * 2] * 3}


@pytest.mark.parametrize("norm", [False, True])
def test_a_fully_connected_network_keeps_every_synapse(norm):
    model, network = a_network(Chain(norm))
    swept = sweep(model, network)
    jax.tree.map(np.testing.assert_array_equal, swept, network.masks)
    if norm:
        assert swept["norm"] == {"scale": None, "bias": None}


def test_a_channel_that_nothing_reads_dies_and_its_bias_with_it():
    model, network = a_network(Chain())
    network = prune(network, b=np.s_[:, :, 1, :])  # Nothing reads a's channel 1.
    swept = sweep(model, network)
    assert alive(swept) == ALL | {
        "a": [[True, False, True]],
        "b": [[True] * 3, [False] * 3, [True] * 3],
    }
    assert swept["a"]["bias"].tolist() == [True, False, True]
    np.testing.assert_array_equal(
        outputs(model, network), outputs(model, network._replace(masks=swept))
    )


def test_synapses_that_read_a_channel_without_inputs_die():
    model, network = a_network(Chain())
    network = prune(network, a=np.s_[..., 2])  # Its bias dies too, so that its output is 0.
    swept = sweep(model, network)
    assert alive(swept) == ALL | {
        "a": [[True, True, False]],
        "b": [[True] * 3, [True] * 3, [False] * 3],
    }
    np.testing.assert_allclose(
        outputs(model, network), outputs(model, network._replace(masks=swept)), rtol=1e-5
    )


def test_death_goes_on_along_a_chain():
    model, network = a_network(Chain())
    # Class outputs ignore b's channel 0, which alone reads a's channel 0.
    network = prune(network, c=np.s_[0, :], b=np.s_[:, :, 0, 1:])
    swept = sweep(model, network)
    assert alive(swept) == {
        "a": [[False, True, True]],
        "b": [[False] * 3, [False, True, True], [False, True, True]],
        "c": [[False] * 2, [True] * 2, [True] * 2],
    }
    np.testing.assert_allclose(
        outputs(model, network), outputs(model, network._replace(masks=swept)), rtol=1e-5
    )


def test_it_looks_within_kernels():
    model, network = a_network(Chain())
    network = prune(network, a=np.s_[0, :, 0, 1])
    with jax.numpy_dtype_promotion("strict"):
        swept = sweep(model, network)
    jax.tree.map(np.testing.assert_array_equal, swept, network.masks)


def test_a_bias_behind_which_no_input_is_left_is_a_constant_that_is_lost():
    """What sweeping changes: a living channel that reads only dead ones has an output, its bias."""
    model, network = a_network(Chain())
    network = prune(network, a=np.s_[..., 2], b=np.s_[:, :, :2, 0])  # b0 reads a2 alone.
    network.params["b"]["bias"] = network.params["b"]["bias"].at[0].set(2.0)
    swept = sweep(model, network)
    assert swept["b"]["bias"].tolist() == [False, True, True]
    assert not swept["c"]["kernel"][0].any()
    lost = outputs(model, network) - outputs(model, network._replace(masks=swept))
    np.testing.assert_allclose(
        lost, jnp.broadcast_to(2.0 * network.params["c"]["kernel"][0], lost.shape), rtol=1e-4
    )


def test_a_disconnected_network_stays_as_it_is():
    model, network = a_network(Chain())
    network = prune(network, b=np.s_[...])
    jax.tree.map(np.testing.assert_array_equal, sweep(model, network), network.masks)


@pytest.mark.parametrize("size", [4, 6, 9])
def test_a_maximum_may_come_from_every_place(size):
    """An image of ones has every maximum in the same place, which hid some taps of the kernel."""

    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.max_pool(nn.Conv(2, (5, 5), name="a")(x), (3, 3), (2, 2))
            return nn.Dense(3, name="c")(x.reshape(len(x), -1))

    model = linen(Pooled())
    params, _ = model.init(jax.random.key(0), (size, size, 1))
    masks = SYNTHESIS.ancestor(params)
    swept = sweeper(model, SYNTHESIS.layout(params), (size, size, 1))(Network(params, {}, masks))
    assert all(bool(leaf.all()) for leaf in jax.tree.leaves(swept))


def test_taps_that_only_ever_see_padding_are_swept():
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(2, (3, 3), name="a")(nn.avg_pool(x, (6, 6), (6, 6))))
            return nn.Dense(2, name="c")(x.reshape(len(x), -1))

    model, network = a_network(Deep())
    swept = sweep(model, network)
    assert swept["a"]["kernel"].sum((2, 3)).tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert swept["c"]["kernel"].all()
    np.testing.assert_array_equal(
        outputs(model, network), outputs(model, network._replace(masks=swept))
    )


def test_a_model_whose_signals_it_cannot_follow_is_refused():
    class Layered(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm()(nn.Conv(4, (3, 3), name="a")(x))
            return nn.Dense(2, name="c")(x.mean((1, 2)))

    model, network = a_network(Layered())
    with pytest.raises(ValueError, match="sweep cannot follow signals through this model"):
        sweeper(model, SYNTHESIS.layout(network.params), SHAPE)


def test_weights_do_not_matter_and_nothing_compiles_again(compilations):
    model, network = a_network(Chain())
    run = sweeper(model, SYNTHESIS.layout(network.params), SHAPE)
    zero = network._replace(params=jax.tree.map(jnp.zeros_like, network.params))
    assert all(leaf.all() for leaf in jax.tree.leaves(run(zero)))
    _, other = a_network(Chain(), seed=1)
    other = jax.tree.map(jnp.asarray, prune(other, a=np.s_[..., 2]))
    with compilations() as count:
        swept = run(other)
    assert count() == 0
    assert not swept["b"]["kernel"][:, :, 2].any()


def test_a_factor_of_another_name_stops_the_signal_and_is_refused():
    class Gamma(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(3, (3, 3), name="conv")(x)
            x = x * self.param("gamma", nn.initializers.ones, (3,))
            return nn.Dense(2, name="dense")(x.mean((1, 2)))

    model = linen(Gamma())
    plan = SYNTHESIS.layout(model.init(jax.random.key(0), SHAPE)[0])
    with pytest.raises(ValueError, match="a factor that is not named scale"):
        sweeper(model, plan, SHAPE)


def test_a_dead_branch_of_a_residual_network_is_swept_with_its_normalisation():
    model = linen(ResNet(blocks=1))
    params, stats = model.init(jax.random.key(0), (8, 8, 3))
    evolve = synthesis(
        cluster_driven(), budget(clusters=0.8, synapses=0.8), following(model.norms((8, 8, 3)))
    )
    masks = jax.tree.map(np.array, evolve.ancestor(params))
    first, second = (masks["stage1_block1"][name]["kernel"] for name in ("conv1", "conv2"))
    first[:], second[:] = False, False
    first[:, :, 0, 1] = True  # Into channel 1,
    second[:, :, 2, 3] = True  # but out of channel 2: no signal passes.
    plan = evolve.layout(params)
    swept = sweeper(model, plan, (8, 8, 3))(Network(params, stats, masks))
    block = jax.tree.map(np.asarray, swept["stage1_block1"])
    assert not any(leaf.any() for leaf in jax.tree.leaves(block))
    others = {name: tree for name, tree in swept.items() if name != "stage1_block1"}
    assert all(np.asarray(leaf).all() for leaf in jax.tree.leaves(others))
