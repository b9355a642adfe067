import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.models import LeNet


def initialised(channels, dtype=jnp.float32, seed=0):
    model = LeNet(dtype=dtype)
    return model, jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, 32, 32, channels)))


@pytest.mark.parametrize(("channels", "count"), [(1, 143_978), (3, 145_578)])
def test_parameters(channels, count):
    shapes = jax.eval_shape(
        LeNet().init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    )["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    assert {name: layer["kernel"].shape for name, layer in shapes.items()} == {
        "conv1": (5, 5, channels, 32),
        "conv2": (5, 5, 32, 32),
        "conv3": (5, 5, 32, 64),
        "dense1": (4, 4, 64, 64),
        "dense2": (64, 10),
    }
    assert all(layer["bias"].shape == layer["kernel"].shape[-1:] for layer in shapes.values())


def test_initialisation_keeps_the_scale_and_has_no_biases():
    _, variables = initialised(3)
    for layer in variables["params"].values():
        fan_in = np.prod(layer["kernel"].shape[:-1])
        assert 0.9 < np.std(layer["kernel"]) * np.sqrt(fan_in) < np.sqrt(2) + 0.2
        assert not layer["bias"].any()


def expected(reference, params, x):
    layer = [(np.float64(p["kernel"]), np.float64(p["bias"])) for p in params.values()]
    x = np.maximum(reference.pool(reference.convolve(x, *layer[0], 2), np.max), 0)
    x = reference.pool(np.maximum(reference.convolve(x, *layer[1], 2), 0), np.mean)
    x = reference.pool(np.maximum(reference.convolve(x, *layer[2], 2), 0), np.mean)
    x = np.maximum(reference.convolve(x, *layer[3]), 0)[:, 0, 0]
    return x @ layer[4][0] + layer[4][1]


@pytest.mark.parametrize("channels", [1, 3])
def test_forward_agrees_with_numpy(reference, channels):
    model, variables = initialised(channels)
    keys = iter(jax.random.split(jax.random.key(1), 5))
    params = {
        name: {
            "kernel": layer["kernel"],
            "bias": jax.random.normal(next(keys), layer["bias"].shape),
        }
        for name, layer in sorted(variables["params"].items())
    }
    x = jax.random.normal(jax.random.key(2), (2, 32, 32, channels))
    logits = jax.jit(model.apply)({"params": params}, x)
    np.testing.assert_allclose(logits, expected(reference, params, x), rtol=1e-4, atol=1e-4)


def test_bfloat16_computes_low_and_keeps_parameters_and_logits_high():
    model, variables = initialised(1, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    x = jax.random.normal(jax.random.key(1), (4, 32, 32, 1))

    def loss(variables, model):
        logits = model.apply(variables, x)
        return jnp.mean(logits**2), logits

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    grads, logits = gradient(variables, model)
    full_grads, full = gradient(variables, LeNet())
    assert logits.dtype == jnp.float32
    assert not np.array_equal(logits, full)
    np.testing.assert_allclose(logits, full, atol=0.05 * float(jnp.abs(full).max()))
    for low, high in zip(jax.tree.leaves(grads), jax.tree.leaves(full_grads), strict=True):
        assert low.dtype == jnp.float32
        assert float(jnp.linalg.norm(low - high)) < 0.25 * float(jnp.linalg.norm(high))


@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (2, 32, 31, 3), (32, 32, 1), (2, 1, 32, 32)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expects images of shape \(N, 32, 32, C\), got"):
        LeNet().init(jax.random.key(0), jnp.zeros(shape))
