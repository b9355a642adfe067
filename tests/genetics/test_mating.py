"""Mating of m parents (Chung et al. 2018, Eq. 1 to 3), against tables and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evojax

ENCODINGS = {
    "cluster_driven": evojax.cluster_driven(2.0),
    "filter": evojax.cluster_driven(cluster="filter"),
    "synapse_driven": evojax.synapse_driven(3.0),
    "magnitude": evojax.magnitude(),
    "random": evojax.random(cluster="kernel"),
}
HALF = evojax.budget(total=0.5)
KEY = jax.random.key(0)


def stacked(*parents):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parents)


def parents_of(seed, number, density=0.7):
    random = np.random.default_rng(seed)
    shapes = {"conv": (3, 3, 2, 4), "point": (1, 1, 4, 3), "dense": (3, 5)}
    params, masks = {}, {}
    for name, shape in shapes.items():
        alive = random.random((number, *shape)) < density
        clusters = random.random((number, *[1] * (len(shape) - 2), *shape[-2:])) < density
        alive &= clusters
        weights = random.normal(size=(number, *shape)).astype(np.float32)
        params[name] = {"kernel": weights, "bias": np.ones((number, shape[-1]), np.float32)}
        masks[name] = {"kernel": alive, "bias": alive.any(tuple(range(1, len(shape))))}
    return params, masks


def synthesis_of(chi=1.0, encoding="cluster_driven", **weights):
    return evojax.synthesis(ENCODINGS[encoding], HALF, mating=evojax.gene_tagged(chi, **weights))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_parent_is_asexual_to_the_bit(encoding):
    params, masks = parents_of(3, 1)
    single = jax.tree.map(lambda leaf: leaf[0], (params, masks))
    asexual = evojax.synthesis(ENCODINGS[encoding], HALF)
    mated = synthesis_of(encoding=encoding)
    for kept in (mated.inheritable(params, masks), asexual.inheritable(*single)):
        jax.tree.map(np.testing.assert_array_equal, kept, single[1])
    jax.tree.map(np.testing.assert_array_equal, mated.dna(params, masks), asexual.dna(*single))
    for seed in range(5):
        key = jax.random.key(seed)
        jax.tree.map(
            np.testing.assert_array_equal,
            mated.draw(key, params, masks),
            asexual.draw(key, *single),
        )


# Two kernels of two synapses, columns; three parents.
STRENGTHS = [[[4.0, 1.0], [2.0, 3.0]], [[2.0, 1.0], [2.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]]
ALIVE = [[[1, 1], [1, 1]], [[1, 1], [0, 1]], [[1, 0], [1, 0]]]


def of_the_table(parents, chi, pressure=1.0, **weights):
    kernels = jnp.array([STRENGTHS[k] for k in parents]).reshape(-1, 1, 2, 1, 2)
    alive = jnp.array([ALIVE[k] for k in parents], bool).reshape(-1, 1, 2, 1, 2)
    encoding = evojax.cluster_driven(pressure, truncation=0.0)
    evolve = evojax.synthesis(encoding, HALF, mating=evojax.gene_tagged(chi, **weights))
    dna = evolve.dna({"kernel": kernels}, {"kernel": alive})
    clusters, synapses = dna.clusters["kernel"], dna.synapses["kernel"]
    return clusters.reshape(2).tolist(), synapses.reshape(2, 2).tolist()


def test_two_parents_by_hand():
    # Cluster sums 6, 4 and 2, 2: shares 1, 2/3 and 1, 1, so products 1 and 2/3.
    # Synapses: shares 1, 1/4, 1/2, 3/4 and 1, 1/2, none, 1/2: products 1, 1/8, none, 3/8.
    clusters, synapses = of_the_table([0, 1], 1.0)
    np.testing.assert_allclose(clusters, np.exp([0.0, -1 / 3]), rtol=1e-6)
    expected = [[1.0, np.exp(1 / 8 - 1)], [0.0, np.exp(3 / 8 - 1)]]
    np.testing.assert_allclose(synapses, expected, rtol=1e-6)


def test_the_intersection_and_two_thirds_by_hand():
    # The third parent lacks the second cluster: under chi = 1 it dies, under 2/3 it is that of the
    # first two. The first cluster: sums 6, 2, 2 are all their layers' largest: product 1.
    clusters, synapses = of_the_table([0, 1, 2], 1.0)
    np.testing.assert_allclose(clusters, [1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(synapses, [[1.0, 0.0], [0.0, 0.0]], rtol=1e-6)
    clusters, synapses = of_the_table([0, 1, 2], 2 / 3)
    np.testing.assert_allclose(clusters, np.exp([0.0, -1 / 3]), rtol=1e-6)
    expected = [[1.0, np.exp(1 / 8 - 1)], [0.0, np.exp(3 / 8 - 1)]]
    np.testing.assert_allclose(synapses, expected, rtol=1e-6)


def test_alpha_by_hand():
    # The second cluster is in two of three parents, so alpha of the third weighs the first down:
    # products 1/2 and 2/3, in shares of the larger 3/4 and 1.
    clusters, _ = of_the_table([0, 1, 2], 2 / 3, cluster_weights=(1, 1, 0.5))
    np.testing.assert_allclose(clusters, np.exp([-1 / 4, 0.0]), rtol=1e-6)
    # Synapses: 1/2, 1/8, none, 3/8.
    _, synapses = of_the_table([0, 1, 2], 2 / 3, synapse_weights=(1, 1, 0.5))
    expected = [[1.0, np.exp(1 / 4 - 1)], [0.0, np.exp(3 / 4 - 1)]]
    np.testing.assert_allclose(synapses, expected, rtol=1e-6)


def test_alpha_changes_nothing_under_the_intersection():
    alpha = {"cluster_weights": (0.2, 3.0, 7.0), "synapse_weights": (5.0, 0.1, 1.0)}
    weighed, plain = of_the_table([0, 1, 2], 1.0, **alpha), of_the_table([0, 1, 2], 1.0)
    for one, other in zip(weighed, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_at_least_one_parent_has_what_is_passed_on():
    masks = jnp.array([[True, False], [False, False]])
    assert evojax.gene_tagged(1e-12).shared(masks).tolist() == [True, False]


@pytest.mark.parametrize(
    ("chi", "parents", "enough"),
    [
        (0.6, 5, 3), (0.1, 3, 1), (0.1, 10, 1), (0.3, 10, 3), (0.07, 100, 7), (0.61, 5, 4),
        (2 / 3, 3, 2), (0.67, 3, 3), (0.55, 20, 11), (1.0, 7, 7),
    ],
)  # fmt: skip
def test_how_many_parents_are_enough(chi, parents, enough):
    masks = jnp.arange(parents)[:, None] < jnp.arange(parents + 1)  # In 0, 1, ... parents.
    passed = evojax.gene_tagged(chi).shared(masks)
    assert passed.tolist() == [number >= enough for number in range(parents + 1)]


def of_the_paper(weights, alive, chi, pressure, cluster):
    """Eq. 1 to 3 with Eq. 4 and 5, one synapse after the other."""
    number, *shape = weights.shape
    axes = tuple(range(len(shape) - (2 if cluster == "kernel" else 1)))
    mother, child = np.ones(shape), np.ones(shape)
    passed = np.zeros(shape, bool)
    share_c, share_s, has_c = [], [], []
    for w, mask in zip(weights, alive, strict=True):
        strength = np.abs(w) * mask
        z = strength.max()
        strong = np.where(strength < np.float32(0.05) * z, 0, strength)
        sums = np.broadcast_to(strong.sum(axes, keepdims=True, dtype=np.float64), shape)
        share_c.append(sums / (sums.max() or 1))
        share_s.append(strength / (z or 1))
        has_c.append(np.broadcast_to(mask.any(axes, keepdims=True), shape))
    for place in np.ndindex(*shape):
        group = [k for k in range(number) if has_c[k][place]]
        mother[place] = np.prod([share_c[k][place] for k in group])
        child[place] = np.prod([share_s[k][place] for k in group])
        enough = len(group) >= chi * number - 1e-9
        passed[place] = enough and all(alive[k][place] for k in group)
        mother[place] *= enough
        child[place] *= passed[place]
    some = np.sum(has_c, axis=0) >= chi * number - 1e-9
    clusters = np.exp(pressure * (mother / (mother.max() or 1) - 1)) * some
    synapses = np.exp(pressure * (child / (child.max() or 1) - 1)) * passed
    return clusters, synapses


@pytest.mark.parametrize("encoding", ["cluster_driven", "filter"])
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    number=st.sampled_from([2, 3, 5]),
    chi=st.sampled_from([0.2, 0.6, 1.0]),
    density=st.sampled_from([0.4, 0.8, 1.0]),
)
def test_agrees_with_the_paper(encoding, seed, number, chi, density):
    params, masks = parents_of(seed, number, density)
    dna = synthesis_of(chi, encoding).dna(params, masks)
    kind, pressure = {"cluster_driven": ("kernel", 2.0), "filter": ("filter", 1.0)}[encoding]
    for name, layer in params.items():
        clusters, synapses = of_the_paper(
            layer["kernel"], masks[name]["kernel"], chi, pressure, kind
        )
        ours = np.broadcast_to(dna.clusters[name]["kernel"], clusters.shape)
        np.testing.assert_allclose(ours, clusters, rtol=1e-5, atol=0)
        np.testing.assert_allclose(dna.synapses[name]["kernel"], synapses, rtol=1e-5, atol=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_offspring_have_what_their_parents_pass_on(encoding):
    params, masks = parents_of(5, 5, 0.8)
    evolve = synthesis_of(0.6, encoding)
    children = jax.vmap(evolve.draw, (0, None, None))(jax.random.split(KEY, 4), params, masks)
    for name, layer in children.masks.items():
        alive = masks[name]["kernel"]
        axes = {"filter": tuple(range(1, alive.ndim - 1))}.get(encoding, range(1, alive.ndim - 2))
        if encoding in ("synapse_driven", "magnitude"):
            axes = ()
        having = alive.any(tuple(axes), keepdims=True)
        allowed = (having.sum(0) >= 3) & (alive | ~having).all(0)
        assert not np.any(layer["kernel"] & ~allowed)
        assert np.any(layer["kernel"])
        passed = evolve.inheritable(params, masks)[name]["kernel"]
        np.testing.assert_array_equal(passed, allowed)
        # A bias lives where its channel does: enough parents have it then.
        living = layer["kernel"].any(tuple(range(1, layer["kernel"].ndim - 1)))
        if encoding in ("cluster_driven", "filter"):
            np.testing.assert_array_equal(layer["bias"], living)


def test_a_bias_is_passed_on_where_enough_parents_have_it():
    params, masks = parents_of(5, 5)
    masks["conv"]["bias"] = np.arange(5)[:, None] < np.arange(1, 5)  # One to four of the five.
    passed = synthesis_of(0.6).inheritable(params, masks)
    assert passed["conv"]["bias"].tolist() == [False, False, True, True]


def test_two_equal_parents_pass_on_what_one_has():
    params, masks = parents_of(7, 1)
    twins = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), (params, masks))
    one, two = synthesis_of(encoding="random"), synthesis_of(encoding="random")
    jax.tree.map(
        np.testing.assert_array_equal,
        one.offspring(KEY, params, masks),
        two.offspring(KEY, *twins),
    )


def test_parents_mate_in_one_program(compilations):
    evolve = synthesis_of(0.6)
    evolve.offspring(KEY, *parents_of(0, 3))
    with compilations() as count:
        evolve.offspring(KEY, *parents_of(1, 3))
        assert count() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chi": 0.0}, r"chi must lie in \(0, 1\]; got 0.0"),
        ({"chi": 1.5}, r"chi must lie in \(0, 1\]; got 1.5"),
        ({"cluster_weights": (1.0, 0.0)}, "cluster_weights must be positive numbers"),
        ({"cluster_weights": ()}, "cluster_weights must be positive numbers"),
        ({"synapse_weights": (1.0, float("nan"))}, "synapse_weights must be positive numbers"),
        ({"cluster_weights": (1e-15, 1e-15)}, "cluster_weights must .* at least 1e-20 .* below 1"),
        ({"synapse_weights": (1e15, 1e15)}, "synapse_weights must .* at most 1e20 .* above"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        evojax.gene_tagged(**arguments)


def test_what_does_not_fit_is_named():
    params, masks = parents_of(0, 3)
    with pytest.raises(ValueError, match="2 weights .* for 3 parents"):
        synthesis_of(cluster_weights=(1.0, 1.0)).dna(params, masks)
    with pytest.raises(ValueError, match="expected every array to have them on its first axis"):
        synthesis_of().dna(params | {"alone": {"kernel": np.ones((2, 3))}}, masks)
    two = jax.tree.map(lambda leaf: leaf[:2], masks)
    with pytest.raises(ValueError, match="must be bool of shape"):
        synthesis_of().offspring(KEY, params, two)
