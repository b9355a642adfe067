"""Training images that are held out to choose the fittest by."""

import numpy as np
import pytest

from evojax.data import Dataset, Split
from evojax.evolution import RunFolderError, classification, evolve
from evojax.learning import Recipe
from tests.evolution.test_devices import mesh_of
from tests.evolution.test_generations import with_


def test_held_out_images_are_a_share_of_every_class_and_never_all_of_one():
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2 + [3], np.int32)
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    few = Dataset("few", 4, Split(images, labels), Split(images, labels))

    def held(share):
        return np.flatnonzero(classification.held_out(with_(holdout=share), few)).tolist()

    # Spelled out: they must be the same with any version of any library.
    assert held(0.2) == [0, 5, 10, 15]
    assert held(0.99) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15]
    assert held(0.0) == []


def test_a_run_goes_on_with_the_images_held_out_that_were(dense, dataset, tmp_path, monkeypatch):
    settings = with_(generations=1, holdout=0.25)
    evolve(settings, dense, dataset, tmp_path)
    others = lambda *_: np.arange(64) < 16  # noqa: E731
    monkeypatch.setattr(classification, "held_out", others)
    with pytest.raises(RunFolderError, match="holdout_crc32: "):
        evolve(settings, dense, dataset, tmp_path)


def test_what_is_left_to_train_on_is_what_devices_share(dense, dataset):
    few = Split(*(array[:63] for array in dataset.train))
    task = classification.classification(Dataset("few", 4, few, few))

    def check(batch_size: int) -> None:
        settings = with_(holdout=0.3, recipe=Recipe(batch_size=batch_size))
        task.check(settings, dense, mesh_of(1, 2))

    check(63)  # 44 are left.
    with pytest.raises(ValueError, match="batches of 43 images cannot be split evenly over 2 dev"):
        check(43)
