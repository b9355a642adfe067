"""Networks and images so small that a test trains them in a blink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

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
