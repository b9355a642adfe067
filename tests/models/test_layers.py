import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from evojax.models import layers

NHWC = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def with_gradients(function, *args):
    @jax.jit
    def run(*args):
        y, vjp = jax.vjp(function, *args)
        return y, *vjp(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return run(*args)


def assert_same_with_gradients(ours, theirs, *args):
    pairs = zip(with_gradients(ours, *args), with_gradients(theirs, *args), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "padding"),
    [
        ((8, 8), (5, 5), (1, 1), "SAME"),
        ((8, 9), (3, 2), (1, 1), "VALID"),
        ((9, 8), (3, 2), (2, 3), ((1, 0), (0, 2))),
        ((8, 8), (5, 5), (2, 2), "SAME"),
        ((7, 7), (1, 1), (2, 2), "VALID"),  # windows smaller than the stride leave rows unread
        ((3, 3), (1, 1), (1, 1), ((1, 1), (2, 0))),  # padding larger than the window
        ((4, 4), (4, 4), (1, 1), "VALID"),  # one window: a matrix product
        ((4, 4), (4, 4), (1, 1), ((1, 0), (0, 0))),
        ((5, 4), (1, 1), (1, 1), "SAME"),  # every pixel by itself: a matrix product
    ],
)
@pytest.mark.parametrize(("batch", "entering", "leaving"), [(2, 3, 4), (35, 3, 2), (2, 1, 25)])
def test_conv_agrees_with_lax_and_its_gradients(
    size, kernel, strides, padding, batch, entering, leaving
):
    def ours(x, w):
        return layers.conv(x, w, strides, padding, dimension_numbers=NHWC)

    def theirs(x, w):
        return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC)

    x, w = normal(0, batch, *size, entering), normal(1, *kernel, entering, leaving)
    assert_same_with_gradients(ours, theirs, x, w)


