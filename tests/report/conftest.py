"""Folders with invented lineages (see tests/conftest.py): of no run whatever."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(tmp_path: Path, lineage: dict[str, Any]) -> Path:
    """A run's folder that holds nothing but lineage.json."""
    (tmp_path / "lineage.json").write_text(json.dumps(lineage))
    return tmp_path


@pytest.fixture
def results(tmp_path: Path) -> Callable[[str, str, dict[str, Any]], None]:
    """Writes a lineage to results/EXPERIMENT/TAG/lineage.json below tmp_path."""

    def add(experiment: str, tag: str, lineage: dict[str, Any]) -> None:
        folder = tmp_path / "results" / experiment / tag
        folder.mkdir(parents=True)
        (folder / "lineage.json").write_text(json.dumps(lineage))

    return add


def names(count: int) -> Sequence[str]:
    """Invented layer names, like a deep residual network's."""
    return [f"stage{i // 20 + 1}/block{i % 20 // 2}/conv{i % 2 + 1}" for i in range(count)]
