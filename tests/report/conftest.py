"""Synthetic lineages for the tests: invented numbers in the right form, of no run whatever."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

LENET = {"conv1": 832, "conv2": 25632, "conv3": 51264, "dense1": 65600, "dense2": 650}
KERNELS = {"conv1": 32, "conv2": 1024, "conv3": 2048, "dense1": 4096, "dense2": 640}


def synthetic(
    generations: int = 13,
    layers: dict[str, int] | None = None,
    clusters: dict[str, int] | None = None,
    *,
    keep: float = 0.668,
    ancestor: float = 0.995,
    fall: float = 0.004,
    detection: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """A lineage whose layers shrink by about `keep` a generation, deeper ones faster."""
    layers = dict(layers or LENET)
    clusters = dict(clusters or KERNELS)
    records = [
        _record(g, layers, clusters, keep, ancestor, fall, detection) for g in range(generations)
    ]
    lineage = {
        "schema": 1,
        "experiment": "mnist_lenet",
        "command": "python experiments/mnist_lenet.py --out runs/synthetic",
        "config": {"seed": 0, "environment": {"clusters": 0.8, "synapses": 0.8}},
        "seed": 0,
        "environment": {"python": "3.11", "jax": "0.10.2", "device": "cpu", "device_count": 1},
        "dataset": {
            "name": "mnist", "train": 60000, "holdout": 0, "test": 10000, "classes": 10,
            "image_shape": [32, 32, 1],
        },
        "status": f"finished: {generations} generations",
        "generations": records,
    }  # fmt: skip
    return {**lineage, **fields}


def _record(
    g: int,
    layers: dict[str, int],
    clusters: dict[str, int],
    keep: float,
    ancestor: float,
    fall: float,
    detection: bool,
) -> dict[str, Any]:
    depth = max(len(layers) - 1, 1)
    entries = []
    for index, (name, total) in enumerate(layers.items()):
        share = (keep ** (0.55 + 0.6 * index / depth)) ** g
        lives = (keep ** (0.3 + 0.2 * index / depth)) ** g
        entries.append(
            {
                "name": name,
                "synapses": max(round(total * share), 1),
                "clusters": max(round(clusters[name] * lives), 1),
                "architectural_efficiency": total / max(round(total * share), 1),
                "cluster_efficiency": clusters[name] / max(round(clusters[name] * lives), 1),
            }
        )
    counted = entries[:-1] if len(entries) > 1 else entries
    synapses = sum(entry["synapses"] for entry in entries)
    alive = sum(entry["clusters"] for entry in counted)
    total = sum(clusters[entry["name"]] for entry in counted)
    score = max(ancestor - fall * max(g - 4, 0) ** 2 / 20, 0.0)
    record = {
        "generation": g + 1,
        "synapses": synapses,
        "clusters": alive,
        "architectural_efficiency": sum(layers.values()) / synapses,
        "cluster_efficiency": sum(e["cluster_efficiency"] for e in counted) / len(counted),
        "cluster_efficiency_pooled": total / alive,
        "layers": entries,
        "holdout_accuracy": None,
        "loss": 0.01 * (g + 1),
        "epochs": 3,
        "macs": round(10_700_000 * keep ** (0.4 * g)),
        "bytes_dense": 575_912,
        "bytes_sparse": 8 * synapses,
        "train_seconds": 12.3 + g,
    }
    record |= {"precision": score, "recall": score - 0.16} if detection else {"accuracy": score}
    if g:
        record |= {"cluster_factor": 1.3, "synapse_factor": 1.2, "capped": False, "rescued": 0}
    return record


@pytest.fixture
def lineage() -> dict[str, Any]:
    """Thirteen invented generations of a LeNet."""
    return synthetic()


@pytest.fixture
def run(tmp_path: Path, lineage: dict[str, Any]) -> Path:
    """A run's folder that holds nothing but lineage.json."""
    (tmp_path / "lineage.json").write_text(json.dumps(lineage))
    return tmp_path


@pytest.fixture
def make() -> Callable[..., dict[str, Any]]:
    """`synthetic`, for tests that need another lineage."""
    return synthetic


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
