"""What these tests run is compiled in a hurry."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def _hurry(quick_compilation: None) -> None:
    pass
