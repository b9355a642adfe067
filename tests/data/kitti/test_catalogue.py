"""KITTI of tensorflow-datasets, prepared here with six images: read, split, and found damaged."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evojax.data import DataError
from evojax.data.kitti import batches, load_kitti

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

KINDS = ["Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc"]
SPLITS = {
    "train": ("000003", "000000"),
    "validation": ("000005", "000002"),
    "test": ("000001", "000004"),
}
BOXES = [(10.01, 20.37, 60.5, 70.99), (100, 30, 199, 119)]


def record(index: str, image: bytes, kinds: tuple[str, ...], height: int, width: int) -> bytes:
    """An image whose two objects are 20 and 8 m away, as the catalogue's builder writes it."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    values = example.features.feature
    values["image"].bytes_list.value.append(image)
    values["image/file_name"].bytes_list.value.append(f"{index}.png".encode())
    for kind, (left, top, right, bottom), z in zip(kinds, BOXES, (8.0, 20.0), strict=True):
        values["objects/type"].int64_list.value.append(KINDS.index(kind))
        values["objects/truncated"].float_list.value.append(0.25)
        values["objects/occluded"].int64_list.value.append(2)
        values["objects/alpha"].float_list.value.append(-1.5)
        # The lower edge first: the catalogue's y counts up from there.
        sides = (height - bottom) / height, left / width, (height - top) / height, right / width
        values["objects/bbox"].float_list.value.extend(sides)
        values["objects/dimensions"].float_list.value.extend((1.5, 1.6, 3.9))
        values["objects/location"].float_list.value.extend((-5.0, 1.7, z))
        values["objects/rotation_y"].float_list.value.append(1.5)
    return example.SerializeToString()


@pytest.fixture
def prepared(tmp_path, png, monkeypatch):
    """A folder like tensorflow-datasets prepares it, and a KITTI of six images."""
    from array_record.python.array_record_module import ArrayRecordWriter

    builder = tfds.builder("kitti", data_dir=str(tmp_path))
    folder, features = Path(builder.data_path), builder.info.features
    folder.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        dataset_name="kitti", data_dir=folder, filetype_suffix="array_record"
    )
    infos = []
    for split, indices in SPLITS.items():
        writer = ArrayRecordWriter(
            str(folder / f"kitti-{split}.array_record-00000-of-00001"), "group_size:1"
        )
        for index in indices:
            image = np.full((120, 200, 3), (int(index), 90, 110), np.uint8)
            writer.write(record(index, png(image), ("Car", "Van"), 120, 200))
        writer.close()
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(indices)],
                num_bytes=0,
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=infos, filename_template=template,
        check_data=False,
    )  # fmt: skip
    monkeypatch.setattr(
        "evojax.data.kitti.catalogue.labelled", lambda: {f"00000{number}" for number in range(6)}
    )
    monkeypatch.setattr("evojax.data.kitti.split.validation", lambda: {"000005", "000001"})
    return folder


def load(folder, **options):
    return load_kitti(data_dir=str(folder.parents[1]), **options)


def test_split_by_file_name_whatever_the_catalogues_own_splits(prepared):
    scenes = load(prepared)
    assert scenes.name == "kitti" and not scenes.skipped
    for part, expected in ((scenes.train, [0, 2, 3, 4]), (scenes.test, [1, 5])):
        assert [int(scene.identifier) for scene in part] == expected
        for scene in part:  # red tells which image it is
            assert scene.image[0, 0].tolist() == [int(scene.identifier), 90, 110]
            assert scene.image.shape == (384, 1248, 3) and not scene.image[120:].any()


def test_labels_are_those_of_kittis_files(prepared):
    objects = load(prepared).train[0].objects
    assert objects.kinds.tolist() == ["Car", "Van"]
    np.testing.assert_array_equal(objects.boxes, np.float32(BOXES))  # to the last bit
    assert objects.distance.tolist() == [8, 20] and objects.truncated.tolist() == [0.25, 0.25]
    assert objects.occluded.tolist() == [2, 2] and objects.occluded.dtype == np.int32


