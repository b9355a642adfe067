"""The generation loop with what it cannot work with: models, images, broken trainings."""

import dataclasses
import shutil

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.data import Dataset
from evojax.evolution import (
    CheckpointError,
    GenerationStarted,
    RunFinished,
    RunFolderError,
    Settings,
    checkpoints,
    classification,
    evolve,
    generations,
    read_lineage,
)
from evojax.evolution.run_folder import open_run
from evojax.learning import NonFiniteLoss, Recipe, linen, trainer

SETTINGS = Settings(
    seed=3, generations=3, epochs=(2, 1), max_drop=100.0,
    recipe=Recipe(batch_size=16, learning_rate=0.02),
)  # fmt: skip


def with_(**changes):
    return dataclasses.replace(SETTINGS, **changes)


class Brittle(nn.Module):
    """Gives no number once a synapse is gone."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.ones, (64, 4))
        logits = x.reshape(len(x), -1) @ kernel
        return logits + jnp.where(jnp.any(kernel == 0), jnp.nan, 0.0)


def test_the_last_good_generation_is_kept_where_training_breaks_down(dataset, tmp_path):
    events = []
    lineage = evolve(SETTINGS, linen(Brittle()), dataset, tmp_path, watch=events.append)
    assert "became infinite or not a number in epoch 1 of 1" in lineage["status"]
    assert lineage["status"].startswith("stopped: ")
    assert lineage["status"].endswith("generation 1 is the last good one")
    assert [record["generation"] for record in read_lineage(tmp_path)["generations"]] == [1]
    assert np.isfinite(checkpoints.restore(tmp_path, 1).params["kernel"]).all()
    assert events[-1] == RunFinished(lineage["status"], str(tmp_path))


def test_what_broke_down_is_trained_again_only_on_other_terms(dataset, tmp_path):
    def evolved(**changes):
        events = []
        settings = with_(**{"sizes": (1.5, 3.0)} | changes)
        lineage = evolve(settings, linen(Brittle()), dataset, tmp_path, watch=events.append)
        return lineage, sum(isinstance(event, GenerationStarted) for event in events)

    first, trained = evolved()
    assert trained == 2
    # Generations after the one that broke down do not matter to it.
    for later in ({}, {}, {"generations": 9}, {"epochs": (2, 1, 4)}, {"sizes": (1.5, 9.0)}):
        again, trained = evolved(**later)
        assert trained == 0
        assert again["generations"] == first["generations"]
        assert again["status"] == read_lineage(tmp_path)["status"] == first["status"]
    for changes in ({"epochs": (2, 3)}, {"epochs": (2, 3), "sizes": (2.0,)}, {}):
        again, trained = evolved(**changes)
        assert trained == 1
        assert f"epoch 1 of {changes.get('epochs', (2, 1))[1]}" in again["status"]
        assert evolved(**changes) == (again, 0)


def test_a_run_goes_on_once_its_training_holds(dense, dataset, tmp_path, monkeypatch):
    def frail(model, recipe, **options):
        kit = trainer(model, recipe, **options)

        def train(key, network, images, epochs, on_epoch):
            if epochs == 1:
                raise NonFiniteLoss("the loss became infinite")
            return kit.train(key, network, images, epochs, on_epoch)

        return kit._replace(train=train)

    monkeypatch.setattr(classification, "trainer", frail)
    broken = evolve(SETTINGS, dense, dataset, tmp_path)
    assert broken["status"].startswith("stopped: the loss became infinite; generation 1 is")
    other = evolve(with_(sweep=True), dense, dataset, tmp_path)  # Tried again, and broken again.
    assert other["broken"] == broken["broken"] | {"sweep": True}
    mended = evolve(with_(epochs=(2, 2)), dense, dataset, tmp_path)
    assert mended["status"] == "finished: 3 generations"
    assert mended.keys() == broken.keys() - {"broken"}
    assert mended["generations"][0] == broken["generations"][0]


def test_an_ancestor_that_breaks_down_leaves_the_folder_free(dense, dataset, tmp_path):
    hot = Recipe(optimizer="sgd", learning_rate=1e30, warmup=0.0, batch_size=16)
    with pytest.raises(NonFiniteLoss, match="lower the learning rate"):
        evolve(with_(recipe=hot), dense, dataset, tmp_path)
    evolve(with_(generations=1), dense, dataset, tmp_path)


class Barren(nn.Module):
    @nn.compact
    def __call__(self, x):
        bias = self.param("bias", nn.initializers.zeros, (4,))
        return jnp.broadcast_to(bias, (len(x), 4))


def test_a_model_without_synapses_is_refused_before_anything_is_written(dataset, tmp_path):
    with pytest.raises(ValueError, match="no parameter carries synapses"):
        evolve(SETTINGS, linen(Barren()), dataset, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_classes_is_refused_before_anything_is_written(dense, dataset, tmp_path):
    more = Dataset("more", 7, dataset.train, dataset.test)
    with pytest.raises(
        ValueError,
        match="outputs of shape .1, 4. for one image: expected .1, 7., a logit",
    ):
        evolve(SETTINGS, dense, more, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_network_of_another_model_or_generation_is_refused(dense, tiny, dataset, tmp_path):
    settings = with_(generations=2)
    evolve(settings, dense, dataset, tmp_path)
    with pytest.raises(CheckpointError, match="another model: .*params/conv1/kernel"):
        evolve(with_(generations=3), tiny, dataset, tmp_path)
    (tmp_path / "generations" / "002").rename(tmp_path / "generations" / "aside")
    (tmp_path / "generations" / "001").rename(tmp_path / "generations" / "002")
    with pytest.raises(CheckpointError, match="generation 2 in .* is not the network of lineage"):
        evolve(with_(generations=3), dense, dataset, tmp_path)


class Single(nn.Module):
    """One layer, whose channels are the outputs."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="dense")(x.reshape(len(x), -1))


