"""A run's record, lineage.json: what it says, read and written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from evojax.evolution.record import SCHEMA, load
from evojax.evolution.settings import Settings
from evojax.files import replace
from evojax.genetics import Census
from evojax.genetics.census import sparse_bytes
from evojax.learning import Layer
from evojax.learning.split import DATA


class RunFolderError(ValueError):
    """A run's folder cannot be used: foreign, damaged, of another configuration or not writable."""


def read_lineage(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a run's lineage.json.

    Raises:
        RunFolderError: if it is missing, damaged or of another schema.
    """
    try:
        return load(Path(run) / "lineage.json")
    except ValueError as error:
        raise RunFolderError(
            f"{error}. Put it back from a copy, or start a new run in another folder with --out."
        ) from error


def write_lineage(run: Path, lineage: dict[str, Any]) -> None:
    """Writes lineage.json, whole or not at all."""
    replace(run / "lineage.json", json.dumps(lineage, indent=1, allow_nan=False))


def new_lineage(
    experiment: str,
    command: str,
    settings: Settings,
    config: dict[str, Any],
    dataset: dict[str, Any],
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """The record of a run before its first generation; a mesh as of `surroundings`."""
    return {
        "schema": SCHEMA,
        "experiment": experiment,
        "command": command,
        "config": config,
        "seed": settings.seed,
        "environment": surroundings(mesh),
        "dataset": dataset,
        "status": "running",
        "generations": [],
    }


def configuration(settings: Settings, experiment: str, data: str) -> dict[str, Any]:
    """Everything that decides a lineage, as JSON gives it back."""
    config = {"experiment": experiment, "data": data, **asdict(settings)}
    config |= {f"recipe.{name}": value for name, value in config.pop("recipe").items()}
    return json.loads(json.dumps(config))


def surroundings(mesh: Mesh | None = None) -> dict[str, Any]:
    """Versions and devices that a result depends on.

    Args:
        mesh: of the devices that are worked on. Over how many of them batches are split is told
            where it is several, for each then sees a share; how members are spread changes nothing.
    """
    device = jax.devices()[0]
    parts = 1 if mesh is None else mesh.shape.get(DATA, 1)
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "platform": device.platform,
        "device": device.device_kind,
        "device_count": jax.device_count(),
        **({"processes": jax.process_count()} if jax.process_count() > 1 else {}),
        **({"data_parallel": parts} if parts > 1 else {}),
        "cpus": usable_cores(),
        "processor": _processor(),
        "git": _commit(),
    }


def _processor() -> str | None:
    """The processor's name, by which one machine's times are told from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def usable_cores() -> int:
    """How many cores this process may run on (`taskset`), which XLA has a thread for each of."""
    if hasattr(os, "sched_getaffinity"):  # On Linux.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def note_surroundings(lineage: dict[str, Any], mesh: Mesh | None = None) -> None:
    """Notes under "continued" where a run goes on, if elsewhere or otherwise than it ran last."""
    continued, now = lineage.get("continued", []), surroundings(mesh)
    last = continued[-1] if continued else lineage
    if last.get("environment") != now:
        first = len(lineage["generations"]) + 1
        lineage["continued"] = [*continued, {"generation": first, "environment": now}]


def entry(
    generation: int,
    census: Census,
    layers: tuple[Layer, ...],
    **measured: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """A generation's entry: its counts and what was measured.

    Multiply-accumulates count every living weight as often as it is multiplied (`Layer.positions`);
    what no product reads, as `evojax.cost` counts them, takes none. Bytes are of what counts as
    synapses, normalisation left out: float32, and the sparse ones with, per layer, the smallest of
    all entries, a bitmask and 2- or 4-byte indices.
    """
    positions = {layer.name: layer.positions for layer in layers}
    record = {
        "generation": generation,
        "synapses": census.synapses,
        "clusters": census.clusters,
        "architectural_efficiency": census.architectural_efficiency,
        "cluster_efficiency": census.cluster_efficiency,
        "cluster_efficiency_pooled": census.cluster_efficiency_pooled,
        "layers": [
            {
                "name": layer.name,
                "synapses": layer.synapses,
                "clusters": layer.clusters,
                "architectural_efficiency": layer.size / max(layer.synapses, 1),
                "cluster_efficiency": layer.total_clusters / max(layer.clusters, 1),
            }
            for layer in census.layers
        ],
        "macs": round(sum(layer.weights * positions.get(layer.name, 0) for layer in census.layers)),
        "bytes_dense": 4 * sum(layer.size for layer in census.layers),
        "bytes_sparse": sum(sparse_bytes(layer.size, layer.synapses) for layer in census.layers),
    }
    return record | measured


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