def test_batches_by_threads(prepared):
    scenes = load(prepared, height=64, width=208, subset=0.5)
    ((images, boxes, counts),) = batches(
        scenes.train, seed=0, epoch=0, batch_size=2, augmentation=None, workers=2
    )
    assert sorted(images[:, 0, 0, 0].tolist()) == [0, 3] and counts.tolist() == [1, 1]
    np.testing.assert_allclose(boxes[:, 0], [np.divide(BOXES[0], 6)] * 2, rtol=1e-6)


def test_reads_without_tensorflow(prepared):
    code = (
        "import sys; import evojax.data.kitti.catalogue as c; "
        "c.labelled = lambda: {f'00000{i}' for i in range(6)}; "
        "c.split = lambda indices: (['000003'], ['000001']); "
        f"scenes = c.read_tfds(c.Options(), data_dir={str(prepared.parents[1])!r}); "
        "assert scenes.train[0].image.any(); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=300)


def test_bad_scenes(prepared, png):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(
        str(prepared / "kitti-test.array_record-00000-of-00001"), "group_size:1"
    )
    image = png(np.zeros((120, 200, 3), np.uint8))
    writer.write(record("000001", image, ("Car", "Van"), 110, 200))
    hollow = image[:60] + bytes(len(image) - 80) + image[-20:]
    writer.write(record("000004", hollow, ("Car", "Van"), 120, 200))
    writer.close()
    with pytest.raises(
        DataError, match=r"2 problem.*\n.*000001.png: the box .*not inside its image"
    ):
        load(prepared)
    scenes = load(prepared, skip_bad=True)
    assert scenes.skipped == {"box outside the image": 1, "unreadable image": 1}
    assert len(scenes.train) == 3 and len(scenes.test) == 1


@pytest.mark.parametrize("harm", ["gone", "short"])
def test_damaged(prepared, harm):
    shard = prepared / "kitti-validation.array_record-00000-of-00001"
    content = shard.read_bytes()
    shard.unlink()
    if harm == "short":
        shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is damaged: reading its split validation failed"):
        load(prepared)


def test_what_is_damaged_later_is_named_then(prepared):
    scenes = load(prepared)
    shard = prepared / "kitti-train.array_record-00000-of-00001"
    with shard.open("r+b") as file:  # In place: the reader has it open.
        file.write(bytes(shard.stat().st_size))
    for part, number in ((scenes.train, 0), (scenes.train, 2)):  # 000000 and 000003
        with pytest.raises(DataError, match="00000[03].png cannot be read .*Corrupted"):
            part[number]


def test_an_image_that_is_too_large(prepared, png):
    from array_record.python.array_record_module import ArrayRecordWriter

    shard = prepared / "kitti-validation.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(shard), "group_size:1")
    for index, height in (("000005", 384), ("000002", 385)):
        image = png(np.zeros((height, 200, 3), np.uint8))
        writer.write(record(index, image, ("Car", "Van"), height, 200))
    writer.close()
    assert load(prepared, skip_bad=True).skipped == {"image too large": 1}


def test_other_kinds_than_kittis(prepared, monkeypatch):
    monkeypatch.setattr("evojax.data.kitti.catalogue.KINDS", KINDS[1:])
    with pytest.raises(DataError, match="has the kinds .*'Car'.*; expected those of KITTI"):
        load(prepared)


def test_incomplete(prepared, monkeypatch):
    monkeypatch.setattr(
        "evojax.data.kitti.catalogue.labelled", lambda: {*map(str, range(777, 799))}
    )
    with pytest.raises(DataError, match="has 6 of the 7481 images.* 777.png is not among"):
        load(prepared)


def test_a_format_without_random_access(prepared):
    info = prepared / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="in the format tfrecord, which gives no access to single"):
        load(prepared)


def test_missing_says_what_to_do(tmp_path, monkeypatch):
    import requests

    def head(url, **_):
        raise requests.ConnectionError(url)

    monkeypatch.setattr(requests, "head", head)
    present = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name == "tensorflow" or present(name)
    )
    with pytest.raises(DataError) as error:
        load_kitti(data_dir=str(tmp_path))
    assert "kitti is not prepared in" in str(error.value)
    assert "put data_object_image_2.zip, data_object_label_2.zip, devkit" in str(error.value)
    assert "kitti:FOLDER as the source reads them as they are" in str(error.value)
    with pytest.raises(DataError, match="manual_dir is .* not a folder"):
        load_kitti(manual_dir=str(tmp_path / "none"), data_dir=str(tmp_path))
