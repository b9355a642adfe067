"""What these tests train is compiled in a hurry, and what several of them look at is run once."""

from pathlib import Path

import pytest

from evojax.evolution import evolve
from tests.evolution import test_population


@pytest.fixture(autouse=True, scope="package")
def _hurry(quick_compilation: None) -> None:
    pass


@pytest.fixture(scope="package")
def all_mate(quick_compilation, tiny, dataset, tmp_path_factory) -> Path:
    """Three networks, each the offspring of all three; only to be read."""
    out = tmp_path_factory.mktemp("all") / "run"
    evolve(test_population.SETTINGS, tiny, dataset, out)
    return out
