"""The draw: uniform, independent, and as frequent as Eq. 3 says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.genetics.sampling import log_uniform, words

SEEDS = [(0, 0), (1, 0), (0, 1), (2**32 - 1, 2**32 - 1), (0x9E3779B9, 0x85EBCA6B), (12345, 2**31)]
MANY = 1 << 22
KEYS = 4096

uniform = jax.jit(lambda seed: jnp.exp(log_uniform(seed, (1 << 20,))))


def seed_of(pair):
    return jnp.array(pair, jnp.uint32)


@pytest.fixture(scope="module")
def uniforms():
    return [np.asarray(uniform(seed_of(pair))) for pair in SEEDS]


def test_uniform_numbers_lie_strictly_between_0_and_1():
    # Of 2^26 draws one in 2^24 has all the bits set that reach the mantissa, and must not be 1.
    @jax.jit
    def extremes(seeds):
        def one(seed):
            logs = log_uniform(seed, (MANY,))
            return jnp.max(logs), jnp.min(logs)

        return jax.lax.map(one, seeds)

    seeds = jnp.stack([jnp.arange(16, dtype=jnp.uint32), 77 * jnp.arange(16, dtype=jnp.uint32)], 1)
    highest, lowest = extremes(seeds)
    assert np.all(highest < 0)
    assert np.all(lowest > -17) and np.all(np.isfinite(lowest))
    # They do come near to both ends.
    assert np.max(highest) > -1e-6 and np.min(lowest) < -15.5


@pytest.mark.parametrize("index", range(len(SEEDS)))
def test_numbers_are_uniform(uniforms, index):
    counts = np.histogram(uniforms[index], 256, (0, 1))[0]
    expected = len(uniforms[index]) / 256
    chi_square = np.sum((counts - expected) ** 2) / expected
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


@pytest.mark.parametrize("lag", [1, 2, 9, 25, 64, 1024])
def test_neighbours_are_independent(uniforms, lag):
    for u in uniforms:
        counts = np.histogram2d(u[:-lag], u[lag:], 16, ((0, 1), (0, 1)))[0]
        expected = (len(u) - lag) / 256
        chi_square = np.sum((counts - expected) ** 2) / expected
        assert abs(chi_square - 255) < 6 * np.sqrt(2 * 255)


def test_seeds_are_independent(uniforms):
    correlations = np.corrcoef(uniforms) - np.eye(len(uniforms))
    assert np.max(np.abs(correlations)) < 5 / np.sqrt(1 << 20)


def test_words_differ_between_leaves_and_keys():
    hashes = jnp.arange(64, dtype=jnp.uint32)
    first, second = words(jax.random.key(0), hashes), words(jax.random.key(1), hashes)
    assert first.shape == (64, 2, 2) and first.dtype == jnp.uint32
    assert len(np.unique(np.concatenate([first, second]))) == 2 * 64 * 4


def test_leaves_are_independent():
    seeds = words(jax.random.key(3), jnp.arange(6, dtype=jnp.uint32))
    draws = [uniform(seed) for seed in [*seeds[:, 0], *seeds[:, 1]]]
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.max(np.abs(correlations)) < 5 / np.sqrt(1 << 20)


def network(seed=0):
    random = np.random.default_rng(seed)
    return {
        "conv": {"kernel": jnp.array(random.normal(size=(3, 3, 4, 8)), jnp.float32)},
        "dense": {"kernel": jnp.array(random.normal(size=(32, 8)), jnp.float32)},
    }


def frequencies(evolve, params, masks):
    """How often each synapse lives, and the factors of the draws."""
    keys = jax.random.split(jax.random.key(11), KEYS)
    draw = jax.jit(jax.vmap(evolve.draw, in_axes=(0, None, None)))(keys, params, masks)
    return draw, jax.tree.map(lambda mask: np.asarray(mask).mean(0), draw.masks)


@pytest.mark.parametrize(
    "environment",
    [
        evojax.constant(0.9, 0.8),
        # Factors above 1 clip some probabilities; without the cap, which cuts a draw back.
        evojax.budget(0.8, 0.7)._replace(capped=False),
    ],
    ids=["constant", "budget"],
)
def test_frequencies_are_those_of_equation_3(environment):
    evolve = evojax.synthesis(evojax.cluster_driven(), environment)
    params = network()
    masks = evolve.ancestor(params)
    masks["conv"]["kernel"] = jnp.array(np.random.default_rng(1).random((3, 3, 4, 8)) < 0.8)
    dna = evolve.dna(params, masks)
    draw, seen = frequencies(evolve, params, masks)
    f_c, f_s = float(draw.cluster_factor[0]), float(draw.synapse_factor[0])
    clipped = 0
    for layer in params:
        clusters = np.minimum(1.0, f_c * np.asarray(dna.clusters[layer]["kernel"], np.float64))
        synapses = np.minimum(1.0, f_s * np.asarray(dna.synapses[layer]["kernel"], np.float64))
        p = clusters * synapses
        clipped += np.sum(p == 1.0)
        difference = np.abs(seen[layer]["kernel"] - p)
        assert np.all(difference <= 5 * np.sqrt(p * (1 - p) / KEYS) + 1e-6)
    assert clipped > 0 or f_c < 1


def test_synapses_of_different_clusters_are_uncorrelated():
    evolve = evojax.synthesis(evojax.random("synapse"), evojax.constant(1.0, 0.5))
    params = network()
    draw, _ = frequencies(evolve, params, evolve.ancestor(params))
    lives = np.asarray(draw.masks["dense"]["kernel"]).reshape(KEYS, -1)[:, :128]
    correlations = np.corrcoef(lives.T) - np.eye(lives.shape[1])
    assert np.max(np.abs(correlations)) < 5.5 / np.sqrt(KEYS)


@pytest.mark.parametrize(("cluster", "axes"), [("kernel", (1, 2)), ("filter", (1, 2, 3))])
def test_members_of_a_cluster_live_or_die_together(cluster, axes):
    evolve = evojax.synthesis(evojax.random(cluster), evojax.constant(0.5, 1.0))
    params = network()
    draw, seen = frequencies(evolve, params, evolve.ancestor(params))
    lives = np.asarray(draw.masks["conv"]["kernel"])
    np.testing.assert_array_equal(lives.any(axes), lives.all(axes))
    # The floor of one cluster a layer lifts 0.5 by less than 0.002 where there are eight clusters.
    assert np.all(np.abs(seen["conv"]["kernel"] - 0.5) < 5 * np.sqrt(0.25 / KEYS) + 0.002)
    np.testing.assert_array_equal(draw.cluster_factor, 0.5)
    np.testing.assert_array_equal(draw.synapse_factor, 1.0)


def test_members_of_a_living_cluster_are_drawn_one_by_one():
    evolve = evojax.synthesis(evojax.random("kernel"), evojax.constant(0.5, 0.5))
    params = network()
    draw, _ = frequencies(evolve, params, evolve.ancestor(params))
    lives = np.asarray(draw.masks["conv"]["kernel"]).reshape(KEYS, 9, -1)
    both = (lives[:, 0] & lives[:, 1]).mean()
    pairs = lives[:, 0].size
    # One cluster draw for both, two synapse draws: 0.5 * 0.5 * 0.5.
    assert abs(both - 0.125) < 5 * np.sqrt(0.125 * 0.875 / pairs)
