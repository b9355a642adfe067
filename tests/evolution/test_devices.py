"""A generation's networks spread over devices: the same lineage, as many at once as fit."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax.sharding import AbstractMesh

from evojax.evolution import EpochFinished, RunStarted, classification, evolve, read_lineage
from evojax.hosts import ALONE
from evojax.learning import population_mesh, population_trainer
from tests.evolution.test_population import SETTINGS, untimed

ROOT = Path(__file__).parents[2]
WITH_HOLDOUT = dataclasses.replace(SETTINGS, generations=2, offspring=4, holdout=0.25)


def mesh_of(*sizes):
    """A mesh of devices that are not there."""
    return AbstractMesh(sizes, ("population", "data"))


def test_one_program_makes_the_lineage_of_one_network_after_another(normalised, dataset, tmp_path):
    one, other = [], []
    lineages = [
        evolve(WITH_HOLDOUT, normalised, dataset, tmp_path / name, watch=seen.append, mesh=mesh)
        for name, mesh, seen in (("alone", None, one), ("together", population_mesh(1), other))
    ]
    assert untimed(lineages[0]) == untimed(lineages[1])
    for events in (one, other):
        epochs = [event for event in events if isinstance(event, EpochFinished)]
        assert len(epochs) == 2 + 4 * 1
        assert {event.offspring for event in epochs if event.generation == 2} == {1, 2, 3, 4}


def test_only_as_many_at_once_as_fit(all_mate, tiny, dataset, tmp_path, monkeypatch):
    events, memory = [], classification.classification(dataset).memory(SETTINGS, tiny)
    assert memory.members == 1
    two = memory._replace(members=2).total + 1
    monkeypatch.setattr(classification, "available", lambda: two)
    limited = evolve(
        SETTINGS, tiny, dataset, tmp_path / "limited", watch=events.append, mesh=population_mesh(1)
    )
    assert [e.memory.members for e in events if isinstance(e, RunStarted)] == [2]
    assert untimed(limited) == untimed(read_lineage(all_mate))


def test_split_batches_take_less_and_their_exchange_more(tiny, dataset):
    task = classification.classification(dataset)
    whole, split = (task.memory(SETTINGS, tiny, mesh_of(1, data)) for data in (1, 2))
    assert split.activations == whole.activations // 2
    assert split.gradients == 2 * whole.gradients  # They are copied to one array.
    assert split.state == whole.state


def test_only_one_process_splits_batches(tiny, dataset, monkeypatch):
    monkeypatch.setattr(classification, "hosts_of", lambda mesh: ALONE._replace(several=True))
    check = classification.classification(dataset).check
    check(SETTINGS, tiny, mesh_of(2, 1))
    with pytest.raises(ValueError, match="several processes splits batches over 2 devices"):
        check(SETTINGS, tiny, mesh_of(2, 2))


def test_a_member_that_breaks_down_is_left_out(tiny, dataset, tmp_path, monkeypatch):
    def breaking(*args, **options):
        kit = population_trainer(*args, **options)

        def train(keys, networks, images, epochs, on_epoch):
            def broken(number, epoch):
                epoch.losses[1] = np.nan
                on_epoch(number, epoch)

            return kit.train(keys, networks, images, epochs, broken)

        return kit._replace(train=train)

    monkeypatch.setattr(classification, "population_trainer", breaking)
    settings = dataclasses.replace(WITH_HOLDOUT, population=3)
    lineage = evolve(settings, tiny, dataset, tmp_path / "run", mesh=population_mesh(1))
    second = lineage["generations"][1]
    known = [one["holdout_accuracy"] is not None for one in second["offspring"]]
    assert known == [True, False, True, True] and len(second["members"]) == 3


ON_DEVICES = """
import sys
from pathlib import Path
import jax
import numpy as np
from evojax.evolution import evolve, offspring, read_lineage
from evojax.learning import linen, population_mesh
from tests.conftest import CLASSES, Dataset, Tiny, pictures
from tests.evolution import test_generations
from tests.evolution.test_population import SETTINGS, untimed
data = Dataset("quarters", CLASSES, pictures(64), pictures(50, seed=1))
alone, out = map(Path, sys.argv[1:])
mates, stacks = offspring.filled, []

def filled(*args):
    stacks.append(mates(*args))
    return stacks[-1]

offspring.filled = filled
compiled, counts = [], []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: event.endswith("backend_compile_duration") and compiled.append(event)
)
together = evolve(
    SETTINGS, linen(Tiny()), data, out, mesh=population_mesh(8),
    watch=lambda event: counts.append(len(compiled)) if hasattr(event, "record") else None,
)
assert 0 < counts[0] < counts[1] == counts[2]
assert untimed(together) == untimed(read_lineage(alone))
# Spread over the devices, parents would be encoded with other roundings.
assert len(stacks) == 2
assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(stacks))
print("as on one device")

one = test_generations.with_(generations=2)
whole, split = (
    evolve(one, linen(Tiny()), data, out.with_name(name), mesh=mesh)["generations"]
    for name, mesh in (("whole", None), ("split", population_mesh(1, 2)))
)
assert [record["crc32"] for record in whole] != [record["crc32"] for record in split]
told = read_lineage(out.with_name("split"))
assert told["environment"]["data_parallel"] == 2
more = evolve(test_generations.with_(generations=3), linen(Tiny()), data, out.with_name("split"))
[later] = more["continued"]
assert later["generation"] == 3
assert told["environment"] == later["environment"] | {"data_parallel": 2}
losses = ([record["loss"] for record in records] for records in (whole, split))
np.testing.assert_allclose(*losses, rtol=1e-2)
try:
    evolve(one, linen(Tiny()), data, out.with_name("odd"), mesh=population_mesh(1, 3))
except ValueError as error:
    assert "batches of 16 images cannot be split evenly over 3 devices" in str(error)
    assert not out.with_name("odd").exists()
    print("and nearly so where batches are split")
"""


def test_the_lineage_is_the_same_on_eight_devices_as_on_one(all_mate, compilation_cache, tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        # Without optimisations, as the rest; tests/learning has it with them, and on two devices.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, str(all_mate), str(tmp_path / "run")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "as on one device\nand nearly so where batches are split" in done.stdout, done.stderr
