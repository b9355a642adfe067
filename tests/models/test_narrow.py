"""Compacted networks as Linen modules, and networks as a record names them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax
from evojax.models import AlexNet, LeNet, ResNet, described, narrow, rebuilt

WIDTHS = (8, 8, 12, 12, 8, 20, 20)


def third(channels):
    return jnp.arange(channels) % 3 > 0


def compacted(module, x, kernels, alive=third):
    """Without some of the output channels of these kernels, every third by default."""
    variables = jax.jit(module.init)(jax.random.key(0), x)
    masks = jax.tree.map(lambda leaf: None, variables["params"])
    for *parents, name in kernels:
        inside, weights = masks, variables["params"]
        for parent in parents:
            inside, weights = inside[parent], weights[parent]
        for layer, kind in ((name, "kernel"), (name, "bias")):
            if kind in weights[layer]:
                leaf = weights[layer][kind]
                inside[layer][kind] = jnp.broadcast_to(alive(leaf.shape[-1]), leaf.shape)
        for kind in ("scale", "bias") if f"{name}_norm" in weights else ():
            leaf = weights[f"{name}_norm"][kind]
            inside[f"{name}_norm"][kind] = alive(leaf.shape[-1])
    return evojax.compact(module.apply, variables, masks, x)


@pytest.mark.parametrize(
    ("module", "channels", "kernels"),
    [
        (LeNet(), 1, [("conv1",), ("conv2",), ("conv3",), ("dense1",)]),
        (AlexNet(widths=WIDTHS), 3, [("conv1",), ("conv4",), ("dense1",), ("dense2",)]),
        (AlexNet(widths=WIDTHS, batch_norm=False), 3, [("conv2",), ("conv5",), ("dense1",)]),
        (ResNet(blocks=1), 3, [("stage1_block1", "conv1"), ("stage3_block1", "conv2")]),
    ],
)
def test_the_module_computes_what_the_compacted_network_does(module, channels, kernels):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, channels)), jnp.float32)
    small = compacted(module, x, kernels)
    narrower, variables = narrow(module, small, x)
    assert small.report.parameters_after < small.report.parameters_before
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(narrower.init, jax.random.key(0), x))
    assert shapes == jax.tree.map(jnp.shape, variables)
    found, wanted = jax.jit(narrower.apply)(variables, x), jax.jit(small.apply)(small.variables, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert rebuilt(described(narrower)) == narrower


def test_what_widths_cannot_express_is_said():
    module, x = ResNet(blocks=1), jnp.ones((1, 32, 32, 3))
    # The last stage's first channels, which its shortcut fills with zeros as it does the last.
    last = [("stage3_block1", "conv2")]
    small = compacted(module, x, last, lambda channels: jnp.arange(channels) > 2)
    assert small.report.parameters_after < small.report.parameters_before
    with pytest.raises(ValueError, match="no ResNet of smaller widths computes"):
        narrow(module, small, x)
    with pytest.raises(ValueError, match="Dense is none of the networks that evojax ships"):
        narrow(nn.Dense(3), small, x)


def test_a_layer_without_channels_is_said():
    module, x = ResNet(blocks=1), jnp.ones((1, 32, 32, 3))
    # Nothing enters the block's inner channels, so its shortcut alone is left.
    dead = [("stage1_block1", "conv1")]
    small = compacted(module, x, dead, lambda channels: jnp.zeros(channels, bool))
    assert small.variables["params"]["stage1_block1"]["conv1"]["kernel"].shape[-1] == 0
    with pytest.raises(ValueError, match="no ResNet of smaller widths computes"):
        narrow(module, small, x)


def test_a_record_of_another_network_is_named():
    with pytest.raises(ValueError, match=r"the network is flax.*Dense: expected one that evojax"):
        rebuilt(described(nn.Dense(3)))
    with pytest.raises(ValueError, match="has other attributes"):
        rebuilt({"class": "evojax.models.lenet.LeNet", "colour": "red"})
