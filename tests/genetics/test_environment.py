"""How much of its parent an offspring keeps."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.genetics import environment
from evojax.genetics.encoding import Gene
from evojax.genetics.environment import share_of

KEYS = 512


def array(*shape, seed=0):
    return jnp.array(np.random.default_rng(seed).normal(size=shape), jnp.float32)


LARGE = {"conv1": {"kernel": array(5, 5, 16, 32)}, "conv2": {"kernel": array(5, 5, 32, 64, seed=1)}}
TINY = {"dense": {"kernel": array(8, 4), "bias": jnp.zeros(4)}}
CONVOLUTIONS = {
    "conv1": {"kernel": array(3, 3, 2, 8), "bias": jnp.zeros(8)},
    "conv2": {"kernel": array(3, 3, 8, 8, seed=1), "bias": jnp.zeros(8)},
    "dense": {"kernel": array(8, 4, seed=2), "bias": jnp.zeros(4)},
}


def several(evolve):
    """Draws of many keys at once, from one parent each or from the same."""
    return jax.jit(jax.vmap(evolve.draw, in_axes=(0, None, 0))), jax.jit(
        jax.vmap(evolve.draw, in_axes=(0, None, None))
    )


def keys(number, seed=0):
    return jax.random.split(jax.random.key(seed), number)


def living(masks):
    """Living synapses of each of a batch of masks."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(masks)]
    return sum(leaf.reshape(len(leaf), -1).sum(1) for leaf in leaves)


def kernels_alive(masks):
    """Living kernels of each of a batch of masks, by layer."""
    return {
        name: np.asarray(leaf["kernel"])
        .any(tuple(range(1, leaf["kernel"].ndim - 2)))
        .reshape(len(leaf["kernel"]), -1)
        .sum(1)
        for name, leaf in masks.items()
    }


@pytest.mark.parametrize(
    ("encoding", "whole"),
    # At a high pressure a living cluster may lose all its synapses.
    [
        (evojax.cluster_driven(), False),
        (evojax.cluster_driven(20.0), False),
        (evojax.random("kernel"), True),
    ],
    ids=["cluster_driven", "high pressure", "random"],
)
def test_the_mean_offspring_keeps_the_shares_asked_for(encoding, whole):
    evolve = evojax.synthesis(encoding, evojax.budget(0.7, 0.8)._replace(capped=False))
    draw = several(evolve)[1](keys(48), LARGE, evolve.ancestor(LARGE))
    assert np.mean(living(draw.masks)) / 64_000 == pytest.approx(0.56, rel=0.01)
    if whole:
        clusters = sum(kernels_alive(draw.masks).values())
        assert np.mean(clusters) / 2560 == pytest.approx(0.7, rel=0.01)


def test_clusters_are_solved_for_before_their_synapses():
    evolve = evojax.synthesis(
        evojax.cluster_driven(5.0), evojax.budget(0.6, 0.9)._replace(capped=False)
    )
    masks = evolve.ancestor(LARGE)
    dna = evolve.dna(LARGE, masks)
    draw = evolve.draw(jax.random.key(0), LARGE, masks)
    expected = alive = 0.0
    for layer in LARGE:
        p_c = np.asarray(dna.clusters[layer]["kernel"], np.float64)
        p_s = np.asarray(dna.synapses[layer]["kernel"], np.float64)
        clusters = np.minimum(1.0, float(draw.cluster_factor) * p_c)
        expected += clusters.sum()
        alive += np.sum(clusters * np.minimum(1.0, float(draw.synapse_factor) * p_s))
    assert expected / 2560 == pytest.approx(0.6, rel=1e-3)
    assert alive / 64_000 == pytest.approx(0.54, rel=1e-3)


@pytest.mark.parametrize("pressure", [1.0, 20.0])
@pytest.mark.parametrize(("clusters", "synapses"), [(0.8, 0.8), (0.3, 0.5), (0.9, 0.1)])
def test_a_network_larger_than_the_sample_is_solved_as_a_whole(
    monkeypatch, clusters, synapses, pressure
):
    monkeypatch.setattr(environment, "SAMPLE", 1 << 14)  # Every 9th synapse, eight times too few.
    params = {"conv": {"kernel": array(3, 3, 64, 64)}, "dense": {"kernel": array(256, 372, seed=1)}}
    allowed = evojax.budget(clusters, synapses)
    shares = environment.portions(allowed, 1, allowed.share)
    factors = jax.jit(
        lambda genes, drawn: environment.factors(
            allowed, genes, shares, drawn, allowed.share * drawn, clustered=True
        )
    )
    masks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    masks["dense"]["kernel"] = masks["dense"]["kernel"].at[:, ::2].set(False)  # As after a while.
    dna = evojax.synthesis(evojax.cluster_driven(pressure), evojax.budget(total=0.5)).dna(
        params, masks
    )
    genes = [
        Gene((jnp.log(dna.clusters[layer]["kernel"]),), jnp.log(dna.synapses[layer]["kernel"]))
        for layer in params
    ]
    alive = sum(int(mask.sum()) for mask in jax.tree.leaves(masks))
    (log_fc,), log_fs = factors(genes, jnp.int32(alive))
    expected = living_clusters = kept = 0.0
    for gene in genes:
        p_c = np.exp(np.minimum(0, np.float64(log_fc) + np.asarray(gene.clusters[0], np.float64)))
        p_s = np.exp(np.minimum(0, np.float64(log_fs) + np.asarray(gene.synapses, np.float64)))
        living_clusters += np.isfinite(gene.clusters[0]).sum()
        expected += p_c.sum()
        kept += np.sum(p_c * p_s)
    assert expected / living_clusters == pytest.approx(clusters, rel=2e-3)
    assert kept / alive == pytest.approx(clusters * synapses, rel=2e-3)


