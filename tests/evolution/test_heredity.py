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
