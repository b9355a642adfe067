"""Which weights an offspring starts from."""

import jax
import numpy as np
import pytest

from evojax.evolution.heredity import conceive
from evojax.learning import Model, Network

SHAPE = (2,)
MASKS = {"w": np.array([True, False, True]), "scale": None}


def init(key, shape):
    """Weights that tell which key they came from."""
    number = jax.random.key_data(key)[-1].astype(np.float32)
    return {"w": number + np.arange(3.0), "scale": number * np.ones(1)}, {"mean": number}


MODEL = Model(init, lambda *_: None, lambda _: ())
PARENT = Network({"w": np.array([7.0, 8.0, 9.0]), "scale": np.array([5.0])}, {"mean": 6.0}, None)


@pytest.mark.parametrize(
    ("heredity", "weights", "scale", "mean"),
    [
        ("inherit", [7.0, 0.0, 9.0], 5.0, 6.0),
        ("newborn", [40.0, 0.0, 42.0], 40.0, 40.0),
        ("rewind", [20.0, 0.0, 22.0], 20.0, 20.0),
    ],
)
def test_weights_by_heredity(heredity, weights, scale, mean):
    child = conceive(jax.random.key(40), jax.random.key(20), heredity, MODEL, SHAPE, PARENT, MASKS)
    assert child.params["w"].tolist() == weights
    assert child.params["scale"].tolist() == [scale]
    assert float(child.batch_stats["mean"]) == mean
    assert child.masks is MASKS


# Three parents, the fittest first; columns are synapses.
SEVERAL = Network(
    {
        "w": np.array([[2.0, 0.0, 5.0, 0.0], [4.0, -3.0, 0.0, 0.0], [0.0, 6.0, 0.0, 0.0]]),
        "scale": np.array([[1.0], [2.0], [6.0]]),
    },
    {"mean": np.array([1.0, 5.0, 3.0])},
    {
        "w": np.array([[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]], bool),
        "scale": None,
    },
)


@pytest.mark.parametrize(
    ("heredity", "weights", "scale", "mean"),
    [("mean", [3.0, 1.5, 5.0, 0.0], 3.0, 3.0), ("fittest", [2.0, -3.0, 5.0, 0.0], 1.0, 1.0)],
)
def test_weights_of_several_parents_by_hand(heredity, weights, scale, mean):
    def born(alive):
        masks = {"w": np.array(alive, bool), "scale": None}
        return conceive(
            jax.random.key(0), jax.random.key(1), heredity, MODEL, SHAPE, SEVERAL, masks
        )

    child = born([1, 1, 1, 1])
    assert child.params["w"].tolist() == weights
    assert child.params["scale"].tolist() == [scale]
    assert float(child.batch_stats["mean"]) == mean
    assert born([0, 1, 0, 0]).params["w"].tolist() == [0.0, weights[1], 0.0, 0.0]


@pytest.mark.parametrize("heredity", ["mean", "fittest"])
def test_the_weights_of_one_parent_are_inherited_to_the_bit(heredity):
    random = np.random.default_rng(0)
    alive = random.random(99) < 0.6
    params = {"w": random.normal(size=99).astype(np.float32) * alive, "scale": np.float32([0.3])}
    alone = Network(params, {"mean": np.float32([0.7])}, {"w": alive, "scale": None})
    masks = {"w": alive & (random.random(99) < 0.6), "scale": None}
    one, other = (
        conceive(jax.random.key(0), jax.random.key(1), name, MODEL, SHAPE, parents, masks)
        for name, parents in (
            ("inherit", alone),
            (heredity, jax.tree.map(lambda leaf: leaf[None], alone)),
        )
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)
