from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.learning import linen
from evojax.models import ResNet


def test_parameters_of_resnet56():
    params, stats = jax.eval_shape(
        lambda key: linen(ResNet()).init(key, (32, 32, 3)), jax.random.key(0)
    )
    sizes = {
        "/".join(str(step.key) for step in path): leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    kernels = {path: size for path, size in sizes.items() if path.endswith("kernel")}
    assert len(kernels) == 56
    assert sum(kernels.values()) == 848_944
    assert sizes["dense/bias"] == 10
    assert sum(sizes.values()) == 848_944 + 10 + 4_064
    assert sum(leaf.size for leaf in jax.tree.leaves(stats)) == 4_064


def test_every_normalisation_belongs_to_the_convolution_before_it():
    norms = linen(ResNet(blocks=2)).norms((32, 32, 3))
    assert len(norms) == 2 * (1 + 2 * 2 * 3)
    assert norms["conv_norm/bias"] == "conv/kernel"
    assert norms["stage2_block1/conv2_norm/scale"] == "stage2_block1/conv2/kernel"


def test_initialisation_keeps_the_scale():
    params = linen(ResNet(blocks=1)).init(jax.random.key(0), (32, 32, 3))[0]
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        if kernel.ndim == 4:  # He et al. 2015: deviation sqrt(2 / fan-in).
            ratio = np.std(kernel) * np.sqrt(np.prod(kernel.shape[:-1]) / 2)
            assert 0.85 < ratio < 1.15, path


def randomised(tree, seed):
    """Other numbers in the same shapes, positive, as scales and variances must be."""
    leaves, structure = jax.tree.flatten(tree)
    random = np.random.default_rng(seed)
    return jax.tree.unflatten(
        structure, [random.uniform(0.5, 1.5, leaf.shape).astype(np.float32) for leaf in leaves]
    )


def expected(reference, params, stats, x):
    """ResNet-14 in evaluation."""

    def layer(x, inside, where, name, stride=1):
        x = reference.convolve(x, np.float64(inside[name]["kernel"]), pad=1, stride=stride)
        return reference.normalise(x, **inside[f"{name}_norm"], **where[f"{name}_norm"])

    x = np.maximum(layer(x, params, stats, "conv"), 0)
    for stage in (1, 2, 3):
        for block in (1, 2):
            name = f"stage{stage}_block{block}"
            stride = 2 if (stage > 1 and block == 1) else 1
            y = np.maximum(layer(x, params[name], stats[name], "conv1", stride), 0)
            y = layer(y, params[name], stats[name], "conv2")
            if stride == 2:  # Zeros on either side of the old channels.
                zeros = np.zeros((*y.shape[:3], x.shape[3] // 2))
                x = np.concatenate([zeros, x[:, ::2, ::2], zeros], axis=3)
            x = np.maximum(x + y, 0)
    return x.mean((1, 2)) @ np.float64(params["dense"]["kernel"]) + params["dense"]["bias"]


def test_forward_agrees_with_numpy(reference):
    model = linen(ResNet(blocks=2))
    params, stats = model.init(jax.random.key(0), (16, 16, 3))
    vectors = randomised(params, 1)
    params = jax.tree.map(lambda leaf, new: leaf if leaf.ndim > 1 else new, params, vectors)
    stats = randomised(stats, 2)
    x = np.random.default_rng(3).normal(size=(2, 16, 16, 3)).astype(np.float32)
    variables = {"params": params, "batch_stats": stats}
    logits = jax.jit(model.predict)(variables, jnp.asarray(x))
    np.testing.assert_allclose(logits, expected(reference, params, stats, x), rtol=1e-4, atol=1e-4)


def test_training_updates_statistics():
    model = linen(ResNet(blocks=1))
    params, stats = model.init(jax.random.key(0), (8, 8, 3))
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    logits, updated = jax.jit(partial(model.forward, train=True))(params, stats, x)
    assert logits.shape == (4, 10) and logits.dtype == jnp.float32
    assert not np.array_equal(updated["conv_norm"]["mean"], stats["conv_norm"]["mean"])


@pytest.mark.parametrize("shape", [(2, 3, 8, 3), (8, 8, 3)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"ResNet expects images of shape \(N, H, W, C\)"):
        jax.eval_shape(ResNet().init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"blocks": 0}, "blocks must be 1 number of at least 1, got 0"),
        ({"classes": 0}, "classes must be 1 number of at least 1, got 0"),
        ({"widths": (4, 0, 4)}, "widths must be 3 numbers of at least 1, got 4, 0, 4"),
        ({"blocks": 1, "inner": (3, 4)}, "inner must be 3 numbers of at least 1, got 3, 4"),
        ({"blocks": 1, "inner": (3,) * 4}, "inner must be 3 numbers"),
    ],
)
def test_attributes_that_cannot_be_are_refused(attributes, says):
    with pytest.raises(ValueError, match=f"ResNet: {says}"):
        jax.eval_shape(ResNet(**attributes).init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
