"""Lineages whose clusters are channels, and whose budget is one of cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.evolution import Settings, checkpoints, evolve
from evojax.learning import Recipe
from tests.evolution.test_generations import timeless

FAST = {
    "epochs": (1,), "max_drop": 100.0, "cluster": "channel", "currency": "macs",
    "synapses": 1.0, "recipe": Recipe(batch_size=32),
}  # fmt: skip


@pytest.mark.parametrize("network", ["tiny", "normalised"])
def test_what_a_generation_costs_is_what_compaction_leaves(network, request, dataset, tmp_path):
    model = request.getfixturevalue(network)
    settings = Settings(generations=3, clusters=0.6, **FAST)
    lineage = evolve(settings, model, dataset, tmp_path)
    macs = [record["compacted_macs"] for record in lineage["generations"]]
    for before, after in zip(macs, macs[1:], strict=False):
        assert 0 < after <= 0.6 * before + 1
    last = checkpoints.restore(tmp_path, 3)
    variables = {"params": last.params, "batch_stats": last.batch_stats}

    def apply(variables, x):
        return model.forward(variables["params"], variables["batch_stats"], x, False)[0]

    x = jnp.zeros((1, *dataset.train.images.shape[1:]))
    small = evojax.compact(apply, variables, last.masks, x)
    counted = evojax.cost(small.apply, small.variables, x)
    record = lineage["generations"][-1]
    assert counted.macs == record["compacted_macs"]
    assert counted.parameters == record["compacted_parameters"]
    widths = [leaf.shape[-1] for leaf in jax.tree.leaves(small.variables["params"])]
    assert min(widths) >= 1 and record["channels"] < lineage["generations"][0]["channels"]


def test_sizes_are_in_the_currency(tiny, dataset, tmp_path):
    settings = Settings(generations=3, sizes=(1.5, 3.0), **FAST)
    lineage = evolve(settings, tiny, dataset, tmp_path)
    macs = np.array([record["compacted_macs"] for record in lineage["generations"]])
    assert np.all(macs[0] / macs[1:] >= settings.sizes)
    assert np.all(macs[0] / macs[1:] < 2 * np.array(settings.sizes))  # A channel is not split.


def test_clusters_may_nest_and_a_lineage_goes_on(tiny, dataset, tmp_path):
    nested = FAST | {"cluster": ("channel", "kernel"), "synapses": 0.9}
    whole = evolve(Settings(generations=3, clusters=0.8, **nested), tiny, dataset, tmp_path / "a")
    assert [len(r["cluster_factor"]) for r in whole["generations"][1:]] == [2, 2]
    evolve(Settings(generations=2, clusters=0.8, **nested), tiny, dataset, tmp_path / "b")
    again = evolve(Settings(generations=3, clusters=0.8, **nested), tiny, dataset, tmp_path / "b")
    assert timeless(whole) == timeless(again)


def test_channels_may_be_drawn_at_random(tiny, dataset, tmp_path):
    settings = Settings(generations=2, clusters=0.5, encoding="random", **FAST)
    first, second = evolve(settings, tiny, dataset, tmp_path)["generations"]
    assert second["compacted_macs"] <= 0.5 * first["compacted_macs"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cluster": "kernel"}, "a budget of macs needs channels for clusters.*got kernel"),
        ({"encoding": "magnitude"}, "cluster must be without channel where the encoding is magn"),
        ({"encoding": "synapse_driven"}, "cluster must be without channel where the encoding is s"),
        ({"currency": "joules"}, "currency must be synapses, or macs or parameters"),
        ({"environment": "constant"}, "currency must be .* in a budget environment; got 'macs'"),
        ({"cluster": ("kernel", "channel")}, "several of them in this order"),
    ],
)
def test_settings_that_do_not_go_together_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**FAST | wrong)
