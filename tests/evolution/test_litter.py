"""Of a litter the one with the lowest loss before any training is born."""

import dataclasses

import jax
import numpy as np
import pytest

from evojax.evolution import Settings, checkpoints, evolve, world
from evojax.learning import Network, Recipe, trainer

SETTINGS = Settings(
    generations=3, epochs=(2, 1), max_drop=100.0, sizes=(1.5, 3.0), litter=5,
    recipe=Recipe(batch_size=16, learning_rate=0.02),
)  # fmt: skip


@pytest.fixture
def judged(monkeypatch):
    """Every network whose loss a run asks for, with the loss."""
    seen = []

    def watching(model, recipe):
        made = trainer(model, recipe)

        def loss(key, network, images):
            seen.append((network, made.loss(key, network, images)))
            return seen[-1][1]

        return made._replace(loss=loss)

    monkeypatch.setattr(world, "trainer", watching)
    return seen


def test_the_lowest_loss_is_born(tiny, dataset, tmp_path, judged):
    lineage = evolve(SETTINGS, tiny, dataset, tmp_path / "run")
    for number, record in enumerate(lineage["generations"][1:], 2):
        litter = judged[5 * (number - 2) :][:5]
        assert record["litter"] == [loss for _, loss in litter]
        assert len({loss for _, loss in litter}) == 5
        born, _ = min(litter, key=lambda mate: mate[1])
        masks = checkpoints.restore(tmp_path / "run", number)[2]
        jax.tree.map(np.testing.assert_array_equal, masks, jax.device_get(born.masks))
        assert SETTINGS.sizes[number - 2] <= record["architectural_efficiency"]


def test_its_first_is_the_offspring_of_a_litter_of_one(tiny, dataset, tmp_path, judged):
    evolve(SETTINGS, tiny, dataset, tmp_path / "five")
    evolve(dataclasses.replace(SETTINGS, litter=1), tiny, dataset, tmp_path / "one")
    only = checkpoints.restore(tmp_path / "one", 2)[2]
    jax.tree.map(np.testing.assert_array_equal, only, jax.device_get(judged[0][0].masks))
    assert len(judged) == 10  # A litter of one is not judged.


def test_a_loss_that_is_not_finite_is_never_the_lowest(tiny, dataset, tmp_path, monkeypatch):
    losses = iter([np.nan, 3.0, np.inf, 2.0, -np.inf] * 2)
    made = lambda *_: trainer(*_)._replace(loss=lambda *_: next(losses))  # noqa: E731
    monkeypatch.setattr(world, "trainer", made)
    lineage = evolve(SETTINGS, tiny, dataset, tmp_path / "run")
    largest = float(np.finfo(np.float32).max)
    assert lineage["generations"][1]["litter"] == [largest, 3.0, largest, 2.0, largest]


@pytest.mark.parametrize("heredity", ["newborn", "rewind"])
def test_new_weights_tell_nothing_yet(heredity):
    with pytest.raises(ValueError, match="litter must be 1 where weights are not inherited"):
        Settings(litter=2, heredity=heredity)


def test_the_sampled_loss_is_the_mean_over_batches(tiny, dataset):
    from evojax.learning import on_device

    params, batch_stats = tiny.init(jax.random.key(0), (8, 8, 1))
    network = Network(params, batch_stats, jax.tree.map(lambda leaf: leaf == leaf, params))
    images = on_device(*dataset.train)
    whole, batches = (
        trainer(tiny, Recipe(batch_size=size)).loss(jax.random.key(1), network, images)
        for size in (64, 16)
    )
    assert whole == pytest.approx(batches, rel=1e-5)  # All 64 images in either case.
