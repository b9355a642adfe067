"""NNX modules as models: the same numbers as by hand, and statistics that move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from evojax.learning import nnx


class Net(flax_nnx.Module):
    def __init__(self, rngs, blocks=11):
        self.conv = flax_nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = flax_nnx.BatchNorm(4, rngs=rngs)
        self.blocks = flax_nnx.List([flax_nnx.Linear(4, 4, rngs=rngs) for _ in range(blocks)])
        self.out = flax_nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = flax_nnx.relu(self.norm(self.conv(x))).mean((1, 2))
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


@pytest.fixture(scope="module")
def model():
    return nnx(Net)


IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8, 8, 1)), jnp.float32)


def test_forward_is_that_of_the_module(model):
    params, stats = model.init(jax.random.key(3), (8, 8, 1))
    module = Net(flax_nnx.Rngs(jax.random.key(3)))
    module.eval()
    logits, same = model.forward(params, stats, IMAGES, False)
    np.testing.assert_allclose(logits, module(IMAGES), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, same, stats)
    # An eleventh block: names sort otherwise than numbers.
    np.testing.assert_array_equal(params["blocks"]["10"]["kernel"], module.blocks[10].kernel[...])


def test_statistics_move_only_while_it_trains(model):
    params, stats = model.init(jax.random.key(3), (8, 8, 1))
    module = Net(flax_nnx.Rngs(jax.random.key(3)))
    module.train()
    expected = module(IMAGES)
    logits, moved = jax.jit(model.forward, static_argnums=3)(params, stats, IMAGES, True)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved["norm"]["mean"], module.norm.mean[...], rtol=1e-5, atol=1e-7)
    assert np.abs(moved["norm"]["mean"]).max() > 0


def test_layers_are_in_the_order_of_the_forward_pass(model):
    layers = model.layers((8, 8, 1))
    names = ["conv", *(f"blocks/{i}" for i in range(11)), "out"]
    assert [layer.name for layer in layers] == names
    assert [layer.positions for layer in layers] == [64, *[1] * 12]


def test_random_numbers_and_empty_modules_are_refused():
    with pytest.raises(ValueError, match=r"Sequential has .*Rng.*: expected nnx.Param"):
        nnx(lambda rngs: flax_nnx.Sequential(
            flax_nnx.Linear(2, 2, rngs=rngs), flax_nnx.Dropout(0.5, rngs=rngs)
        ))  # fmt: skip
    with pytest.raises(ValueError, match="Sequential has no parameters"):
        nnx(lambda rngs: flax_nnx.Sequential(flax_nnx.relu))


def test_a_module_in_place_of_what_makes_one_is_refused():
    with pytest.raises(ValueError, match="such as its class; got the module Linear itself"):
        nnx(flax_nnx.Linear(2, 3, rngs=flax_nnx.Rngs(0)))
