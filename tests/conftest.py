"""Networks and images so small that a test trains them in a blink, and invented lineages."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from evojax.data import Dataset, Split
from evojax.learning import Model, linen

CLASSES = 4


class Tiny(nn.Module):
    """8x8 images: two convolutions and a classifier, 40 + 296 + 36 = 372 parameters."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3, 3), name="conv1")(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(8, (3, 3), name="conv2")(x))
        return nn.Dense(self.classes, name="dense")(x.mean((1, 2)))


class Dense(nn.Module):
    """Two dense layers."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(16, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(self.classes, name="logits")(x)


class Normalised(nn.Module):
    """A convolution with BatchNorm."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(4, (3, 3), use_bias=False, name="conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x))
        x = nn.avg_pool(x, (4, 4), (4, 4))
        return nn.Dense(self.classes, name="dense")(x.reshape(len(x), -1))


def pictures(count: int, size: int = 8, seed: int = 0) -> Split:
    """Images of four classes, each a bright quarter in noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    images = random.integers(0, 120, (count, size, size, 1)).astype(np.uint8)
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * half :][:half, column * half :][:, :half] += 100
    return Split(images, labels)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Neighbours run in the same process, with one fixture and one compiled program for all."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of caches for this session and the processes it starts, in place of the user's."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled programs are kept, for this process and those that it starts."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="package")
def quick_compilation(compilation_cache: Path) -> Iterator[None]:
    """Programs that run for a blink are compiled without optimisation, and only once."""
    options = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(compilation_cache),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: jax.config.values[name] for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.fixture
def full_compilation(quick_compilation: None) -> Iterator[None]:
    """Programs that are compared to the bit with another process's have all optimisations."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return Dataset("quarters", CLASSES, pictures(64), pictures(50, seed=1))


@pytest.fixture(scope="session")
def tiny() -> Model:
    return linen(Tiny())


@pytest.fixture(scope="session")
def dense() -> Model:
    return linen(Dense())


@pytest.fixture(scope="session")
def normalised() -> Model:
    return linen(Normalised())


_compiled: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: (
        _compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
)


@pytest.fixture
def compilations() -> Callable[[], AbstractContextManager[Callable[[], int]]]:
    """``with compilations() as count:``: count() is how many programs XLA compiled since."""

    @contextmanager
    def counting() -> Iterator[Callable[[], int]]:
        before = len(_compiled)
        yield lambda: len(_compiled) - before

    with counting() as count:
        jax.jit(lambda x: x + 1)(0.0)
        assert count() > 0, "this version of JAX names its compilations otherwise"
    return counting


@pytest.fixture
def live() -> Callable[[], int]:
    """``live()`` is how many bytes on the device hold arrays that came since the test began."""
    gc.collect()
    before = jax.live_arrays()  # Kept, or others would come under their numbers.
    known = {id(array) for array in before}

    def counted(before: list[jax.Array] = before) -> int:
        new = (array for array in jax.live_arrays() if id(array) not in known)
        # Some share a buffer.
        return sum({array.unsafe_buffer_pointer(): array.nbytes for array in new}.values())

    return counted


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
def make() -> Callable[..., dict[str, Any]]:
    """`synthetic`, for tests that need another lineage."""
    return synthetic
