"""The invariants of a data set, and the fixed stratified choice."""

import numpy as np
import pytest

from evojax.data import DataError, Dataset, Split
from evojax.data.dataset import check_seen, stratified


def split(labels: list[int], shape: tuple[int, ...] = (4, 4, 1)) -> Split:
    return Split(np.zeros((len(labels), *shape), np.uint8), np.asarray(labels, np.int32))


def test_accepts_what_the_contract_describes():
    dataset = Dataset("own", 3, split([0, 1, 2]), split([2]))
    check_seen(dataset)
    assert issubclass(DataError, ValueError)


@pytest.mark.parametrize(
    "classes, train, test, says",
    [
        (1, split([0, 0]), split([0]), "at least 2"),
        (2, split([0, 2]), split([0]), r"training set has labels 0\.\.2; expected 0\.\.1"),
        (2, split([0, 1]), split([-1]), "test set has labels -1.*unlabelled"),
        (2, split([0, 1]), split([]), "test set has no images"),
        (2, split([0, 1]), split([0], (4, 4, 3)), r"\(4, 4, 1\), test images \(4, 4, 3\)"),
        (2, split([0, 1], (4, 4)), split([0]), r"shape \(2, 4, 4\).*expected \(N, H, W, C\)"),
        (2, split([0, 1], (0, 4, 1)), split([0]), "no images"),
    ],
)
def test_refuses(classes, train, test, says):
    with pytest.raises(DataError, match=says):
        Dataset("own", classes, train, test)


def test_refuses_other_types_and_lengths():
    good = split([0, 1])
    with pytest.raises(DataError, match=r"float32; expected \(N, H, W, C\), uint8"):
        Dataset("own", 2, Split(good.images.astype(np.float32), good.labels), good)
    with pytest.raises(DataError, match=r"int64; expected \(2,\), int32"):
        Dataset("own", 2, Split(good.images, good.labels.astype(np.int64)), good)
    with pytest.raises(DataError, match=r"has 2 images, but labels of shape \(1,\)"):
        Dataset("own", 2, Split(good.images, good.labels[:1]), good)


def test_refuses_classes_that_training_never_shows():
    with pytest.raises(DataError, match=r"labels \[1\] that the training set lacks"):
        check_seen(Dataset("own", 3, split([0, 2]), split([1, 2])))


def test_stratified_takes_the_share_of_every_class_evenly():
    labels = np.array([0] * 10 + [1] * 4 + [7])
    picked = stratified(labels, 0.5)
    np.testing.assert_array_equal(picked, [0, 2, 4, 6, 8, 10, 12, 14])
    np.testing.assert_array_equal(stratified(labels, 1.0), np.arange(15))
    assert len(stratified(labels, 1e-9)) == 3  # one of each class at the least
    np.testing.assert_array_equal(stratified(labels, 0.5, leave=3), [0, 2, 4, 6, 8, 10])
    np.testing.assert_array_equal(stratified(labels, 1.0, leave=10), [])
