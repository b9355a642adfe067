"""The small set of real street scenes, where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from evojax.data.kitti import batches, load_kitti


@pytest.fixture(scope="module")
def scenes():
    folder = Path(os.environ.get("EVOJAX_TEST_DATA", "")) / "kitti-mini"
    if "EVOJAX_TEST_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("EVOJAX_TEST_DATA does not name a folder with kitti-mini/")
    return load_kitti(f"kitti:{folder}")


def test_what_is_there(scenes):
    assert scenes.name == "kitti-mini" and not scenes.skipped
    assert (len(scenes.train), len(scenes.test)) == (322, 104)
    assert (scenes.train.count("Car"), scenes.test.count("Car")) == (1135, 353)


def test_batches(scenes):
    made = batches(scenes.train, seed=0, epoch=0, batch_size=6)
    images, boxes, counts = next(made)
    made.close()
    assert images.shape == (6, 384, 1248, 3) and counts.sum() > 0
    for image_boxes, count in zip(boxes, counts, strict=True):
        assert (image_boxes[:count] >= 0).all()
        assert (image_boxes[:count] <= np.array([1248, 384] * 2)).all()
