"""The generation loop: what it records, when it ends, how it goes on after a crash."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from evojax.evolution import (
    EpochFinished,
    GenerationFinished,
    GenerationStarted,
    RunFinished,
    RunStarted,
    Settings,
    checkpoints,
    classification,
    evolve,
    lineage,
    read_lineage,
)
from evojax.evolution.ending import status_of
from evojax.learning import NonFiniteLoss, Recipe, trainer

SETTINGS = Settings(
    seed=3, generations=3, epochs=(2, 1), max_drop=100.0,
    recipe=Recipe(batch_size=16, learning_rate=0.02),
)  # fmt: skip


def with_(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def timeless(lineage):
    """A lineage without its timings, how it was started and where."""
    records = [record | {"train_seconds": None} for record in lineage["generations"]]
    about = dict.fromkeys(("command", "environment", "continued"))
    return lineage | about | {"generations": records}


def networks(run):
    """All networks of a run, as bytes."""
    numbers = range(1, len(read_lineage(run)["generations"]) + 1)
    leaves = [jax.tree.leaves(checkpoints.restore(run, number)) for number in numbers]
    return [[leaf.tobytes() for leaf in network] for network in leaves]


@pytest.fixture(scope="module")
def finished(dense, dataset, tmp_path_factory):
    """An uninterrupted run, and what it told."""
    out, events = tmp_path_factory.mktemp("runs") / "run", []
    evolve(SETTINGS, dense, dataset, out, experiment="test", command="test.py", watch=events.append)
    return out, events


def test_the_record_of_a_run(finished):
    lineage = read_lineage(finished[0])
    assert lineage["schema"] == 1
    assert (lineage["experiment"], lineage["command"], lineage["seed"]) == ("test", "test.py", 3)
    assert lineage["config"]["recipe.learning_rate"] == 0.02
    assert lineage["environment"]["device_count"] == jax.device_count()
    assert lineage["environment"]["jax"] == jax.__version__
    about = {"train": 64, "holdout": 0, "test": 50, "classes": 4, "image_shape": [8, 8, 1]}
    assert lineage["dataset"].items() >= ({"name": "quarters"} | about).items()
    assert lineage["status"] == "finished: 3 generations"
    first, second, third = lineage["generations"]
    layers = [
        {"hidden": 64 * 16 + 16, "logits": 16 * 4 + 4}[layer["name"]] for layer in first["layers"]
    ]
    assert layers == [layer["synapses"] for layer in first["layers"]] == [1040, 68]
    assert first["synapses"] == 1108
    assert first["macs"] == 64 * 16 + 16 * 4
    assert (first["bytes_dense"], first["epochs"], second["epochs"]) == (4 * 1108, 2, 1)
    assert "cluster_factor" not in first
    assert first["architectural_efficiency"] == 1.0
    for parent, child in ((first, second), (second, third)):
        assert child["synapses"] <= 0.64 * parent["synapses"]
        assert child["architectural_efficiency"] == 1108 / child["synapses"]
        assert child["macs"] < parent["macs"]
        assert child["bytes_sparse"] < child["bytes_dense"] == first["bytes_dense"]
        assert child["offspring"] == [{"holdout_accuracy": None, "synapses": child["synapses"]}]
        assert child["holdout_accuracy"] is None
        assert np.isfinite([child["cluster_factor"], child["synapse_factor"]]).all()
    for record in lineage["generations"]:
        assert (record["accuracy"] * 50).is_integer()
        assert record["train_seconds"] > 0
        assert record["loss"] > 0
    json.loads(
        (finished[0] / "lineage.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )


def test_saved_networks_are_those_of_the_record(finished):
    out, _ = finished
    parent = None
    for record in read_lineage(out)["generations"]:
        network = checkpoints.restore(out, record["generation"])
        masks = jax.tree.leaves(network.masks)
        assert sum(int(mask.sum()) for mask in masks) == record["synapses"]
        for weights, mask in zip(jax.tree.leaves(network.params), masks, strict=True):
            assert not weights[~mask].any()
            assert not np.signbit(weights[~mask]).any()
        if parent is not None:
            for child, old in zip(masks, parent, strict=True):
                assert not (child & ~old).any()
        parent = masks


def test_events_come_in_order(finished):
    out, events = finished
    kinds = [
        (type(event).__name__, getattr(event, "generation", None), getattr(event, "epoch", None))
        for event in events
    ]
    assert kinds == [
        ("RunStarted", None, None),
        ("GenerationStarted", 1, None), ("EpochFinished", 1, 1), ("EpochFinished", 1, 2),
        ("GenerationFinished", None, None),
        ("GenerationStarted", 2, None), ("EpochFinished", 2, 1), ("GenerationFinished", None, None),
        ("GenerationStarted", 3, None), ("EpochFinished", 3, 1), ("GenerationFinished", None, None),
        ("RunFinished", None, None),
    ]  # fmt: skip
    lineage = read_lineage(out)
    started = [event for event in events if isinstance(event, GenerationStarted)]
    assert started[0] == GenerationStarted(1, 3, 1, 2, 1108, 4)
    assert [event.total_epochs for event in started] == [4, 2, 1]
    assert [event.synapses for event in started] == [r["synapses"] for r in lineage["generations"]]
    records = [event.record for event in events if isinstance(event, GenerationFinished)]
    assert records == lineage["generations"]
    assert events[-1] == RunFinished("finished: 3 generations", str(out))
    assert all(event.seconds > 0 for event in events if isinstance(event, EpochFinished))


def test_a_finished_run_is_left_as_it_is(finished, dense, dataset):
    out, _ = finished
    before, events = read_lineage(out), []
    assert evolve(SETTINGS, dense, dataset, out, experiment="test", watch=events.append) == before
    assert [type(event) for event in events] == [RunStarted, RunFinished]
    assert read_lineage(out) == before


def test_the_seed_decides(finished, dense, dataset, tmp_path):
    out, _ = finished
    evolve(SETTINGS, dense, dataset, tmp_path / "same", experiment="test", command="test.py")
    assert timeless(read_lineage(tmp_path / "same")) == timeless(read_lineage(out))
    assert networks(tmp_path / "same") == networks(out)
    evolve(with_(seed=4), dense, dataset, tmp_path / "other", experiment="test")
    assert networks(tmp_path / "other")[0] != networks(out)[0]


class Killed(BaseException):
    """Not an Exception, as a signal is none."""


@pytest.mark.parametrize("fatal", [1, 2, 4, 6, 7, 10])
def test_a_run_that_breaks_off_anywhere_continues_to_the_same_bits(
    fatal, finished, dense, dataset, tmp_path
):
    out, events = finished
    seen = []

    def watch(event):
        seen.append(event)
        if len(seen) == fatal:
            raise Killed

    with pytest.raises(Killed):
        evolve(SETTINGS, dense, dataset, tmp_path, experiment="test", watch=watch)
    done = sum(isinstance(event, GenerationFinished) for event in events[:fatal])
    if done:
        assert read_lineage(tmp_path)["status"] == "running"
        assert len(read_lineage(tmp_path)["generations"]) == done
    evolve(SETTINGS, dense, dataset, tmp_path, experiment="test", command="test.py")
    assert timeless(read_lineage(tmp_path)) == timeless(read_lineage(out))
    assert networks(tmp_path) == networks(out)


def test_a_crash_between_saving_and_recording_costs_one_generation(
    finished, dense, dataset, tmp_path, monkeypatch
):
    out, _ = finished
    real, calls = checkpoints.save, []

    def save(run, generation, network):
        calls.append(generation)
        crc32 = real(run, generation, network)
        if generation == 2 and calls.count(2) == 1:
            raise Killed
        return crc32

    monkeypatch.setattr(checkpoints, "save", save)
    with pytest.raises(Killed):
        evolve(SETTINGS, dense, dataset, tmp_path, experiment="test")
    evolve(SETTINGS, dense, dataset, tmp_path, experiment="test")
    assert calls == [1, 2, 2, 3]
    assert networks(tmp_path) == networks(out)


def test_more_generations_continue_a_finished_run(finished, dense, dataset, tmp_path):
    out, _ = finished
    evolve(with_(generations=2), dense, dataset, tmp_path, experiment="test", command="test.py")
    status = []
    watch = lambda event: status.append(read_lineage(tmp_path)["status"])  # noqa: E731
    evolve(SETTINGS, dense, dataset, tmp_path, experiment="test", watch=watch)
    assert timeless(read_lineage(tmp_path)) == timeless(read_lineage(out))
    assert networks(tmp_path) == networks(out)
    assert status[-2:] == ["running", "finished: 3 generations"]


@pytest.mark.parametrize(
    "changes",
    [{"encoding": "random"}, {"encoding": "magnitude", "clusters": 0.7, "sweep": True}],
)
def test_a_copy_of_an_ancestor_evolves_in_its_own_way(dense, dataset, tmp_path, changes):
    one, copy, whole = (tmp_path / name for name in ("one", "copy", "whole"))
    evolve(with_(generations=1, max_drop=3.0), dense, dataset, one, command="one")
    shutil.copytree(one, copy)
    own = evolve(with_(**changes), dense, dataset, copy, command="own")
    assert timeless(own) == timeless(evolve(with_(**changes), dense, dataset, whole))
    assert networks(copy) == networks(whole)
    assert own["command"] == "own"  # It gives all of this lineage.


def test_where_a_run_went_on_is_noted(dense, dataset, tmp_path, monkeypatch):
    def evolved(number, place):
        monkeypatch.setattr(lineage, "surroundings", lambda mesh: {"device": place})
        return evolve(with_(generations=number), dense, dataset, tmp_path)

    assert "continued" not in evolved(1, "here")
    assert "continued" not in evolved(1, "there")  # Nothing was left to do.
    assert "continued" not in evolved(2, "here")
    for number, place in ((3, "there"), (4, "there"), (5, "here")):
        last = evolved(number, place)
    assert last["environment"] == {"device": "here"}
    assert last["continued"] == [
        {"generation": 3, "environment": {"device": "there"}},
        {"generation": 5, "environment": {"device": "here"}},
    ]


def test_it_stops_when_accuracy_fell_too_far(dense, dataset, tmp_path):
    settings = with_(generations=9, clusters=0.1, synapses=0.1, max_drop=10.0, epochs=(20, 1))
    lineage = evolve(settings, dense, dataset, tmp_path)
    *before, last = [record["accuracy"] for record in lineage["generations"]]
    assert 100 * (before[0] - last) > 10.0
    assert all(100 * (before[0] - accuracy) <= 10.0 for accuracy in before)
    assert lineage["status"].startswith("stopped: accuracy fell ")
    assert lineage["status"].endswith(f"in generation {len(before) + 1} (max_drop 10)")
    assert checkpoints.restore(tmp_path, len(before) + 1)  # What went too far is kept as well.


def test_three_points_are_not_more_than_three_points():
    records = [
        {"generation": n, "accuracy": a, "synapses": 9 - n} for n, a in ((1, 0.97), (2, 0.94))
    ]
    assert 100 * (0.97 - 0.94) > 3.0  # In floating point.
    assert status_of(with_(max_drop=3.0), {"generations": records}) is None
    records[1]["accuracy"] = 0.9399
    assert "3.01 points" in status_of(with_(max_drop=3.0), {"generations": records})


def test_it_stops_when_nothing_gets_smaller(dense, dataset, tmp_path):
    settings = with_(generations=9, environment="constant", clusters=1.0, synapses=1.0,
                     selection_pressure=1e-6)  # fmt: skip
    lineage = evolve(settings, dense, dataset, tmp_path)
    assert lineage["status"] == "stopped: generation 2 is no smaller than its parent"
    assert len(lineage["generations"]) == 2


def test_the_fittest_of_three_on_held_out_images_lives_on(dense, dataset, tmp_path):
    settings = with_(generations=2, offspring=3, holdout=0.25)
    events = []
    evolve(settings, dense, dataset, tmp_path / "three", watch=events.append)
    lineage = read_lineage(tmp_path / "three")
    assert (lineage["dataset"]["train"], lineage["dataset"]["holdout"]) == (48, 16)
    first, second = lineage["generations"]
    assert first["holdout_accuracy"] is not None
    offspring = second["offspring"]
    assert len(offspring) == 3
    accuracies = [one["holdout_accuracy"] for one in offspring]
    assert second["holdout_accuracy"] == max(accuracies)
    assert second["synapses"] == offspring[accuracies.index(max(accuracies))]["synapses"]
    assert len({one["synapses"] for one in offspring}) > 1 or len(set(accuracies)) > 1
    epochs = [(e.generation, e.offspring, e.epoch) for e in events if isinstance(e, EpochFinished)]
    assert epochs == [(1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 2, 1), (2, 3, 1)]
    started = [e for e in events if isinstance(e, GenerationStarted)]
    assert [(e.offspring, e.total_epochs) for e in started] == [(1, 5), (3, 3)]

    alone, one = [], with_(generations=2, offspring=1, holdout=0.25)
    evolve(one, dense, dataset, tmp_path / "one", watch=alone.append)
    only = read_lineage(tmp_path / "one")["generations"][1]
    assert only["offspring"] == offspring[:1]
    losses = [[e.loss for e in told if isinstance(e, EpochFinished)] for told in (alone, events)]
    assert losses[0] == losses[1][:3]


def test_an_offspring_that_breaks_down_leaves_the_field_to_its_siblings(
    dense, dataset, tmp_path, monkeypatch
):
    def frail(model, recipe, **options):
        kit, calls = trainer(model, recipe, **options), []

        def train(*args):
            calls.append(args)
            if len(calls) == 3:  # The second of the second generation.
                raise NonFiniteLoss("the loss became infinite")
            return kit.train(*args)

        return kit._replace(train=train)

    monkeypatch.setattr(classification, "trainer", frail)
    lineage = evolve(with_(generations=2, offspring=3), dense, dataset, tmp_path)
    assert lineage["status"] == "finished: 2 generations"
    offspring = lineage["generations"][1]["offspring"]
    assert [one["holdout_accuracy"] is None for one in offspring] == [False, True, False]
    assert all(0 < one["synapses"] < 1108 for one in offspring)


@pytest.mark.parametrize("heredity", ["newborn", "rewind"])
def test_nothing_compiles_from_the_third_generation_on(
    heredity, normalised, dataset, tmp_path, compilations
):
    with compilations() as count:
        counts = []
        evolve(
            with_(generations=4, heredity=heredity, sweep=True), normalised, dataset, tmp_path,
            watch=lambda event: counts.append(count()) if hasattr(event, "record") else None,
        )  # fmt: skip
    assert len(counts) >= 3
    assert counts[1] == counts[-1]


def test_rewound_offspring_start_from_the_ancestors_first_weights(dense, dataset, tmp_path):
    still = Recipe(optimizer="sgd", learning_rate=1e-12, batch_size=16)
    evolve(with_(generations=2, heredity="rewind", recipe=still), dense, dataset, tmp_path)
    ancestor, child = (checkpoints.restore(tmp_path, number) for number in (1, 2))
    for old, new, mask in zip(
        *map(jax.tree.leaves, (ancestor.params, child.params, child.masks)), strict=True
    ):
        np.testing.assert_allclose(np.where(mask, old, 0.0), new, atol=1e-9)


def test_outputs_have_clusters_of_their_own(dense, dataset, tmp_path):
    filters = {"cluster": "filter", "clusters": 0.4, "synapses": 1.0, "generations": 2}
    classes = {}
    for kind in (None, "kernel"):
        out = tmp_path / str(kind)
        evolve(with_(**filters, output_cluster=kind), dense, dataset, out)
        masks = checkpoints.restore(out, 2).masks
        classes[kind] = int(np.any(masks["logits"]["kernel"], 0).sum())
    assert classes[None] < classes["kernel"] == 4
