"""Channels as clusters, clusters that nest, and budgets of cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.genetics.channels import living_channels, spent

KEY = jax.random.key(0)


def apply(variables, x):
    """Two convolutions, one of them on a residual path, and a dense layer behind a flatten."""

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x = jax.nn.relu(conv(x, variables["stem"]["kernel"]) + variables["stem"]["bias"])
    x = jax.nn.relu(x + conv(x, variables["block"]["kernel"]) + variables["block"]["bias"])
    x = x[:, ::2, ::2].reshape(len(x), -1)
    x = jax.nn.relu(x @ variables["dense"]["kernel"] + variables["dense"]["bias"])
    return x @ variables["out"]["kernel"]


def array(*shape, seed=0):
    return jnp.array(np.random.default_rng(seed).normal(size=shape), jnp.float32)


PARAMS = {
    "stem": {"kernel": array(3, 3, 2, 8), "bias": array(8)},
    "block": {"kernel": array(3, 3, 8, 8, seed=1), "bias": array(8)},
    "dense": {"kernel": array(32, 12, seed=2), "bias": array(12)},
    "out": {"kernel": array(12, 3, seed=3)},
}
X = array(1, 4, 4, 2, seed=4)
CHANNELS = evojax.channels(apply, PARAMS, X)


# Of the same shares, keys and clusters several tests draw by the same program, compiled once.
HALF = evojax.budget(macs=0.5)
KEYS = jax.random.split(KEY, 256)


def evolving(environment, cluster="channel", pressure=3.0):
    encoding = evojax.cluster_driven(pressure, cluster=cluster)
    return evojax.synthesis(encoding, environment, channels=CHANNELS)


def alive_in(evolve, masks):
    return np.asarray(living_channels(masks, evolve.layout(PARAMS), CHANNELS))


def test_families_are_the_outputs_that_are_added():
    sizes = {name: len(members) for name, members in CHANNELS.families.items()}
    assert sizes == {"block/kernel": 8, "dense/kernel": 12}
    assert CHANNELS.number == 20


def by_hand(params, masks, pressure):
    """Probabilities of channels: the mean share of what enters and leaves, by NumPy."""
    truncated = {}
    for layer, leaves in params.items():
        weights, mask = (np.asarray(tree["kernel"], np.float64) for tree in (leaves, masks[layer]))
        strength = np.abs(weights) * mask
        strength[strength < 0.05 * strength.max()] = 0
        truncated[layer] = strength
    stem, block = truncated["stem"].sum((0, 1, 2)), truncated["block"].sum((0, 1, 2))
    read = truncated["block"].sum((0, 1, 3))
    flat = truncated["dense"].sum(1).reshape(4, 8).sum(0)
    residual = np.mean([each / each.max() for each in (stem, block, read, flat)], axis=0)
    entering, leaving = truncated["dense"].sum(0), truncated["out"].sum(1)
    hidden = np.mean([entering / entering.max(), leaving / leaving.max()], axis=0)
    return [np.exp(pressure * (each / each.max() - 1)) for each in (residual, hidden)]


def test_probabilities_are_those_worked_out_by_numpy():
    evolve = evolving(evojax.budget(total=0.5))
    masks = evolve.ancestor(PARAMS)
    masks["block"]["kernel"] = masks["block"]["kernel"].at[0].set(False)
    found = np.asarray(evolve.dna(PARAMS, masks).channels)
    for name, expected in zip(CHANNELS.families, by_hand(PARAMS, masks, 3.0), strict=True):
        np.testing.assert_allclose(found[CHANNELS.families[name]], expected, rtol=1e-5)


def test_a_channel_dies_with_all_that_enters_or_leaves_it():
    evolve = evolving(HALF)
    masks = evolve.offspring(KEY, PARAMS, evolve.ancestor(PARAMS))
    residual, hidden = (
        alive_in(evolve, masks)[CHANNELS.families[name]] for name in CHANNELS.families
    )
    assert 0 < residual.sum() < 8 and 0 < hidden.sum() < 12
    np.testing.assert_array_equal(masks["stem"]["bias"], residual)
    np.testing.assert_array_equal(masks["dense"]["bias"], hidden)
    whole = np.ones((3, 3, 1, 1), bool)
    np.testing.assert_array_equal(
        masks["block"]["kernel"], whole & residual[:, None] & residual[None]
    )
    np.testing.assert_array_equal(
        masks["dense"]["kernel"], np.tile(residual, 4)[:, None] & hidden[None]
    )


@pytest.mark.parametrize("currency", ["macs", "parameters"])
def test_no_offspring_costs_more_than_its_share_and_most_cost_about_that(currency):
    evolve = evolving(evojax.budget(**{currency: 0.6}))
    masks = evolve.ancestor(PARAMS)
    plan = evolve.layout(PARAMS)

    def cost(masks):
        return spent(living_channels(masks, plan, CHANNELS), CHANNELS, currency)

    before = float(cost(masks))
    draws = jax.vmap(evolve.draw, in_axes=(0, None, None))(KEYS, PARAMS, masks).masks
    costs = np.asarray(jax.vmap(cost)(draws))
    assert np.max(costs) <= 0.6 * before
    assert np.mean(costs) > 0.45 * before  # Of twenty channels none can be split.


def test_what_is_spent_is_what_compaction_leaves():
    evolve = evolving(HALF)
    masks = evolve.offspring(KEY, PARAMS, evolve.ancestor(PARAMS))
    alive = alive_in(evolve, masks)
    small = evojax.compact(apply, PARAMS, masks, X)
    counted = evojax.cost(small.apply, small.variables, X)
    assert counted.macs == float(spent(jnp.array(alive), CHANNELS, "macs"))
    assert counted.parameters == float(spent(jnp.array(alive), CHANNELS, "parameters"))


def test_channels_live_as_often_as_their_probability_says():
    evolve = evolving(evojax.constant(0.7, 1.0), pressure=1.0)
    masks = evolve.ancestor(PARAMS)
    number = 4096
    draws = jax.vmap(evolve.offspring, in_axes=(0, None, None))(
        jax.random.split(KEY, number), PARAMS, masks
    )
    # Synapses have a factor of their own, so a channel is told by whether all its places are dead.
    lived = np.asarray(draws["dense"]["bias"]).mean(0)
    expected = (
        0.7 * np.asarray(evolve.dna(PARAMS, masks).channels)[CHANNELS.families["dense/kernel"]]
    )
    bound = 5 * np.sqrt(expected * (1 - expected) / number)
    assert np.all(np.abs(lived - expected) < bound + 1e-3)


def test_every_family_keeps_its_last_channels():
    evolve = evolving(evojax.budget(macs=1e-4, min_clusters=2))
    masks = evolve.ancestor(PARAMS)
    for seed in range(8):
        alive = alive_in(evolve, evolve.offspring(jax.random.key(seed), PARAMS, masks))
        for members in CHANNELS.families.values():
            assert alive[members].sum() == 2


def test_what_the_cap_and_the_floor_did_is_recorded():
    draws = {}
    for share in (0.6, 1e-4):
        evolve = evolving(evojax.budget(macs=share))
        masks = evolve.ancestor(PARAMS)
        draws[share] = jax.vmap(evolve.draw, in_axes=(0, None, None))(KEYS, PARAMS, masks)
    assert 32 < draws[0.6].capped.sum() < 224
    assert np.all(draws[1e-4].rescued >= len(CHANNELS.families))


def test_a_channel_fed_by_dead_channels_is_dead():
    evolve = evolving(evojax.budget(macs=0.8))
    masks = jax.tree.map(np.array, evolve.ancestor(PARAMS))
    masks["dense"]["kernel"][:, 1:] = masks["dense"]["kernel"][8:] = False  # By channels 0 to 7,
    masks["dense"]["kernel"][3, 1] = True  # and one by channel 3 alone,
    for name in ("stem", "block"):
        masks[name]["kernel"][..., 3] = False  # which nothing enters.
    alive = alive_in(evolve, masks)
    dense, stem = CHANNELS.families["dense/kernel"], CHANNELS.families["block/kernel"]
    assert alive[dense].tolist() == [True] + [False] * 11
    assert alive[stem].tolist() == [number != 3 for number in range(8)]


@pytest.mark.parametrize("cluster", ["channel", ("channel", "kernel")])
def test_no_layer_dies_for_want_of_a_synapse_between_living_channels(cluster):
    evolve = evolving(evojax.budget(macs=0.3), cluster)
    masks = jax.tree.map(jnp.asarray, evolve.ancestor(PARAMS))
    masks["block"]["kernel"] &= jnp.eye(8, dtype=bool)
    masks["dense"]["kernel"] &= jnp.arange(32)[:, None] % 12 == jnp.arange(12)
    params = evojax.apply_masks(PARAMS, masks)
    draws = jax.vmap(evolve.draw, in_axes=(0, None, None))(jax.random.split(KEY, 64), params, masks)
    for layer, leaves in draws.masks.items():
        assert np.all(leaves["kernel"].reshape(64, -1).any(1)), layer
    assert 0 < np.sum(draws.rescued > 0) < 64


def test_shares_within_living_channels_are_left():
    within = evojax.budget(macs=0.7, clusters=0.8, synapses=0.9)
    evolve = evolving(within, cluster=("channel", "kernel"))
    draw = evolve.draw(KEY, PARAMS, evolve.ancestor(PARAMS))
    assert draw.cluster_factor.shape == (2,)
    alive = jnp.array(alive_in(evolve, draw.masks))
    left = sum(int(mask.sum()) for mask in jax.tree.leaves(draw.masks))
    assert left <= 0.72 * float(spent(alive, CHANNELS, "parameters"))
    assert left > 0.6 * float(spent(alive, CHANNELS, "parameters"))


def test_a_budget_of_synapses_holds_for_nested_clusters():
    kinds = ("channel", "filter", "kernel")
    evolve = evolving(evojax.budget((0.9, 0.9, 0.9), 0.9), cluster=kinds)
    masks = evolve.ancestor(PARAMS)
    size = sum(leaf.size for leaf in jax.tree.leaves(masks))
    for seed in range(16):
        draw = evolve.draw(jax.random.key(seed), PARAMS, masks)
        assert draw.cluster_factor.shape == (3,)
        assert sum(int(m.sum()) for m in jax.tree.leaves(draw.masks)) <= 0.9**4 * size


def test_nested_clusters_have_a_factor_each():
    params = {"conv": {"kernel": array(3, 3, 4, 6)}}
    both = evojax.synthesis(
        evojax.cluster_driven(2.0, cluster=("filter", "kernel")), evojax.constant((0.9, 0.8), 1.0)
    )
    one = {
        kind: evojax.synthesis(evojax.cluster_driven(2.0, cluster=kind), evojax.budget(total=0.5))
        for kind in ("filter", "kernel")
    }
    masks = both.ancestor(params)
    dna = both.dna(params, masks)
    single = {
        kind: evolve.dna(params, masks).clusters["conv"]["kernel"] for kind, evolve in one.items()
    }
    np.testing.assert_allclose(
        dna.clusters["conv"]["kernel"], single["filter"] * single["kernel"], rtol=1e-6
    )
    number = 4096
    draws = jax.vmap(both.offspring, in_axes=(0, None, None))(
        jax.random.split(KEY, number), params, masks
    )
    lived = np.asarray(draws["conv"]["kernel"]).mean(0)
    expected = 0.72 * np.asarray(dna.clusters["conv"]["kernel"] * dna.synapses["conv"]["kernel"])
    assert np.all(np.abs(lived - expected) < 5 * np.sqrt(expected / number) + 1e-3)


def test_within_a_rescued_cluster_the_inner_ones_keep_their_draws():
    params = {"conv": {"kernel": jnp.ones((3, 3, 32, 2))}}
    evolve = evojax.synthesis(
        evojax.cluster_driven(cluster=("filter", "kernel")), evojax.constant((0.02, 0.5), 0.5)
    )
    draws = jax.vmap(evolve.draw, in_axes=(0, None, None))(
        jax.random.split(KEY, 256), params, evolve.ancestor(params)
    )
    kernels = np.asarray(draws.masks["conv"]["kernel"].any((1, 2)))  # (draws, inputs, filters)
    filters = kernels.any(1)
    assert np.all(filters.any(1)) and np.mean(draws.rescued) > 0.9
    # A half of them, and fewer that have a synapse of nine left: hardly any has none.
    assert kernels.sum() / filters.sum() == pytest.approx(16, rel=0.05)


def test_offspring_are_subsets_and_one_program_serves_all_generations(compilations):
    evolve = evolving(evojax.budget(macs=0.8), cluster=("channel", "kernel"))
    masks = evolve.ancestor(PARAMS)
    keys = [jax.random.key(generation) for generation in range(4)]
    children = [evolve.offspring(keys[0], PARAMS, masks)]
    with compilations() as count:
        for key in keys[1:]:
            children.append(evolve.offspring(key, PARAMS, children[-1]))
        assert count() == 0
    for child in children:
        for mother, daughter in zip(jax.tree.leaves(masks), jax.tree.leaves(child), strict=True):
            assert not np.any(daughter & ~mother)
        assert alive_in(evolve, child).sum() < alive_in(evolve, masks).sum()
        masks = child


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: evojax.budget(macs=0.0), r"macs must lie in \(0, 1\]; got 0"),
        (lambda: evojax.budget(macs=0.5, latency=0.5), "one of total=, macs=, parameters= and"),
        (lambda: evojax.budget(macs=0.5, total=0.5), "one of total=, macs=, parameters= and"),
        (lambda: evojax.budget((), 0.5), "one share or more; got none"),
        (lambda: evojax.cluster_driven(cluster=("kernel", "filter")), "several of them in this"),
        (
            lambda: evojax.synthesis(evojax.cluster_driven(), evojax.budget(macs=0.5)),
            "a budget of macs needs channels for clusters.*got kernel",
        ),
        (
            lambda: evojax.synthesis(
                evojax.cluster_driven(cluster="channel"), evojax.budget(total=0.5)
            ),
            r"expected the network's channels, as synthesis\(..., channels=",
        ),
        (
            lambda: evojax.synthesis(
                evojax.cluster_driven(), evojax.budget(total=0.5), channels=CHANNELS
            ),
            "the encoding has no cluster 'channel'",
        ),
        (lambda: evolving(evojax.budget(latency=0.5)), "no prices in latency.*latency=True"),
        (
            lambda: evolving(evojax.budget((0.9, 0.9), 0.9)),
            "shares of 2 kinds of clusters, the encoding 1",
        ),
        (
            lambda: evolving(evojax.budget(total=0.5)).ancestor({"other": {"kernel": X}}),
            "channels are of another network: block/bias has the shape None here",
        ),
        (
            lambda: evojax.synthesis(
                evojax.cluster_driven(cluster="channel"), evojax.budget(total=0.5),
                mating=evojax.gene_tagged(), channels=CHANNELS,
            ),
            "do not mate by channels",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_where_jax_computes_in_64_bits_the_draw_is_the_same():
    def draw():
        evolve = evolving(evojax.budget(macs=0.8), cluster=("channel", "kernel"))
        masks = evolve.ancestor(PARAMS)
        assert evolve.dna(PARAMS, masks).channels.dtype == jnp.float32
        return evolve.draw(KEY, PARAMS, masks)

    expected = draw()
    with jax.enable_x64(True):
        found = draw()
    assert jax.tree.all(jax.tree.map(np.array_equal, found.masks, expected.masks))


def test_axes_of_the_same_channels_in_other_factors_have_lengths_of_their_own():
    """Four channels along one axis; along another pairs of them, as where a reshape merged axes."""
    one, pairs = np.arange(4, dtype=np.int32)[:, None], np.arange(4, dtype=np.int32).reshape(2, 2)
    channels = evojax.Channels(
        axes={"a": (one,), "b": (pairs,)},
        families={"a": np.arange(4, dtype=np.int32)},
        prices={"parameters": {"a": 1.0, "b": 10.0}},
    )
    alive = jnp.array([True, True, True, False])
    assert float(spent(alive, channels, "parameters")) == 3 + 10


def test_nothing_is_promoted_without_being_asked():
    with jax.numpy_dtype_promotion("strict"):
        evolve = evolving(evojax.budget(macs=0.8), cluster=("channel", "kernel"))
        jax.eval_shape(evolve.draw, KEY, PARAMS, evolve.ancestor(PARAMS))
