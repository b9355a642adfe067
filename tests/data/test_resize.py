"""Bringing images to size."""

import jax
import numpy as np
import pytest

from evojax.data.resize import fit


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_native_size_is_untouched():
    x = images(3, 32, 32, 3)
    assert fit(x, 32) is x


@pytest.mark.parametrize("height, width", [(28, 28), (16, 16), (31, 32), (16, 27)])
def test_pads_with_zeros_around(height, width):
    x = images(2, height, width, 1)
    padded = fit(x, 32)
    assert padded.shape == (2, 32, 32, 1) and padded.dtype == np.uint8
    top, left = (32 - height) // 2, (32 - width) // 2
    np.testing.assert_array_equal(padded[:, top : top + height, left : left + width], x)
    assert padded.sum(dtype=np.int64) == x.sum(dtype=np.int64)


@pytest.mark.parametrize("height, width", [(8, 8), (15, 15), (96, 96), (33, 20), (9, 80), (1, 1)])
def test_resizes_like_jax(height, width):
    x = images(3, height, width, 3)
    resized = fit(x, 32)
    expected = jax.image.resize(x.astype(np.float32), (3, 32, 32, 3), "linear", antialias=True)
    assert resized.dtype == np.uint8
    np.testing.assert_allclose(resized, expected, atol=0.51)


def test_chunks_do_not_show():
    x = images(1030, 6, 6, 1)
    np.testing.assert_array_equal(fit(x, 16)[[0, 600, 1029]], fit(x[[0, 600, 1029]], 16))


def test_flat_images_stay_flat():
    x = np.full((1, 50, 70, 1), 255, np.uint8)
    assert (fit(x, 32) == 255).all()
