"""Batches: the same whatever the threads, and no thread left behind."""

import importlib
import sys
import threading
import time
import weakref
from functools import partial

import cv2
import numpy as np
import pytest

from evojax.data import DataError, kitti
from evojax.data.kitti import ORIGINAL, SceneList, batches, in_order, load_kitti
from evojax.data.kitti.pipeline import MOST_BOXES


@pytest.fixture
def scenes(town, write, label):
    """Fourteen training images, each known by its grey, on the smallest canvas."""
    for number in range(10, 20):
        image = np.full((120, 200, 3), number, np.uint8)
        cars = [(number, 20 + 5 * i, 60, 70 + i, 40 - 5 * i) for i in range(number % 3)]
        lines = [label("Car", car) for car in cars] + [label("Van", (1, 2, 90, 80, 1))]
        write(town, f"{number:06d}", image=image, labels="\n".join(lines))
    with (town / "train.txt").open("a") as file:
        file.writelines(f"{number:06d}\n" for number in range(10, 20))
    return load_kitti(f"kitti:{town}", height=64, width=208)


def epoch(scenes, **changes):
    settings = {"seed": 3, "epoch": 1, "batch_size": 4, "workers": 1} | changes
    return list(batches(getattr(scenes, "train", scenes), **settings))


def same(a, b):
    return all(
        (x == y).all()
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one, other, strict=True)
    )


def threads():
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def none_left():
    deadline = time.monotonic() + 10
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not threads()


def test_shapes_and_types(scenes):
    made = epoch(scenes)
    assert len(made) == 3  # of fourteen images two are left out
    assert [len(epoch(scenes, batch_size=size)) for size in (5, 7)] == [2, 2]
    for images, boxes, counts in made:
        assert images.shape == (4, 64, 208, 3) and images.dtype == np.uint8
        assert boxes.shape == (4, MOST_BOXES, 4) and boxes.dtype == np.float32
        assert counts.shape == (4,) and counts.dtype == np.int32
        for image_boxes, count in zip(boxes, counts, strict=True):
            assert (image_boxes[:count, 2:] > image_boxes[:count, :2]).all()
            assert not image_boxes[count:].any()


def test_the_same_whatever_the_threads(scenes):
    cv2.setNumThreads(2)
    made = epoch(scenes)
    assert cv2.getNumThreads() == 1
    assert same(made, epoch(scenes, workers=4)) and same(made, epoch(scenes, workers=2))
    for changes in ({"seed": 4}, {"epoch": 2}):
        assert not same(made, epoch(scenes, **changes))


def test_each_image_once_an_epoch_with_its_own_cars(scenes):
    orders = set()
    for number in range(4):
        made = epoch(scenes, epoch=number, batch_size=14, augmentation=None)
        ((images, boxes, counts),) = made
        greys = images[:, 0, 0, 0].tolist()
        orders.add(tuple(greys))
        assert sorted(greys) == sorted(scene.image[0, 0, 0] for scene in scenes.train)
        for grey, image_boxes, count in zip(greys, boxes, counts, strict=True):
            if 10 <= grey < 20:  # a Van is no Car
                assert count == grey % 3
                lefts = np.full(count, grey / 6, np.float32)
                np.testing.assert_allclose(image_boxes[:count, 0], lefts, rtol=1e-6)
                bottoms = [(70 + i) / 6 for i in range(count)]  # from far to near
                np.testing.assert_allclose(image_boxes[:count, 3], bottoms, rtol=1e-6)
    assert len(orders) == 4


@pytest.mark.parametrize("what", ["seed", "epoch"])
def test_an_image_is_changed_otherwise_with_every_seed_and_in_every_epoch(scenes, what):
    first, second = (
        epoch(scenes, batch_size=14, augmentation=ORIGINAL, **{what: number})[0].images
        for number in (0, 1)
    )
    assert not {image.tobytes() for image in first} & {image.tobytes() for image in second}


