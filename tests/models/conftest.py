"""Layers in NumPy, written independently, in float64; and compilation in a hurry."""

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="package")
def _hurry(quick_compilation: None) -> None:
    pass


def convolve(x, kernel, bias=0.0, pad=0, stride=1):
    h, w = kernel.shape[:2]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((n - k) // stride + 1 for n, k in zip(x.shape[1:3], (h, w), strict=True))
    out = np.zeros((len(x), height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            window = x[:, stride * i : stride * i + h, stride * j : stride * j + w]
            out[:, i, j] = np.tensordot(window, kernel, 3) + bias
    return out


def pool(x, reduce):
    # Caffe's ceil mode; NumPy cuts the last window short
    height, width = (-(-(size - 3) // 2) + 1 for size in x.shape[1:3])
    rows = [
        [reduce(x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], axis=(1, 2)) for j in range(width)]
        for i in range(height)
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def normalise(x, scale, bias, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


@pytest.fixture(scope="session")
def reference():
    """The functions `convolve`, `pool` and `normalise`."""
    return SimpleNamespace(convolve=convolve, pool=pool, normalise=normalise)
