"""What a network is trained on: images on the device, normalised and augmented."""

import jax
import numpy as np
import pytest

from evojax.data import crop, cutout, flip, shift
from evojax.learning import Network, Recipe, on_device, trainer
from evojax.learning.images import augment, normalise

SHAPE = (8, 8, 1)
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def images(dataset):
    return on_device(*dataset.train)


@pytest.mark.parametrize(
    "name, move", [("shift", shift), ("crop", crop), (None, lambda key, x, pixels: x)]
)
def test_augmentation_is_one_step_after_the_other(name, move, images):
    some = images.images[:20]
    recipe = Recipe(flip=True, cutout=3, **({name: 2} if name else {}))
    moved = flip(jax.random.fold_in(KEY, 2), move(KEY, some, 2))
    expected = cutout(jax.random.fold_in(KEY, 3), normalise(moved, images), 3)
    np.testing.assert_array_equal(augment(KEY, some, images, recipe), expected)
    plain = augment(KEY, some, images, Recipe())
    np.testing.assert_array_equal(plain, normalise(some, images))


def test_augmentation_draws_each_change_from_a_key_of_its_own():
    """A move splits the step's key, whose parts are the same as numbers folded into it."""
    drawn = [*jax.random.split(KEY), *(jax.random.fold_in(KEY, number) for number in (2, 3))]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in [KEY, *drawn]}) == 5


@pytest.mark.parametrize("name", ["shift", "crop", "cutout"])
def test_augmentation_larger_than_the_images_is_refused(name, tiny, images):
    params, batch_stats = tiny.init(KEY, SHAPE)
    network = Network(params, batch_stats, jax.tree.map(lambda leaf: None, params))
    train = trainer(tiny, Recipe(**{name: 8})).train
    with pytest.raises(ValueError, match=f"{name}: .* is 8; expected .* images, .* are 8 x 8"):
        train(KEY, network, images, 1)


def test_normalisation_is_the_training_sets(images, dataset):
    pixels = np.asarray(normalise(images.images, images))
    assert pixels.dtype == np.float32
    assert abs(pixels.mean()) < 1e-6
    assert pixels.std() == pytest.approx(1.0, abs=1e-5)
    test = on_device(*dataset.test, images)
    assert (float(test.mean[0]), float(test.deviation[0])) == (
        float(images.mean[0]), float(images.deviation[0]),
    )  # fmt: skip
    flat = on_device(np.full((3, *SHAPE), 7, np.uint8), np.zeros(3, np.int32))
    assert np.all(np.isfinite(normalise(flat.images, flat)))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((0, *SHAPE), np.uint8), np.zeros(0, int), "at least one; got uint8 of shape"),
        (np.zeros((2, *SHAPE), np.float32), np.zeros(2, int), "must be uint8 .* got float32"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros(2, int), "shape"),
        (np.zeros((2, *SHAPE), np.uint8), np.zeros(3, int), r"labels must .* \(2,\).* \(3,\)"),
        (np.zeros((2, *SHAPE), np.uint8), np.zeros(2), "labels must be integers.* got float64"),
    ],
)
def test_images_that_cannot_be_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        on_device(images, labels)
