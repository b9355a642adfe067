"""Of a litter the one with the lowest loss before any training is born."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from evojax.evolution import GenerationStarted, Settings, checkpoints, classification, evolve
from evojax.learning import Network, Recipe, on_device, steps, trainer
from evojax.learning.images import normalise

SETTINGS = Settings(
    generations=3, epochs=(2, 1), max_drop=100.0, sizes=(1.5, 3.0), litter=5,
    recipe=Recipe(batch_size=16, learning_rate=0.02),
)  # fmt: skip


@pytest.fixture
def judged(monkeypatch):
    """Every network whose loss a run asks for, with the loss."""
    seen = []

    def watching(model, recipe, **options):
        made = trainer(model, recipe, **options)

        def loss(key, images):
            judge = made.loss(key, images)

            def judged(network):
                seen.append((network, judge(network)))
                return seen[-1][1]

            return judged

        return made._replace(loss=loss)

    monkeypatch.setattr(classification, "trainer", watching)
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


def test_a_litter_is_judged_by_one_sample(tiny, dataset, tmp_path, monkeypatch):
    keys = []

    def counting(model, recipe, **options):
        made = trainer(model, recipe, **options)
        return made._replace(loss=lambda key, images: keys.append(key) or made.loss(key, images))

    monkeypatch.setattr(classification, "trainer", counting)
    evolve(SETTINGS, tiny, dataset, tmp_path / "run")
    assert len(keys) == 2  # Of two generations after the ancestor.
    assert keys[0] != keys[1]


def test_a_loss_that_is_not_finite_is_never_the_lowest(tiny, dataset, tmp_path, monkeypatch):
    losses = iter([np.nan, 3.0, np.inf, 2.0, -np.inf] * 2)

    def judged(model, recipe, **options):
        made = trainer(model, recipe, **options)
        return made._replace(loss=lambda key, images: lambda network: next(losses))

    monkeypatch.setattr(classification, "trainer", judged)
    lineage = evolve(SETTINGS, tiny, dataset, tmp_path / "run")
    largest = float(np.finfo(np.float32).max)
    assert lineage["generations"][1]["litter"] == [largest, 3.0, largest, 2.0, largest]


@pytest.mark.parametrize("heredity", ["newborn", "rewind"])
def test_new_weights_tell_nothing_yet(heredity):
    with pytest.raises(ValueError, match="litter must be 1 where weights are not inherited"):
        Settings(litter=2, heredity=heredity)


def test_the_sampled_loss_is_that_of_the_keys_sample(tiny, dataset, monkeypatch):
    monkeypatch.setattr(steps, "LOSS_SAMPLE", 32)
    params, batch_stats = tiny.init(jax.random.key(0), (8, 8, 1))
    network = Network(params, batch_stats, jax.tree.map(lambda leaf: leaf == leaf, params))
    images = on_device(*dataset.train)
    key = jax.random.key(1)
    whole, batches, other = (
        trainer(tiny, Recipe(batch_size=size)).loss(one, images)(network)
        for size, one in ((32, key), (16, key), (16, jax.random.key(2)))
    )
    rows = np.asarray(jax.random.permutation(key, 64))[:32]
    logits, _ = tiny.forward(params, {}, normalise(images.images[rows], images), True)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, images.labels[rows]).mean()
    assert whole == pytest.approx(float(expected), rel=1e-5)
    assert whole == pytest.approx(batches, rel=1e-5)
    assert whole != pytest.approx(other, rel=1e-3)


def test_killed_it_goes_on_to_the_same_bits(normalised, dataset, tmp_path):
    """With everything that the experiments use: sizes, litters, sweeps, batch normalisation."""
    settings = dataclasses.replace(SETTINGS, sweep=True, seed=2)
    evolve(settings, normalised, dataset, tmp_path / "whole")

    class Killed(Exception):
        pass

    def watch(event):
        if isinstance(event, GenerationStarted) and event.generation == 3:
            raise Killed

    with pytest.raises(Killed):
        evolve(settings, normalised, dataset, tmp_path / "run", watch=watch)
    evolve(settings, normalised, dataset, tmp_path / "run")
    for number in (1, 2, 3):
        whole, run = (checkpoints.restore(tmp_path / name, number) for name in ("whole", "run"))
        jax.tree.map(np.testing.assert_array_equal, whole, run)
        channels = run.masks["conv"]["kernel"].any((0, 1, 2))
        np.testing.assert_array_equal(run.masks["norm"]["scale"], channels)
        np.testing.assert_array_equal(run.masks["norm"]["bias"], channels)