def test_a_model_without_channels_to_move_mates_with_tags_only(dataset, tmp_path):
    with pytest.raises(ValueError, match="tagging=False.* no channel of this .*Mate with them"):
        evolve(with_(tagging=False), linen(Single()), dataset, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


class Odd(nn.Module):
    """Classifiers that are none."""

    kind: str

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        if self.kind == "bare":
            return x[:, :4]
        if self.kind == "whole":
            self.param("steps", lambda key: jnp.zeros(4, jnp.int32))
        if self.kind == "empty":
            self.param("hole", nn.initializers.zeros, (0, 4))
        if self.kind == "cache":
            self.variable("cache", "seen", jnp.zeros, ())
        logits = nn.Dense(4, name="dense")(x)
        return {"pair": (logits, logits), "named": {"logits": logits}}.get(self.kind, logits)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bare", "Odd has the collections .*: expected params"),
        ("cache", "Odd has the collections .'cache', 'params'.: expected params"),
        ("whole", "the parameter steps is int32, which cannot be trained"),
        ("empty", r"the parameter hole has no entries .shape \(0, 4\)."),
        ("pair", "outputs of shape none .a tuple. for one image"),
        ("named", "outputs of shape none .a dict. for one image"),
    ],
)
def test_models_that_are_no_classifiers_are_refused(kind, message, dataset, tmp_path):
    with pytest.raises(ValueError, match=message):
        evolve(SETTINGS, linen(Odd(kind)), dataset, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoding": "magnitude", "selection_pressure": float("nan")}, "positive .*; got nan"),
        ({"encoding": "random", "truncation": -5.0}, "truncation must lie"),
        ({"encoding": "magnitude", "cluster": "blob"}, "cluster must be one of"),
        ({"sweep": "False"}, "sweep must be True or False, as Python has it; got 'False'"),
        ({"max_drop": "3"}, "max_drop must be a number"),
        ({"output_cluster": "row"}, "output_cluster must be filter, kernel or synapse"),
        ({"output_cluster": "filter", "encoding": "magnitude"}, "where cluster_driven draws"),
        (
            {"output_cluster": "kernel", "cluster": ("filter", "kernel")},
            "draws clusters of one of these kinds; got 'kernel'",
        ),
        ({"holdout": "x"}, "holdout must be a number or None"),
        ({"clusters": np.float32(0.5)}, "clusters must be a number, as Python has it"),
        ({"sizes": 2.0}, "sizes must be a tuple of numbers"),
        ({"epochs": 3}, "epochs must be a tuple of numbers"),
        ({"recipe": {}}, "recipe must be a Recipe; got {}"),
    ],
)
def test_settings_that_no_record_could_hold_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        with_(**wrong)


