import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.learning import linen
from evojax.models import AlexNet, LeNet

KERNELS = {
    "conv1": (5, 5, 3, 96),
    "conv2": (5, 5, 96, 256),
    "conv3": (3, 3, 256, 384),
    "conv4": (3, 3, 384, 384),
    "conv5": (3, 3, 384, 256),
    "dense1": (4, 4, 256, 4096),
    "dense2": (4096, 4096),
    "dense3": (4096, 10),
}


@pytest.mark.parametrize(("batch_norm", "biases"), [(True, 10), (False, 9_578)])
def test_parameters(batch_norm, biases):
    model = linen(AlexNet(batch_norm=batch_norm))
    params, stats = jax.eval_shape(lambda key: model.init(key, (32, 32, 3)), jax.random.key(0))
    layers = {name: layer for name, layer in params.items() if "kernel" in layer}
    assert {name: layer["kernel"].shape for name, layer in layers.items()} == KERNELS
    assert sum(np.prod(shape) for shape in KERNELS.values()) == 37_313_568
    assert sum(layer["bias"].size for layer in layers.values() if "bias" in layer) == biases
    assert bool(jax.tree.leaves(stats)) == batch_norm


def test_layers_and_what_normalises_them():
    model = linen(AlexNet())
    sides = {"conv1": 32, "conv2": 16, "conv3": 8, "conv4": 8, "conv5": 8}
    assert dict(model.layers((32, 32, 3))) == {name: sides.get(name, 1) ** 2 for name in KERNELS}
    norms = model.norms((32, 32, 3))
    assert set(norms.values()) == {f"{name}/kernel" for name in KERNELS if name != "dense3"}
    assert norms["dense2_norm/scale"] == "dense2/kernel"


def expected(reference, params, stats, x, batch_norm):
    for name, layer in ((name, params[name]) for name in KERNELS):
        kernel = np.float64(layer["kernel"])
        if kernel.ndim == 4:
            pad = {"conv1": 2, "conv2": 2, "dense1": 0}.get(name, 1)
            x = reference.convolve(x, kernel, layer.get("bias", 0.0), pad)
        else:
            x = x.reshape(len(x), -1) @ kernel + layer.get("bias", 0.0)
        if batch_norm and name != "dense3":
            x = reference.normalise(x, **params[f"{name}_norm"], **stats[f"{name}_norm"])
        if name in ("conv1", "conv2", "conv5"):
            x = reference.pool(x, np.max)
        if name != "dense3":
            x = np.maximum(x, 0)
    return x


@pytest.mark.parametrize("batch_norm", [True, False])
def test_forward_agrees_with_numpy(reference, batch_norm):
    thin = (6, 16, 24, 24, 16, 32, 32)
    model = linen(AlexNet(batch_norm=batch_norm, widths=thin))
    params, stats = model.init(jax.random.key(0), (32, 32, 3))
    random = np.random.default_rng(1)
    other = lambda leaf: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)  # noqa: E731
    params = jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else other(leaf), params)
    stats = jax.tree.map(other, stats)
    x = random.normal(size=(2, 32, 32, 3)).astype(np.float32)
    variables = {"params": params, "batch_stats": stats}
    logits = jax.jit(model.predict)(variables, jnp.asarray(x))
    wanted = expected(reference, params, stats, x, batch_norm)
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (2, 32, 31, 3), (32, 32, 1)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"AlexNet expects images of shape \(N, 32, 32, C\), got"):
        jax.eval_shape(AlexNet().init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"widths": (96, 256)}, "widths must be 7 numbers of at least 1, got 96, 256"),
        ({"widths": (0, 4, 4, 4, 4, 4, 4)}, "widths must be 7 numbers of at least 1, got 0, 4"),
        ({"classes": 0}, "classes must be 1 number of at least 1, got 0"),
    ],
)
def test_attributes_that_cannot_be_are_refused(attributes, says):
    for model in (AlexNet(**attributes), LeNet(**attributes)):
        says = says.replace("7", "4") if isinstance(model, LeNet) else says
        with pytest.raises(ValueError, match=f"{type(model).__name__}: {says}"):
            jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
