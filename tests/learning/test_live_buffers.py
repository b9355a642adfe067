"""Training works in the memory of its state, by counts of live buffers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.data.kitti import Batch
from evojax.learning import (
    Network,
    Recipe,
    detector,
    linen,
    on_device,
    population,
    population_trainer,
    trainer,
    training,
    training_memory,
)

RECIPE = Recipe(batch_size=16)
FEW = 400
"""Bytes of keys, numbers of epochs and losses: less than a mask."""


LAYERS = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(64), nn.relu, nn.Dense(4)])


class Grid(nn.Module):
    """A detector of one layer, 3,845 parameters."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Conv(5, (16, 16), 16, name="conv")(x / 128)


def fresh(model, shape, members=None):
    """A network all alive, or a stack of several."""
    params, batch_stats = model.init(jax.random.key(0), shape)
    masks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    network = Network(params, batch_stats, masks)
    if members is None:
        return network
    return jax.tree.map(lambda leaf: jnp.stack(members * [leaf]), network)


def alone(dataset, donate):
    """A training of a network to start, the bytes of its state, and of its images."""
    model, images, shape = linen(LAYERS), on_device(*dataset.train), (8, 8, 1)
    memory = training_memory(model, RECIPE, shape, 64)
    train = trainer(model, RECIPE, donate=donate).train
    return train, (jax.random.key(1), fresh(model, shape), images), memory.state, memory.images


def together(dataset, donate):
    """The same of three networks."""
    model, images, shape = linen(LAYERS), on_device(*dataset.train), (8, 8, 1)
    memory = training_memory(model, RECIPE, shape, 64)
    train = population_trainer(model, RECIPE, donate=donate).train
    keys = jax.random.split(jax.random.key(1), 3)
    return train, (keys, fresh(model, shape, 3), images), 3 * memory.state, memory.images


def detecting(dataset, donate):
    """The same of a detector, whose images do not stay on the device."""
    del dataset
    model, shape = linen(Grid()), (32, 32, 3)

    batch = Batch(
        np.zeros((16, *shape), np.uint8), np.zeros((16, 2, 4), np.float32), np.zeros(16, np.int32)
    )
    stream = detector.Stream(1, lambda seed, epoch: (each for each in [batch]))
    train = detector.detector(model, RECIPE, donate=donate).train
    memory = training_memory(model, RECIPE, shape, 16)
    return train, (jax.random.key(1), fresh(model, shape), stream), memory.state, 0


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("way", [alone, together, detecting])
def test_an_epoch_works_in_its_states_memory(live, dataset, monkeypatch, way, donate):
    """While the caller has its network still, and each epoch is looked at with its old state."""
    held, in_epochs = [], training.in_epochs

    def watched(train, state, epochs, on_epoch):
        def one(state, number):
            after = train(state, number)
            held.append(live())
            return after

        return in_epochs(one, state, epochs, on_epoch)

    for module in (training, population, detector):
        monkeypatch.setattr(module, "in_epochs", watched)
    train, (key, network, images), state, others = way(dataset, donate)
    weights = jax.tree.leaves(network[:2])
    kept = 0 if donate else sum(leaf.nbytes for leaf in weights)
    trained, _ = train(key, network, images, 3)
    assert len(held) == 3
    assert all(0 <= each - state - others - kept < FEW for each in held)
    assert all(leaf.is_deleted() == donate for leaf in weights)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((network.masks, trained)))


def test_a_larger_population_takes_no_more_than_its_states(dataset):
    model, images = linen(LAYERS), on_device(*dataset.train)
    pure = population.population_steps(model, RECIPE, population.population_mesh(1))
    found = []
    for members in (4, 8):
        network = fresh(model, (8, 8, 1), members)
        keys, number = jax.random.split(jax.random.key(1), members), np.int32(1)
        args = (jax.jit(pure.begin)(*network), network.masks, keys, images, number, number)
        compiled = jax.jit(pure.epoch, donate_argnums=0).lower(*args).compile()
        found.append(compiled.memory_analysis())
    four, eight = (each.temp_size_in_bytes for each in found)
    assert eight - four < found[0].alias_size_in_bytes / 4  # Less than a member's.
    assert found[1].output_size_in_bytes - found[1].alias_size_in_bytes < FEW
