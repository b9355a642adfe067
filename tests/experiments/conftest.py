"""A data set on disk, and compilation in a hurry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evojax.data import Dataset


@pytest.fixture(autouse=True, scope="package")
def _hurry(quick_compilation: None) -> None:
    pass


@pytest.fixture(scope="session")
def quarters(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz file of 64 training and 50 test images."""
    file = tmp_path_factory.mktemp("data") / "quarters.npz"
    (x_train, y_train), (x_test, y_test) = dataset.train, dataset.test
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return file
