"""Both losses and their gradients against the formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.detection import losses, targets

pytestmark = pytest.mark.usefixtures("quick_compilation")

compiled = jax.jit(losses)
with_gradient = jax.jit(jax.value_and_grad(lambda *args: losses(*args).total))


@pytest.fixture(scope="module")
def batch():
    boxes = [[[8, 8, 70, 40], [30, 10, 60, 50]], [[0, 0, 30, 64], [0, 0, 0, 0]]]
    teach = jax.jit(jax.vmap(lambda boxes, count: targets(boxes, count, 64, 96)))
    taught = teach(np.array(boxes, np.float32), np.array([2, 1]))
    random = np.random.default_rng(0)
    predictions = random.normal(size=(2, 4, 6, 5)) * [0.5, 20, 20, 20, 20]
    return predictions.astype(np.float32), taught


def test_losses_and_gradients_are_those_of_the_formulas(batch):
    predictions, taught = batch
    coverage, offsets, size, weight = (np.asarray(part, np.float64) for part in taught)
    assert coverage.sum() > 10
    parts = compiled(predictions, taught)
    value, gradient = with_gradient(predictions, taught)
    expected = np.zeros_like(predictions, np.float64)
    first = second = 0.0
    for n, y, x in np.ndindex(coverage.shape):
        miss = predictions[n, y, x, 0] - coverage[n, y, x]
        first += miss**2 / 4
        expected[n, y, x, 0] = miss / 2
        for side in range(4):
            scale = coverage[n, y, x] * weight[n, y, x] * size[n, y, x, side % 2]
            miss = predictions[n, y, x, 1 + side] - offsets[n, y, x, side]
            second += abs(miss) * scale / 2
            expected[n, y, x, 1 + side] = 2 * np.sign(miss) * scale / 2
    np.testing.assert_allclose([*parts, value], [first, second, first + 2 * second], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_what_is_taught_has_no_loss(batch):
    _, taught = batch
    perfect = np.concatenate([taught.coverage[..., None], taught.offsets], -1)
    assert compiled(perfect, taught) == (0, 0)
    half = jax.eval_shape(losses, jnp.zeros(perfect.shape, jnp.bfloat16), taught)
    assert half.boxes.dtype == half.coverage.dtype == jnp.float32


def test_a_network_of_another_grid_is_named(batch):
    predictions, taught = batch
    with pytest.raises(ValueError, match=r"\(2, 4, 5, 5\).*\(2, 4, 6\); expected \(N, h, w, 5\)"):
        losses(jnp.asarray(predictions[:, :, 1:]), taught)
    with pytest.raises(ValueError, match=r"\(4, 6, 5\).*\(4, 6\); expected \(N, h, w, 5\)"):
        losses(jnp.asarray(predictions[0]), jax.tree.map(lambda part: part[0], taught))