@pytest.mark.parametrize(
    "options",
    [
        {"dimension_numbers": NHWC, "rhs_dilation": (2, 2)},
        {"dimension_numbers": NHWC, "lhs_dilation": (2, 2)},
        {"dimension_numbers": NHWC, "feature_group_count": 2},
        {"dimension_numbers": NHWC, "precision": lax.Precision.HIGHEST},
        {"dimension_numbers": ("NWHC", "WHIO", "NWHC")},
        {"dimension_numbers": ("NCHW", "HWIO", "NCHW")},
    ],
)
def test_conv_hands_everything_else_to_lax(options):
    groups = options.get("feature_group_count", 1)
    x, w = normal(0, 2, 8, 6, 4), normal(1, 3, 2, 4 // groups, 4)
    if options["dimension_numbers"][0] == "NCHW":
        x = x.transpose(0, 3, 1, 2)

    def run(conv):
        return lambda x, w: conv(x, w, (1, 1), ((1, 1), (0, 1)), **options)

    assert_same_with_gradients(run(layers.conv), run(lax.conv_general_dilated), x, w)


def test_conv_has_no_forward_mode_as_its_docstring_says():
    x, w = normal(0, 2, 6, 6, 3), normal(1, 3, 3, 3, 5)
    run = lambda w: layers.conv(x, w, (1, 1), "SAME", dimension_numbers=NHWC)  # noqa: E731
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(run, (w,), (w,))


def test_conv_vmaps_over_kernels():
    x, w = normal(0, 2, 6, 6, 3), normal(1, 4, 3, 3, 3, 5)

    def loss(conv, w):
        return jnp.sum(conv(x, w, (1, 1), "SAME", dimension_numbers=NHWC) ** 2)

    ours, theirs = (
        jax.jit(jax.vmap(jax.grad(lambda w, conv=conv: loss(conv, w))))(w)
        for conv in (layers.conv, lax.conv_general_dilated)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def reference_pool(x, init, operator):
    # Ceil mode is one more row or column of nothing where the size is even.
    pads = ((0, 0), *((0, (size + 1) % 2) for size in x.shape[1:3]), (0, 0))
    return lax.reduce_window(x, init, operator, (1, 3, 3, 1), (1, 2, 2, 1), pads)


def reference_average(x):
    counts = reference_pool(jnp.ones_like(x), 0.0, lax.add)
    return reference_pool(x, 0.0, lax.add) / counts


@pytest.mark.parametrize("size", [(32, 32), (8, 7), (5, 6), (3, 3), (2, 9)])
def test_pools_agree_with_reduce_window_and_its_gradients(size):
    x = normal(0, 2, *size, 3)
    assert_same_with_gradients(layers.max_pool, lambda x: reference_pool(x, -jnp.inf, lax.max), x)
    assert_same_with_gradients(layers.average_pool, reference_average, x)


def test_max_pool_gives_the_gradient_of_ties_to_the_first():
    x = jnp.zeros((1, 4, 4, 1))
    gradient = jax.jit(jax.grad(lambda x: layers.max_pool(x).sum()))(x)
    np.testing.assert_array_equal(
        gradient[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    )


def reference_same(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")


@pytest.mark.parametrize("size", [(7, 5), (1, 4)])
def test_max_pool_same_agrees_with_reduce_window_and_its_gradients(size):
    x = normal(0, 2, *size, 3)
    assert_same_with_gradients(jax.vmap(layers.max_pool_same), jax.vmap(reference_same), x[None])
    assert layers.max_pool_same(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_max_pool_same_gives_the_gradient_of_ties_to_the_first():
    # Of the windows of a constant image the first pixel is above to the left, or at the edge.
    gradient = jax.jit(jax.grad(lambda x: layers.max_pool_same(x).sum()))(jnp.zeros((1, 4, 3, 1)))
    np.testing.assert_array_equal(
        gradient[0, :, :, 0], [[4, 2, 0], [2, 1, 0], [2, 1, 0], [0, 0, 0]]
    )


@pytest.mark.parametrize("place", [(0, 0), (2, 3)])
def test_max_pool_same_keeps_what_is_not_a_number(place):
    x = normal(0, 1, 5, 5, 1).at[0, *place, 0].set(jnp.nan)
    found, vjp = jax.vjp(layers.max_pool_same, x)
    np.testing.assert_array_equal(jnp.isnan(found), jnp.isnan(reference_same(x)))
    (gradient,) = vjp(jnp.ones_like(found))  # Every window's goes to one pixel, NaN or not.
    assert float(gradient.sum()) == found.size
    assert float(gradient[0, *place, 0]) == float(jnp.isnan(found).sum())


def test_response_norm_by_hand():
    x = 100 * normal(0, 2, 3, 1, 7)
    found = np.asarray(layers.response_norm(x))
    for c in range(7):
        squares = np.sum(np.float64(x[..., max(c - 2, 0) : c + 3]) ** 2, -1)
        by_hand = np.float64(x[..., c]) / (1 + 1e-4 * squares / 5) ** 0.75
        np.testing.assert_allclose(found[..., c], by_hand, rtol=1e-5)
    assert np.max(np.abs(found - x)) > 10
    low = layers.response_norm(x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(low), found, rtol=0.02, atol=0.5)


def test_max_pool_of_negative_images_sees_no_zero_beyond_the_edge():
    assert float(layers.max_pool(-jnp.ones((1, 4, 4, 1))).max()) == -1.0


@pytest.mark.parametrize("pool", [layers.max_pool, layers.average_pool])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 2), (1, 2), (4, 4)])
def test_pools_keep_what_is_not_a_number(pool, place):
    x = normal(0, 1, 5, 5, 1).at[0, *place, 0].set(jnp.nan)
    pads = ((0, 0), (0, 0), (0, 0), (0, 0))
    expected = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)
    np.testing.assert_array_equal(jnp.isnan(pool(x)), jnp.isnan(expected))
    assert jnp.isnan(expected).any()


@pytest.mark.parametrize("pool", [layers.max_pool, layers.average_pool])
def test_pools_refuse_images_too_small(pool):
    with pytest.raises(ValueError, match=r"at least 2x2 pixels, got shape \(1, 1, 4, 1\)"):
        pool(jnp.zeros((1, 1, 4, 1)))


@pytest.mark.parametrize("pool", [layers.max_pool, layers.average_pool])
def test_pools_keep_the_dtype(pool):
    assert pool(jnp.zeros((1, 4, 4, 1), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(("platform", "ours"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_only_the_cpu_gets_gradients_of_our_own(platform, ours):
    def loss(x, w):
        return layers.conv(x, w, (1, 1), "SAME", dimension_numbers=NHWC).sum()

    shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 8, 8, 3), (3, 3, 3, 4)))
    lowered = jax.export.export(jax.jit(jax.grad(loss, (0, 1))), platforms=[platform])(*shapes)
    assert ("optimization_barrier" in lowered.mlir_module()) == ours
