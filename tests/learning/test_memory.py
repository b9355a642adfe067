"""What training takes, against counts by hand."""

import jax
import pytest

from evojax.evolution import RunStarted, Settings, evolve, generations
from evojax.learning import Recipe, memory, training_memory

SHAPE = (8, 8, 1)
DENSE = 64 * 16 + 16 + 16 * 4 + 4


@pytest.mark.parametrize(("optimizer", "moments"), [("adamw", 2), ("sgd", 1)])
def test_state_and_images(dense, optimizer, moments):
    found = training_memory(dense, Recipe(optimizer=optimizer, batch_size=16), SHAPE, 64)
    assert found.parameters == DENSE
    # Weights and moments of four bytes, a mask of one, Adam's count of steps.
    steps = 4 if optimizer == "adamw" else 0
    assert found.state == (1 + moments) * 4 * DENSE + DENSE + steps
    assert found.gradients == 4 * DENSE
    # The images, which are the largest array, what the hidden layer gives and where it is positive.
    assert found.activations == 16 * (4 * 64 + 5 * 16) + 2 * 16 * 4 * 64
    assert found.images == 64 * (64 + 4)
    assert found.network == found.state + found.gradients
    assert found.total == found.network + found.activations + found.images


def test_activations_grow_with_the_batch_and_shrink_with_the_type(tiny):
    def activations(**changes):
        return training_memory(tiny, Recipe(**changes), SHAPE, 1000).activations

    small, large = activations(batch_size=16), activations(batch_size=32)
    assert large > 1.8 * small
    # At least the images and both convolutions' outputs, which the backward pass reads.
    assert small >= 4 * 16 * (64 + 64 * 4 / 4)
    assert activations(batch_size=32, compute_dtype="bfloat16") < 0.7 * large


def test_it_is_told_before_anything_is_allocated(tiny, dataset, tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(generations, "make_world", lambda *_: pytest.fail("allocated"))
    monkeypatch.setattr(memory, "available", lambda: 5_000)
    with pytest.raises(ValueError, match="for 372 parameters .* the device has 0.0 GB. Take a"):
        evolve(Settings(), tiny, dataset, tmp_path / "run", watch=events.append)
    # 372 parameters of four bytes with a mask of one; each could be trained by itself.
    monkeypatch.setattr(memory, "available", lambda: 50_000)
    many = Settings(population=50, offspring=50)
    with pytest.raises(ValueError, match="100 networks, .* take 0.0 GB; .* Let fewer live"):
        evolve(many, tiny, dataset, tmp_path / "run", watch=events.append)
    monkeypatch.setattr(memory, "available", lambda: None)
    with pytest.raises(pytest.fail.Exception, match="allocated"):
        evolve(Settings(), tiny, dataset, tmp_path / "run", watch=events.append)
    (started,) = events
    assert isinstance(started, RunStarted)
    assert started.memory.parameters == 372
    # Those to train on and those to be tested with, a label of four bytes each.
    count = len(dataset.train.images) + len(dataset.test.images)
    assert started.memory.images == count * (64 + 4)
    assert not (tmp_path / "run").exists()


def test_the_cpu_has_memory():
    found = memory.available()
    assert found is None or found > 1 << 28
    assert jax.devices()[0].platform != "cpu" or found is not None


def test_as_many_at_once_as_fit():
    of_each = memory.Memory(parameters=1, state=60, gradients=20, activations=40, images=500)
    assert of_each.fitting(None, 7).members == 7
    # Three states and that of the one whose turn it is.
    assert of_each.fitting(800, 7).total == 4 * 60 + 20 + 40 + 500
    assert of_each.fitting(799, 7).members == 2
    assert of_each.fitting(5_000, 7).members == 7
    assert of_each.fitting(100, 7).members == 1  # Whether it fits at all is asked elsewhere.
