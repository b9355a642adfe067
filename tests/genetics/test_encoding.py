"""Eq. 1, 4 and 5 of Shafiee & Wong 2016, against NumPy written from the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evojax

SHAPES = {"conv": (3, 3, 3, 4), "dense": (6, 5), "point": (1, 1, 4, 3)}

SETTINGS = {
    "paper": {},
    "filter": {"selection_pressure": 2.0, "truncation": 0.3, "cluster": "filter"},
    "synapse": {"selection_pressure": 0.5, "truncation": 0.0, "cluster": "synapse"},
    "signed": {"truncation": 0.2, "signed": True},
}
ENCODERS = {
    name: evojax.synthesis(evojax.cluster_driven(**options), evojax.budget(total=0.5))
    for name, options in SETTINGS.items()
}
SYNAPSE_DRIVEN = evojax.synthesis(evojax.synapse_driven(2.0), evojax.budget(total=0.5))


def of_the_paper(
    weights, mask, selection_pressure=1.0, truncation=0.05, cluster="kernel", signed=False
):
    """P(s_c | W) of Eq. 4 and P(s_i | w_i) of Eq. 5; 0 where the parent has none."""
    axes = {
        "kernel": tuple(range(weights.ndim - 2)),
        "filter": tuple(range(weights.ndim - 1)),
        "synapse": (),
    }[cluster]
    strength = (weights if signed else np.abs(weights)) * mask
    z = np.abs(strength).max()
    truncated = np.where(np.abs(strength) < np.float32(truncation) * z, 0, strength)
    sums = truncated.sum(axes, keepdims=True, dtype=np.float64)
    most = np.abs(sums).max()
    clusters = np.exp(selection_pressure * (sums / (most or 1) - 1))
    synapses = np.exp(selection_pressure * (strength / (z or 1) - 1))
    return clusters * mask.any(axes, keepdims=True), synapses * mask


def network(seed, density=1.0, scale=1.0):
    random = np.random.default_rng(seed)
    params, masks = {}, {}
    for name, shape in SHAPES.items():
        params[name] = {"kernel": (scale * random.normal(size=shape)).astype(np.float32)}
        masks[name] = {"kernel": random.random(shape) < density}
    return params, masks


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.03, 0.3, 0.8, 1.0]),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e9]),
)
def test_dna_agrees_with_the_paper(name, seed, density, scale):
    params, masks = network(seed, density, scale)
    dna = ENCODERS[name].dna(params, masks)
    for layer in SHAPES:
        weights, mask = params[layer]["kernel"], masks[layer]["kernel"]
        clusters, synapses = of_the_paper(weights, mask, **SETTINGS[name])
        np.testing.assert_allclose(dna.clusters[layer]["kernel"], clusters, rtol=1e-5, atol=0)
        np.testing.assert_allclose(dna.synapses[layer]["kernel"], synapses, rtol=1e-5, atol=0)


def test_two_kernels_worked_out_by_hand():
    # Kernels (4, 2) and (-1, 0.1): z = 4, 0.1 < 0.05 z is truncated, the sums are 6 and 1.
    params = {"kernel": jnp.array([[4.0, -1.0], [2.0, 0.1]]).reshape(1, 2, 1, 2)}
    dna = ENCODERS["paper"].dna(params, ENCODERS["paper"].ancestor(params))
    np.testing.assert_allclose(dna.clusters["kernel"].reshape(2), [1.0, 0.434598], atol=1e-6)
    expected = [[1.0, 0.472367], [0.606531, 0.377192]]
    np.testing.assert_allclose(dna.synapses["kernel"].reshape(2, 2), expected, atol=1e-6)


def test_a_layer_of_zeros_has_no_preference():
    params, masks = network(0, scale=0.0)
    dna = ENCODERS["paper"].dna(params, masks)
    for leaf in jax.tree.leaves(dna):
        np.testing.assert_allclose(leaf, np.exp(-1.0), rtol=1e-6)


def test_one_living_synapse_is_certain():
    params, masks = network(1, density=0.0)
    masks["conv"]["kernel"][1, 2, 0, 3] = True
    dna = ENCODERS["paper"].dna(params, masks)
    synapses = np.asarray(dna.synapses["conv"]["kernel"])
    clusters = np.asarray(dna.clusters["conv"]["kernel"])
    assert synapses[1, 2, 0, 3] == 1.0 and synapses.sum() == 1.0
    assert clusters[0, 0, 0, 3] == 1.0 and clusters.sum() == 1.0
    assert not np.any(dna.synapses["dense"]["kernel"])


def test_a_high_pressure_stays_finite_and_keeps_the_strongest():
    evolve = evojax.synthesis(evojax.cluster_driven(1000.0), evojax.budget(total=0.5))
    params, masks = network(2)
    dna = evolve.dna(params, masks)
    for leaf in jax.tree.leaves(dna):
        assert np.all(np.isfinite(leaf)) and np.max(leaf) == pytest.approx(1.0, abs=1e-3)
    draw = evolve.draw(jax.random.key(0), params, masks)
    assert np.isfinite(draw.cluster_factor) and np.isfinite(draw.synapse_factor)
    alive = sum(int(mask.sum()) for mask in jax.tree.leaves(draw.masks))
    assert 0.4 * 150 < alive <= 0.5 * 150
    for layer in SHAPES:
        strongest = np.argmax(np.abs(params[layer]["kernel"]))
        if layer != "conv":  # There its cluster may have died.
            assert np.ravel(draw.masks[layer]["kernel"])[strongest]


def test_pruned_weights_do_not_count():
    params, masks = network(3, density=0.5)
    before = ENCODERS["paper"].dna(params, masks)
    for layer in SHAPES:
        params[layer]["kernel"] = np.where(masks[layer]["kernel"], params[layer]["kernel"], 1e6)
    after = ENCODERS["paper"].dna(params, masks)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_synapse_driven_is_equation_5_alone():
    params, masks = network(4, density=0.7)
    dna = SYNAPSE_DRIVEN.dna(params, masks)
    for layer in SHAPES:
        weights, mask = params[layer]["kernel"], masks[layer]["kernel"]
        _, synapses = of_the_paper(weights, mask, selection_pressure=2.0)
        np.testing.assert_allclose(dna.synapses[layer]["kernel"], synapses, rtol=1e-5)


@pytest.mark.parametrize("cluster", ["synapse", "kernel"])
def test_random_prefers_nothing(cluster):
    evolve = evojax.synthesis(evojax.random(cluster), evojax.budget(total=0.5))
    params, masks = network(5, density=0.6)
    dna = evolve.dna(params, masks)
    for layer in SHAPES:
        np.testing.assert_array_equal(dna.synapses[layer]["kernel"], masks[layer]["kernel"])
        assert set(np.unique(dna.clusters[layer]["kernel"])) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: evojax.cluster_driven(0.0), "selection_pressure must be positive and at most"),
        (lambda: evojax.cluster_driven(-1.0), "selection_pressure must be positive and at most"),
        (lambda: evojax.cluster_driven(float("inf")), r"magnitude\(\)"),
        (lambda: evojax.cluster_driven(1e39), r"at most 2\^100; got 1e\+39"),  # All would die.
        (lambda: evojax.cluster_driven(float("nan")), "selection_pressure must be positive"),
        (lambda: evojax.synapse_driven(0.0), "selection_pressure must be positive and at most"),
        (lambda: evojax.cluster_driven(truncation=1.0), r"truncation must lie in \[0, 1\); got 1"),
        (lambda: evojax.cluster_driven(truncation=-0.1), r"truncation must lie in \[0, 1\)"),
        (
            lambda: evojax.cluster_driven(cluster="row"),
            "kernel, synapse, or several.*'row'",
        ),
        (
            lambda: evojax.random("row"),
            "kernel, synapse, or several.*'row'",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
