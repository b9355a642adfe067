"""The benchmarks as modules, and images on disk."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from evojax.data import Dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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
