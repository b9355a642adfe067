"""The benchmarks as modules, and images on disk."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import flax.linen as nn
import jax
import numpy as np
import pytest

from evojax.data import Dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Small(nn.Module):
    """For 32x32 images: a convolution and a classifier."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (8, 8), (8, 8), name="conv")(x))
        return nn.Dense(self.classes, name="dense")(x.reshape(len(x), -1))


@pytest.fixture(autouse=True, scope="package")
def _hurry(quick_compilation: None) -> None:
    pass


@pytest.fixture(scope="package")
def methods() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    yield import_module("methods")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="package")
def peers(methods: ModuleType) -> ModuleType:
    pytest.importorskip("torch").set_num_threads(1)
    pytest.importorskip("torch_pruning")
    return import_module("peers")


@pytest.fixture(scope="package")
def quarters(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a data set of 64 training and 50 test images, for --data."""
    file = tmp_path_factory.mktemp("data") / "quarters.npz"
    (x_train, y_train), (x_test, y_test) = dataset.train, dataset.test
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return f"npz:{file}"