def test_shares_out_of_reach_keep_all_they_can():
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(0.5, 1.0))
    draw = evolve.draw(jax.random.key(0), LARGE, evolve.ancestor(LARGE))
    alive = sum(int(leaf.sum()) for leaf in jax.tree.leaves(draw.masks))
    assert alive == pytest.approx(0.5 * 64_000, rel=0.02)
    assert np.isfinite(draw.synapse_factor) and draw.synapse_factor > 1


def test_a_capped_offspring_is_near_its_share():
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(0.7, 0.8))
    draw = several(evolve)[1](keys(48), LARGE, evolve.ancestor(LARGE))
    alive = living(draw.masks)
    assert np.max(alive) <= math.floor(0.56 * 64_000)
    assert np.mean(alive) / 64_000 == pytest.approx(0.56, rel=0.02)
    assert 0 < np.sum(draw.capped) < 48


@pytest.mark.parametrize(
    ("params", "share"),
    [(TINY, 0.8), (TINY, 0.3), (CONVOLUTIONS, 0.8), (CONVOLUTIONS, 0.5), (CONVOLUTIONS, 0.3)],
)
def test_no_offspring_exceeds_the_cap_three_generations_deep(params, share):
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=share))
    from_many, from_one = several(evolve)
    masks = evolve.ancestor(params)
    parent = np.array(sum(leaf.size for leaf in jax.tree.leaves(masks)))
    for generation in range(3):
        step = from_many if generation else from_one
        draw = step(keys(KEYS, seed=generation), params, masks)
        alive = living(draw.masks)
        most = [int(Fraction(str(share)) * int(n)) for n in np.broadcast_to(parent, KEYS)]
        kept = np.asarray(draw.rescued) == 0  # The floor goes before the cap.
        assert np.all(alive[kept] <= np.array(most)[kept])
        assert np.sum(kept) > KEYS / 2 or generation
        masks, parent = draw.masks, alive


@pytest.mark.parametrize("share", [0.1, 0.29, 0.57, 0.7, 0.9, 1.0])
def test_a_whole_number_of_synapses_is_not_lost_to_rounding(share):
    params = {"dense": {"kernel": array(20, 50)}}
    evolve = evojax.synthesis(evojax.magnitude(), evojax.budget(1.0, share))
    masks = evolve.offspring(jax.random.key(0), params, evolve.ancestor(params))
    assert int(masks["dense"]["kernel"].sum()) == round(1000 * share)


def test_constant_factors_multiply_and_are_not_capped():
    evolve = evojax.synthesis(evojax.random("kernel"), evojax.constant(0.6, 0.5))
    masks = evolve.ancestor(LARGE)
    draw = several(evolve)[1](keys(48), LARGE, masks)
    alive = living(draw.masks) / 64_000
    assert np.mean(alive) == pytest.approx(0.3, rel=0.01)
    assert np.max(alive) > 0.3
    assert not np.any(draw.capped)
    np.testing.assert_allclose(draw.cluster_factor, 0.6, rtol=1e-6)
    np.testing.assert_allclose(draw.synapse_factor, 0.5, rtol=1e-6)


def test_total_is_shared_as_square_roots():
    total, both = evojax.budget(total=0.49), evojax.budget(0.7, 0.7)
    assert (*total.clusters, total.synapses) == pytest.approx((*both.clusters, both.synapses))
    assert total.share == pytest.approx(0.49)
    masks = []
    for budget in (total, both):
        evolve = evojax.synthesis(evojax.cluster_driven(), budget)
        masks.append(evolve.offspring(jax.random.key(0), TINY, evolve.ancestor(TINY)))
    jax.tree.map(np.testing.assert_array_equal, *masks)


def test_a_budget_of_everything_keeps_everything():
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=1.0))
    masks = evolve.ancestor(TINY)
    draw = evolve.draw(jax.random.key(0), TINY, masks)
    jax.tree.map(np.testing.assert_array_equal, draw.masks, masks)
    assert not draw.capped


