"""Counts and efficiencies, against the papers' tables for LeNet-5 on MNIST."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.genetics import layout
from evojax.genetics.census import similarity, sparse_bytes
from evojax.models.lenet import LeNet

ORDER = ("conv1", "conv2", "conv3", "dense1", "dense2")
PARAMS = jax.eval_shape(LeNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
PLAN = layout(PARAMS)


def masks_with(**clusters):
    """LeNet's masks: so many of a layer's kernels live, with one synapse each, no biases."""
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), dict(PARAMS))
    for name, alive in clusters.items():
        kernel = np.zeros(PARAMS[name]["kernel"].shape, bool)
        kernel[(-1,) * (kernel.ndim - 2)].reshape(-1)[:alive] = True
        masks[name] = {"kernel": kernel, "bias": np.zeros(kernel.shape[-1], bool)}
    return masks


def test_the_ancestor_of_the_papers():
    counts = evojax.census(masks_with(), PLAN, ORDER, "dense2")
    assert counts.synapses == 143_978
    assert counts.clusters == 7_200
    assert counts.architectural_efficiency == 1.0
    assert counts.cluster_efficiency == counts.cluster_efficiency_pooled == 1.0
    assert [layer.name for layer in counts.layers] == list(ORDER)
    assert [layer.total_clusters for layer in counts.layers] == [32, 1024, 2048, 4096, 640]
    assert [layer.weights for layer in counts.layers] == [800, 25_600, 51_200, 65_536, 640]
    assert [layer.synapses for layer in counts.layers] == [832, 25_632, 51_264, 65_600, 650]


def test_cluster_efficiencies_of_the_13th_generation():
    masks = masks_with(conv1=9, conv2=79, conv3=232, dense1=304)
    counts = evojax.census(masks, PLAN, ORDER, "dense2")
    ratios = [layer.total_clusters / layer.clusters for layer in counts.layers]
    # Table 2 of Shafiee & Wong 2016 prints the first as 3.6, and 9.71 for the mean, of 3.6 then.
    assert [round(ratio, 2) for ratio in ratios] == [3.56, 12.96, 8.83, 13.47, 1.0]
    assert counts.cluster_efficiency == pytest.approx(9.71, abs=0.01)
    assert round(counts.cluster_efficiency_pooled, 2) == 11.54
    assert counts.clusters == 624
    assert counts.synapses == 624 + 650
    assert counts.architectural_efficiency == pytest.approx(143_978 / 1_274)


def test_layers_come_in_the_order_asked_for():
    masks = masks_with()
    named = evojax.census(masks, PLAN, ("dense2", "conv3"))
    assert [layer.name for layer in named.layers][:2] == ["dense2", "conv3"]
    assert {layer.name for layer in named.layers} == set(ORDER)


def test_without_a_classifier_every_layer_counts():
    counts = evojax.census(masks_with(dense2=64), PLAN, ORDER)
    assert counts.clusters == 7_200 + 64
    assert counts.cluster_efficiency == pytest.approx((4 + 640 / 64) / 5)


def test_kinds_of_clusters():
    masks = masks_with(conv1=9, conv2=79)
    filters = evojax.census(masks, PLAN, ORDER, "dense2", cluster="filter")
    assert [layer.total_clusters for layer in filters.layers] == [32, 32, 64, 64, 10]
    assert [layer.clusters for layer in filters.layers] == [9, 32, 64, 64, 10]
    synapses = evojax.census(masks, PLAN, ORDER, "dense2", cluster="synapse")
    assert all(layer.clusters == layer.weights for layer in synapses.layers)


def test_biases_count_as_synapses():
    masks = masks_with()
    masks["conv1"]["bias"][3:] = False
    counts = evojax.census(masks, PLAN, ORDER, "dense2")
    assert counts.synapses == 143_978 - 29
    assert counts.layers[0].synapses == 803 and counts.layers[0].weights == 800


def test_parameters_that_are_never_pruned_are_left_out():
    params = {"conv": {"kernel": jnp.ones((3, 3, 2, 4))}, "norm": {"scale": jnp.ones(4)}}
    masks = {"conv": {"kernel": np.ones((3, 3, 2, 4), bool)}, "norm": {"scale": None}}
    counts = evojax.census(masks, layout(params))
    assert counts.synapses == 72 and [layer.name for layer in counts.layers] == ["conv"]


def test_a_network_whose_only_layer_is_the_classifier():
    params = {"dense": {"kernel": jnp.ones((8, 4))}}
    masks = {"dense": {"kernel": np.arange(32).reshape(8, 4) < 16}}
    counts = evojax.census(masks, layout(params), outputs="dense")
    assert counts.cluster_efficiency == counts.architectural_efficiency == 2.0


def test_two_kernels_of_one_module_are_two_layers_of_their_own_names():
    params = {
        "cell": {"hi": jnp.ones((3, 4)), "hf": jnp.ones((3, 4))},
        "out": {"w": jnp.ones((4, 2))},
    }
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    counts = evojax.census(masks, layout(params), ("cell/hi", "cell/hf", "out"), "out")
    assert [layer.name for layer in counts.layers] == ["cell/hi", "cell/hf", "out"]
    assert counts.clusters == 24


@pytest.mark.parametrize(
    ("size", "alive", "expected"),
    [
        (100, 0, 0), (100, 3, 12 + 6), (100, 50, 200 + 13), (100, 97, 400), (100, 100, 400),
        (65_536, 1, 4 + 2), (65_537, 1, 4 + 4),
    ],
)  # fmt: skip
def test_bytes_of_living_entries_and_of_where_they_are(size, alive, expected):
    assert sparse_bytes(size, alive) == expected
    entries, places = np.ones(alive, np.float32), np.arange(alive)
    index = places.astype(np.min_scalar_type(max(size - 1, 256)))
    ways = [np.ones(size, np.float32).nbytes] + [
        entries.nbytes + where.nbytes for where in (np.packbits(np.arange(size) < alive), index)
    ]
    assert sparse_bytes(size, alive) == min(ways)


def test_similarity_by_hand():
    plan = layout({"dense": np.ones((2, 2)), "conv": np.ones((3, 3, 1, 2))})

    def network(dense, conv):
        kernels = np.zeros((3, 3, 1, 2), bool)
        kernels[0, 0, 0] = conv
        return {"dense": np.array(dense, bool), "conv": kernels}

    one, other = network([[1, 1], [0, 0]], [1, 0]), network([[1, 0], [1, 0]], [1, 1])
    none = network([[0, 0], [0, 0]], [0, 0])
    # Of kernels 2 of 5; of filters one has dense 0 and 1 and conv 0, the other dense 0, conv 0, 1.
    assert similarity([one, other], plan) == pytest.approx(2 / 5)
    assert similarity([one, other], plan, "filter") == pytest.approx(2 / 4)
    assert similarity([one, other, none], plan) == pytest.approx(2 / 15)
    assert similarity([none, none], plan) == similarity([one], plan) == 1.0
