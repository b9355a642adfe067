"""Augmentation on the device: every function against NumPy, image by image."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.data import crop, cutout, flip, shift

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY, OTHER = jax.random.split(jax.random.key(1))
EACH = pytest.mark.parametrize(
    "augment",
    [
        pytest.param(lambda key, x: shift(key, x, 2), id="shift"),
        pytest.param(lambda key, x: crop(key, x, 2), id="crop"),
        pytest.param(flip, id="flip"),
        pytest.param(lambda key, x: cutout(key, x, 3), id="cutout"),
    ],
)


def pictures(count: int, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (count, *shape)).astype(dtype)


@EACH
def test_a_function_of_its_key_that_leaves_shape_and_type(augment):
    for dtype in (np.uint8, np.float32, np.int32):
        x = jnp.asarray(pictures(16, 6, 5, 2, dtype=dtype))
        y = augment(KEY, x)
        assert y.shape == x.shape and y.dtype == x.dtype
        np.testing.assert_array_equal(y, augment(KEY, x))
        assert (y != augment(OTHER, x)).any()
    half = jnp.asarray(pictures(4, 6, 6, 1), jnp.bfloat16)
    assert augment(KEY, half).dtype == jnp.bfloat16


@EACH
def test_compiles_once_and_vmaps_over_keys(augment, compilations):
    compiled = jax.jit(augment)
    x, others = jnp.asarray(pictures(4, 6, 6, 1)), jnp.zeros((4, 6, 6, 1), jnp.uint8)
    np.testing.assert_array_equal(compiled(KEY, x), augment(KEY, x))
    with compilations() as count:
        compiled(OTHER, others)
    assert count() == 0
    together = jax.vmap(augment, (0, None))(jnp.stack([KEY, OTHER]), x)
    np.testing.assert_array_equal(together, jnp.stack([augment(KEY, x), augment(OTHER, x)]))


@EACH
def test_no_scatter(augment):
    x = jnp.asarray(pictures(4, 6, 6, 1))
    assert "scatter" not in jax.jit(augment).lower(KEY, x).as_text()


@pytest.mark.parametrize(
    ("move", "mode"), [(shift, "constant"), (crop, "reflect")], ids=["shift", "crop"]
)
def test_every_image_moves_by_its_own_offset(move, mode):
    x = pictures(200, 6, 5, 2)
    moved = np.asarray(move(KEY, jnp.asarray(x), 2))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
    offsets = []
    for before, after in zip(padded, moved, strict=True):
        fits = [
            (y, z)
            for y in range(5)
            for z in range(5)
            if (before[y : y + 6, z : z + 5] == after).all()
        ]
        assert len(fits) == 1
        offsets += fits
    assert set(offsets) == {(y, z) for y in range(5) for z in range(5)}


def test_shift_and_crop_draw_the_same_offsets():
    x = jnp.asarray(pictures(50, 9, 9, 1))
    shifted, cropped = shift(KEY, x, 3), crop(KEY, x, 3)
    np.testing.assert_array_equal(shifted, jnp.where(shifted == 0, 0, cropped))


def test_nothing_to_do():
    x = jnp.ones((2, 4, 4, 1))
    assert all(augment(KEY, x, 0) is x for augment in (shift, crop, cutout))


def test_flip_gives_the_image_or_its_mirror_half_the_time_each():
    x = pictures(4000, 2, 3, 1)
    x[:, :, 2] = 255  # No image is its own mirror.
    flipped = np.asarray(flip(KEY, jnp.asarray(x)))
    kept = (flipped == x).all((1, 2, 3))
    np.testing.assert_array_equal(flipped[~kept], x[~kept][:, :, ::-1])
    # Binomial: five standard deviations, one chance in two million.
    assert abs(kept.sum() - 2000) < 5 * np.sqrt(4000 / 4)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cutout_is_a_square_around_a_uniform_centre_clipped_at_the_edges(size):
    height, width, count = 6, 5, 6000
    x = pictures(count, height, width, 2)
    cut = np.asarray(cutout(KEY, jnp.asarray(x), size))
    gone = (cut == 0).all(-1)
    np.testing.assert_array_equal(cut, np.where(gone[..., None], 0, x))
    expected = Counter()  # How many centres leave this pattern: each at least one, some more.
    for row in range(height):
        for column in range(width):
            pattern = np.zeros((height, width), bool)
            top, left = row - size // 2, column - size // 2
            pattern[max(top, 0) : top + size, max(left, 0) : left + size] = True
            expected[pattern.tobytes()] += 1
    got = Counter(pattern.tobytes() for pattern in gone)
    assert got.keys() == expected.keys()
    for pattern, centres in expected.items():
        share = centres / (height * width)
        assert abs(got[pattern] - count * share) < 5.5 * np.sqrt(count * share * (1 - share))


def test_cutout_leaves_the_mean_colour_of_normalised_images():
    x = jax.random.normal(KEY, (64, 16, 16, 3))
    cut = cutout(OTHER, x, 8)
    area = np.asarray((cut == 0).all(-1).sum((1, 2)))
    assert area.min() >= 16 and area.max() == 64
    np.testing.assert_array_equal(cut, jnp.where(cut == 0, 0.0, x))


@pytest.mark.parametrize(
    ("augment", "says"),
    [(shift, "shift: pixels is"), (crop, "crop: pixels is"), (cutout, "cutout: size is")],
    ids=["shift", "crop", "cutout"],
)
def test_refuses(augment, says):
    for value in (-1, 4, 40):
        with pytest.raises(ValueError, match=f"{says} {value}; expected 0 .* images, .* 6 x 4"):
            augment(KEY, jnp.ones((1, 6, 4, 1)), value)
    with pytest.raises(ValueError, match=f"{says} 9"):  # while tracing, before any work
        jax.eval_shape(lambda x: augment(KEY, x, 9), jnp.ones((1, 6, 6, 1)))
    with pytest.raises(ValueError, match=r"shape \(4, 4, 1\); expected \(N, H, W, C\)"):
        augment(KEY, jnp.ones((4, 4, 1)), 1)


def test_flip_refuses():
    with pytest.raises(ValueError, match=r"expected \(N, H, W, C\)"):
        flip(KEY, jnp.ones((4, 4, 1)))