@pytest.mark.parametrize("min_clusters", [1, 3])
def test_a_tiny_budget_leaves_every_layer_its_last_clusters(min_clusters):
    tiny = evojax.budget(total=1e-4, min_clusters=min_clusters)
    evolve = evojax.synthesis(evojax.cluster_driven(), tiny)
    draw = several(evolve)[1](keys(KEYS), CONVOLUTIONS, evolve.ancestor(CONVOLUTIONS))
    for alive in kernels_alive(draw.masks).values():
        np.testing.assert_array_equal(alive, min_clusters)
    np.testing.assert_array_equal(draw.rescued, len(CONVOLUTIONS))


def test_a_rescued_layer_keeps_no_more_than_its_parent_has():
    tiny = evojax.budget(total=1e-4, min_clusters=3)
    evolve = evojax.synthesis(evojax.cluster_driven(), tiny)
    masks = evolve.ancestor(CONVOLUTIONS)
    masks["conv1"]["kernel"] = masks["conv1"]["kernel"].at[:, :, 0].set(False)
    masks["conv1"]["kernel"] = masks["conv1"]["kernel"].at[:, :, :, 2:].set(False)
    masks["dense"]["kernel"] = jnp.zeros((8, 4), bool)
    draw = several(evolve)[1](keys(KEYS), CONVOLUTIONS, masks)
    alive = kernels_alive(draw.masks)
    np.testing.assert_array_equal(alive["conv1"], 2)
    np.testing.assert_array_equal(alive["conv2"], 3)
    np.testing.assert_array_equal(alive["dense"], 0)
    assert not np.any(draw.masks["dense"]["bias"])


def test_nothing_is_rescued_from_a_generous_budget():
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=0.8))
    draw = several(evolve)[1](keys(KEYS), CONVOLUTIONS, evolve.ancestor(CONVOLUTIONS))
    assert not np.any(draw.rescued)


def test_a_draw_may_have_a_share_of_its_own():
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=0.9))
    masks = evolve.ancestor(LARGE)
    draw = jax.jit(jax.vmap(evolve.draw, in_axes=(0, None, None, None)))
    for share in (0.25, 0.5):
        alive = living(draw(keys(16), LARGE, masks, jnp.float32(share)).masks)
        assert np.max(alive) <= share * 64_000
        assert np.mean(alive) == pytest.approx(share * 64_000, rel=0.02)


def test_constant_factors_heed_no_share():
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.constant(0.9, 0.9))
    masks = evolve.ancestor(TINY)
    key = jax.random.key(0)
    alone = evolve.draw(key, TINY, masks)
    shared = evolve.draw(key, TINY, masks, jnp.float32(0.1))
    jax.tree.map(np.testing.assert_array_equal, alone, shared)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: evojax.budget(0.0, 0.5), r"clusters must lie in \(0, 1\]; got 0"),
        (lambda: evojax.budget(0.5, 1.5), r"synapses must lie in \(0, 1\]; got 1.5"),
        (lambda: evojax.budget(-0.5, 0.5), r"clusters must lie in \(0, 1\]; got -0.5"),
        (lambda: evojax.budget(0.5, math.nan), r"synapses must lie in \(0, 1\]; got nan"),
        (lambda: evojax.budget(total=0.0), r"total must lie in \(0, 1\]; got 0"),
        (lambda: evojax.budget(total=80), r"total must lie in \(0, 1\]; got 80"),
        (lambda: evojax.budget(0.5, 0.5, total=0.5), "total= or clusters= and synapses=, not both"),
        (lambda: evojax.budget(0.5, total=0.5), "not both"),
        (lambda: evojax.budget(), "needs clusters= and synapses=, or total="),
        (lambda: evojax.budget(clusters=0.5), "needs clusters= and synapses=, or total="),
        (lambda: evojax.budget(synapses=0.5), "needs clusters= and synapses=, or total="),
        (lambda: evojax.budget(total=0.5, min_clusters=0), "whole number of at least 1; got 0"),
        (lambda: evojax.budget(total=0.5, min_clusters=1.5), "whole number of at least 1; got 1.5"),
        (lambda: evojax.constant(0.0, 0.5), r"clusters must lie in \(0, 1\]; got 0"),
        (lambda: evojax.constant(0.5, 1.1), r"synapses must lie in \(0, 1\]; got 1.1"),
        (lambda: evojax.constant(0.5, 0.5, min_clusters=0), "whole number of at least 1; got 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("share", [0, 0.0, -0.5, 1.5, math.nan])
def test_a_draw_refuses_a_share_that_is_none(share):
    evolve = evojax.synthesis(evojax.cluster_driven(), evojax.budget(total=0.9))
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]; got"):
        evolve.draw(jax.random.key(0), TINY, evolve.ancestor(TINY), share)


@pytest.mark.parametrize(
    ("share", "number", "kept"),
    [(0.64, 100, 64), (0.7, 10, 7), (0.5252225922748345, 13_293_521, 6_982_057), (1.0, 7, 7)],
)
def test_a_share_is_never_rounded_up(share, number, kept):
    assert 0 <= kept - int(share_of(jnp.int32(number), share)) <= number * 25e-6
