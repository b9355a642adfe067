"""Reductions by rows, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.genetics.reduction import LARGE, count, largest, summed, total

SHAPES = [(1,), (31,), (32,), (33,), (3, 3, 5, 7), (64, 1024)]


def uniform(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_array_of_any_shape(shape):
    values = uniform(shape)
    assert count(jnp.array(values < 0.3)) == np.sum(values < 0.3)
    assert total(jnp.array(values)) == pytest.approx(values.sum(dtype=np.float64), rel=1e-6)
    assert largest(jnp.array(values)) == values.max()


def test_several_arrays_are_one_sum():
    arrays = [uniform(shape, seed) for seed, shape in enumerate(SHAPES)]
    given = [jnp.array(a) for a in arrays]
    assert count(*[a < 0.3 for a in given]) == sum(np.sum(a < 0.3) for a in arrays)
    expected = sum(a.sum(dtype=np.float64) for a in arrays)
    assert total(*given) == pytest.approx(expected, rel=1e-6)


def test_more_ones_than_float32_can_count():
    flags = jnp.ones((1 << 24) + 3, bool)
    assert count(flags) == (1 << 24) + 3
    assert total(flags.astype(jnp.float32)) == pytest.approx((1 << 24) + 3, abs=4)


def test_small_probabilities_are_not_lost():
    assert total(jnp.full(100_000, 1e-3)) == pytest.approx(100.0, rel=1e-4)


def test_they_vmap():
    values = jnp.array(uniform((4, 3, 33)))
    np.testing.assert_array_equal(jax.vmap(largest)(values), values.max((1, 2)))
    np.testing.assert_array_equal(jax.vmap(count)(values < 0.5), (values < 0.5).sum((1, 2)))


@pytest.mark.parametrize("shape", [(5, 5, 3, 7), (3, 3, 128, 128)])
@pytest.mark.parametrize("axes", [(0, 1), (0, 1, 2), (), (0, 1, 3), (2,)])
def test_sums_of_clusters(shape, axes):
    """Of small arrays and of large ones, along first axes and along others."""
    values = uniform((2, *shape)) - 0.5
    assert (values[0].size >= LARGE) == (shape[0] == 3)
    found = jax.jit(jax.vmap(lambda each: summed(each, axes)))(jnp.array(values))
    wanted = values.astype(np.float64).sum(tuple(axis + 1 for axis in axes), keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert found.dtype == jnp.float32
