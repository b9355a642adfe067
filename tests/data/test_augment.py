"""Augmentation on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.data import shift


def test_every_image_moves_by_its_own_offset_with_zeros_behind():
    x = np.random.default_rng(0).integers(1, 255, (200, 6, 5, 2)).astype(np.uint8)
    moved = np.asarray(shift(jax.random.key(1), x, 2))
    assert moved.shape == x.shape and moved.dtype == x.dtype
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    offsets = []
    for before, after in zip(padded, moved, strict=True):
        fits = [
            (y, z)
            for y in range(5)
            for z in range(5)
            if (before[y : y + 6, z : z + 5] == after).all()
        ]
        assert len(fits) == 1
        offsets += fits
    assert set(offsets) == {(y, z) for y in range(5) for z in range(5)}


def test_a_function_of_its_key():
    x = jnp.arange(16 * 36.0).reshape(16, 6, 6, 1) + 1
    key, other = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(shift(key, x, 1), shift(key, x, 1))
    assert (shift(key, x, 1) != shift(other, x, 1)).any()
    assert shift(key, x, 0) is x


def test_compiles_once_and_vmaps_over_keys():
    traces = []

    def count(key, x):
        traces.append(1)
        return shift(key, x, 1)

    compiled = jax.jit(count)
    x = jnp.ones((4, 6, 6, 1))
    compiled(jax.random.key(0), x)
    compiled(jax.random.key(1), x)
    assert len(traces) == 1
    keys = jax.random.split(jax.random.key(0), 3)
    assert jax.vmap(lambda key: shift(key, x, 1))(keys).shape == (3, 4, 6, 6, 1)


def test_refuses():
    with pytest.raises(ValueError, match="pixels is -1"):
        shift(jax.random.key(0), jnp.ones((1, 4, 4, 1)), -1)
    with pytest.raises(ValueError, match=r"expected \(N, H, W, C\)"):
        shift(jax.random.key(0), jnp.ones((4, 4, 1)), 1)