@pytest.mark.parametrize("recipe", [{"shift": 8}, {"crop": 9}, {"cutout": 40}])
def test_augmentation_as_large_as_the_images_is_refused(recipe, dense, dataset, tmp_path):
    settings = with_(recipe=dataclasses.replace(SETTINGS.recipe, **recipe))
    with pytest.raises(ValueError, match="less than the sides of the images"):
        evolve(settings, dense, dataset, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_network_of_another_seed_is_refused(number, dense, dataset, tmp_path):
    for seed in (3, 4):
        evolve(with_(seed=seed, generations=number), dense, dataset, tmp_path / f"{seed}")
    place = f"generations/{number:03d}"
    shutil.rmtree(tmp_path / "3" / place)
    shutil.copytree(tmp_path / "4" / place, tmp_path / "3" / place)
    with pytest.raises(CheckpointError, match="is not the network of lineage"):
        evolve(with_(generations=3), dense, dataset, tmp_path / "3")


def test_layers_renamed_in_the_record_are_refused(dense, dataset, tmp_path):
    evolve(with_(generations=1), dense, dataset, tmp_path)
    record = tmp_path / "lineage.json"
    record.write_text(record.read_text().replace('"name": "hidden"', '"name": "other"'))
    before = record.read_bytes()
    with pytest.raises(CheckpointError, match="is not the network of lineage"):
        evolve(SETTINGS, dense, dataset, tmp_path)
    assert record.read_bytes() == before


def test_what_somebody_else_put_there_is_not_overwritten(dense, dataset, tmp_path):
    evolve(with_(generations=1), dense, dataset, tmp_path)
    thesis = tmp_path / "generations" / "002" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    with pytest.raises(CheckpointError, match="something that evojax did not write"):
        evolve(SETTINGS, dense, dataset, tmp_path)
    assert thesis.read_text() == "mine"


def test_other_images_are_refused(dense, dataset, tmp_path):
    settings = with_(generations=1)
    evolve(settings, dense, dataset, tmp_path)
    test = dataset.test._replace(labels=(dataset.test.labels + 1) % 4)
    with pytest.raises(RunFolderError, match="crc32"):
        evolve(settings, dense, dataclasses.replace(dataset, test=test), tmp_path)


def test_a_folder_that_is_refused_costs_no_work(dense, dataset, tmp_path, monkeypatch):
    evolve(with_(generations=1), dense, dataset, tmp_path / "run")
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(generations, "make_world", lambda *_: pytest.fail("allocated"))
    test = dataset.test._replace(labels=(dataset.test.labels + 1) % 4)
    other = dataclasses.replace(dataset, test=test)
    with pytest.raises(RunFolderError, match="seed: 3 there, 4 now"):
        evolve(with_(seed=4), dense, dataset, tmp_path / "run")
    with pytest.raises(RunFolderError, match="crc32: "):
        evolve(SETTINGS, dense, other, tmp_path / "run")
    with pytest.raises(RunFolderError, match="is no folder"):
        evolve(SETTINGS, dense, dataset, tmp_path / "file")
    there = read_lineage(tmp_path / "run")
    in_use = pytest.raises(RunFolderError, match="in use by another process")
    with open_run(tmp_path / "run", there["config"], there["dataset"]), in_use:
        evolve(SETTINGS, dense, dataset, tmp_path / "run")


class Layered(nn.Module):
    """Subtracts a mean of each image, which a sweep cannot follow."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="dense")(nn.LayerNorm()(nn.Conv(4, (3, 3))(x)).mean((1, 2)))


def test_a_model_that_a_sweep_cannot_follow_leaves_no_folder_behind(dataset, tmp_path):
    with pytest.raises(ValueError, match="sweep cannot follow signals through this model"):
        evolve(with_(sweep=True), linen(Layered()), dataset, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 5])
def test_hardly_any_images(count, dense, dataset, tmp_path):
    train = type(dataset.train)(*(array[:count] for array in dataset.train))
    few = dataclasses.replace(dataset, train=train)
    lineage = evolve(with_(generations=2), dense, few, tmp_path / "run")
    assert len(lineage["generations"]) == 2
    if count == 1:
        with pytest.raises(ValueError, match=r"holdout is 0\.1, but no class of quarters has two"):
            evolve(with_(offspring=2), dense, few, tmp_path / "held")
        assert not (tmp_path / "held").exists()