def test_equal_images_are_changed_each_in_its_own_way(scenes):
    entries = scenes.train.entries[:1] * 14
    ((images, _, _),) = epoch(SceneList(entries, 64, 208), batch_size=14)
    assert len({image.tobytes() for image in images}) == 14


def test_of_too_many_cars_the_nearest_stay(town, write, label):
    cars = [label("Car", (10, 20, 40 + i, 60, i + 1)) for i in range(40)]
    for file in (town / "label_2").iterdir():
        file.write_text("\n".join(cars))
    (batch,) = epoch(load_kitti(f"kitti:{town}"), augmentation=None)
    assert batch.counts.tolist() == [MOST_BOXES] * 4
    np.testing.assert_array_equal(batch.boxes[0, :, 2], np.arange(MOST_BOXES)[::-1] + 40)


def test_in_order(scenes):
    views = list(in_order(scenes.train, batch_size=4))
    assert [len(view.objects) for view in views] == [4, 4, 4, 2]
    assert all(view.images.shape == (4, 64, 208, 3) for view in views)
    flat = [
        pair
        for view in views
        for pair in zip(view.identifiers, view.images, view.objects, strict=False)
    ]
    assert len(flat) == 14
    for (identifier, image, objects), scene in zip(flat, scenes.train, strict=True):
        assert identifier == scene.identifier
        np.testing.assert_array_equal(image, scene.image)
        np.testing.assert_array_equal(objects.boxes, scene.objects.boxes)
        assert objects.kinds.tolist() == scene.objects.kinds.tolist()
    assert not views[-1].images[2:].any()


@pytest.mark.parametrize("made", [partial(batches, seed=0, epoch=0), in_order])
def test_beside_its_batch_a_thread_holds_an_image_at_most(scenes, monkeypatch, made):
    decoded, held = [], []

    def image(self, entry):
        held.append(sum(other() is not None for other in decoded))
        pixels = np.zeros((self.height, self.width, 3), np.uint8)
        decoded.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr(SceneList, "_image", image)
    list(made(scenes.train, batch_size=7, workers=1))
    assert len(held) == 14 and max(held) <= 1


@pytest.mark.parametrize("how", ["close", "drop", "exhaust", "fail"])
def test_no_thread_is_left(scenes, how):
    iterator = batches(scenes.train, seed=0, epoch=0, batch_size=2, workers=3)
    next(iterator)
    assert threads()
    if how == "close":
        iterator.close()
    elif how == "drop":
        del iterator
    elif how == "exhaust":
        list(iterator)
    else:
        with pytest.raises(ZeroDivisionError):
            for _ in iterator:
                1 / 0  # noqa: B018
        iterator.close()
    assert none_left()


def test_what_a_thread_meets_reaches_the_user(scenes):
    entry = scenes.train.entries[5]._replace(read=lambda: b"no image", size=8)
    entries = (*scenes.train.entries[:5], entry, *scenes.train.entries[6:])
    broken = SceneList(entries, 64, 208)
    with pytest.raises(DataError, match="cannot be decoded"):
        list(batches(broken, seed=0, epoch=0, batch_size=14))
    assert none_left()


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"batch_size": 15}, "batch_size is 15, but there are only 14 training images"),
        ({"workers": 0}, "workers is 0"),
        ({"seed": -1}, "seed is -1 and epoch 1; expected"),
    ],
)
def test_refuses_at_once(scenes, wrong, says):
    settings = {"seed": 3, "epoch": 1, "batch_size": 4} | wrong
    with pytest.raises(DataError, match=says):
        batches(scenes.train, **settings)


def test_a_list_without_scenes_is_refused():
    with pytest.raises(DataError, match="There are no scenes"):
        in_order(SceneList(()), batch_size=1)


@pytest.mark.parametrize("package", ["cv2", "grain"])
def test_a_missing_package_is_told_with_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"not installed .*{package}.*: pip install .*\[detection"
    ):
        importlib.reload(kitti)
