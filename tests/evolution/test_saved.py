"""What is read of a run to be shown or exported is the network that its record tells of."""

import shutil

import jax
import numpy as np
import pytest

from evojax.evolution import CheckpointError, checkpoints, saved
from evojax.evolution.lineage import write_lineage
from evojax.learning import Network, linen
from evojax.models import LeNet, described


@pytest.fixture
def make_run(tmp_path, make):
    """``make_run(seed) -> folder`` of a run of one generation, a LeNet that is not trained."""

    def make_run(seed):
        out = tmp_path / f"seed{seed}"
        params, batch_stats = linen(LeNet()).init(jax.random.key(seed), (32, 32, 1))
        masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
        crc32 = checkpoints.save(out, 1, Network(params, batch_stats, masks))
        lineage = make(1, seed=seed, model=described(LeNet()))
        lineage["generations"][0]["crc32"] = crc32
        write_lineage(out, lineage)
        return out

    return make_run


def kernel(run):
    return checkpoints.restore(run, 1).params["conv1"]["kernel"]


def test_a_network_of_another_run_is_refused(make_run):
    run, other = make_run(0), make_run(1)
    np.testing.assert_array_equal(saved(run).variables["params"]["conv1"]["kernel"], kernel(run))
    shutil.rmtree(run / "generations")
    shutil.copytree(other / "generations", run / "generations")
    with pytest.raises(CheckpointError, match="generation 1 in .*seed0 is not the network of lin"):
        saved(run)


def test_a_member_of_a_population_is_read(make_run):
    run, other = make_run(0), make_run(1)
    second = checkpoints.restore(other, 1)
    crc32 = checkpoints.save(run, 1, second, 1)
    lineage = dict(saved(run).lineage)
    record = lineage["generations"][0]
    member = {
        "accuracy": 0.9, "holdout_accuracy": 0.9, "synapses": 5, "clusters": 2, "macs": 5,
        "bytes_sparse": 25, "parents": [], "train_seconds": 1.0,
    }  # fmt: skip
    record["members"] = [member | {"crc32": record["crc32"]}, member | {"crc32": crc32}]
    write_lineage(run, lineage)
    for place, expected in ((None, kernel(run)), (0, kernel(run)), (1, kernel(other))):
        found = saved(run, member=place)
        assert found.member == (place or 0)
        np.testing.assert_array_equal(found.variables["params"]["conv1"]["kernel"], expected)
    with pytest.raises(ValueError, match="member 2 of generation 1: expected 0 to 1"):
        saved(run, 1, 2)


def test_a_record_without_a_checksum_is_still_read(make_run):
    run = make_run(0)
    lineage = dict(saved(run).lineage)
    for crc32 in ({}, {"crc32": None}):
        first = {k: v for k, v in lineage["generations"][0].items() if k != "crc32"}
        write_lineage(run, lineage | {"generations": [first | crc32]})
        np.testing.assert_array_equal(
            saved(run).variables["params"]["conv1"]["kernel"], kernel(run)
        )
