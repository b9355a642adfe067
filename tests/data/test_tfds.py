"""Sets of tensorflow-datasets, from folders that the tests write: no TensorFlow, no internet."""

import importlib.util
import io
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evojax.data import DataError, load

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("PIL")

SPLITS = {"train": 600, "test": 8}


def picture(number: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "png")
    return file.getvalue()


def write(
    root: Path,
    name: str = "tiny",
    splits: dict[str, int] | None = None,
    shape: tuple[int | None, int | None, int] = (28, 28, 1),
    features: dict | None = None,
    label_from: int = 0,
) -> Path:
    """Writes what a prepared set looks like: records, features.json and dataset_info.json."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    splits = SPLITS if splits is None else splits
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        dataset_name=name, data_dir=folder, filetype_suffix="array_record"
    )
    infos = []
    for split, count in splits.items():
        writer = ArrayRecordWriter(
            str(folder / f"{name}-{split}.array_record-00000-of-00001"), "group_size:1"
        )
        for number in range(count):
            size = shape if shape[0] else (10 + number % 7, 60, shape[2])
            example = tf_example_pb2.Example()
            values = example.features.feature
            values["image"].bytes_list.value.append(png(picture(number, size)))
            values["label"].int64_list.value.append(number % 4 + label_from)
            writer.write(example.SerializeToString())
        writer.close()
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=[count], num_bytes=0, filename_template=template
            )
        )
    features = features or {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(num_classes=4),
    }
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_infos=infos,
        filename_template=template,
        check_data=False,
    )
    return folder


def test_reads_prepared_data(tmp_path):
    write(tmp_path)
    dataset = load("tiny", data_dir=str(tmp_path))
    assert (dataset.name, dataset.classes) == ("tiny", 4)
    assert dataset.train.images.shape == (600, 32, 32, 1)
    np.testing.assert_array_equal(dataset.train.labels, np.arange(600) % 4)
    for number in (0, 511, 512, 599):
        np.testing.assert_array_equal(
            dataset.train.images[number, 2:30, 2:30], picture(number, (28, 28, 1))
        )


def test_reads_without_tensorflow(tmp_path):
    write(tmp_path)
    code = (
        "import sys; from evojax.data import load; "
        f"assert len(load('tiny', data_dir={str(tmp_path)!r}).train.labels) == 600; "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=300)


def test_says_nothing(tmp_path, capfd, caplog):
    write(tmp_path)
    with caplog.at_level(logging.DEBUG, logger="evojax"):
        load("tiny", data_dir=str(tmp_path))
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_images_of_different_sizes(tmp_path):
    write(tmp_path, splits={"train": 9, "test": 4}, shape=(None, None, 3))
    assert load("tiny", data_dir=str(tmp_path)).train.images.shape == (9, 32, 32, 3)


@pytest.mark.parametrize(
    "splits, says",
    [
        ({"train": 8, "unlabelled": 3}, "tiny has no split named test, only train, unlabelled"),
        ({"validation": 8}, "no split named train and none named test, only validation"),
    ],
)
def test_names_the_absent_split(tmp_path, splits, says):
    write(tmp_path, splits=splits)
    with pytest.raises(DataError, match=says):
        load("tiny", data_dir=str(tmp_path))


def test_names_unlabelled_images(tmp_path):
    write(tmp_path, splits={"train": 8, "test": 4}, label_from=-1)
    with pytest.raises(DataError, match="labels -1..2.*unlabelled"):
        load("tiny", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "features, says",
    [
        ({"text": tfds.features.Text()}, "not an image classification set.*it has text"),
        ({"image": tfds.features.Image(shape=(8, 8, 1))}, "not an image classification set"),
        (
            {
                "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16),
                "label": tfds.features.ClassLabel(num_classes=4),
            },
            "images of uint16",
        ),
        (
            {
                "image": tfds.features.Image(shape=(8, 8, None)),
                "label": tfds.features.ClassLabel(num_classes=4),
            },
            "a fixed number of channels",
        ),
    ],
)
def test_refuses_other_kinds_of_sets(tmp_path, features, says):
    write(tmp_path, splits={"train": 4, "test": 4}, features=features)
    with pytest.raises(DataError, match=says):
        load("tiny", data_dir=str(tmp_path))


@pytest.mark.parametrize("harm", ["gone", "short", "empty", "noise"])
def test_damaged_records(tmp_path, harm):
    folder = write(tmp_path)
    shard = folder / "tiny-train.array_record-00000-of-00001"
    content = shard.read_bytes()
    if harm == "gone":
        shard.unlink()
    elif harm == "noise":
        middle = len(content) // 2
        shard.write_bytes(content[:middle] + b"\xaa" * 70_000 + content[middle + 70_000 :])
    else:
        shard.write_bytes(content[: len(content) // 2] if harm == "short" else b"")
    with pytest.raises(DataError, match="is damaged: reading its split train.*Delete the folder"):
        load("tiny", data_dir=str(tmp_path))


@pytest.mark.parametrize("lost", ["dataset_info.json", "features.json"])
def test_half_a_folder_is_not_taken_for_prepared(tmp_path, lost):
    folder = write(tmp_path, name="mnist").rename(tmp_path / "mnist" / "3.0.1")
    (folder / lost).unlink()
    says = "not a complete tensorflow-datasets folder. Delete it|cannot be opened"
    with pytest.raises(DataError, match=says):
        load("mnist", data_dir=str(tmp_path))


def test_leftovers_of_a_killed_preparation_are_not_read(tmp_path, unreachable):
    folder = write(tmp_path, name="mnist")
    folder.rename(folder.parent / "incomplete.A1B2C3_3.0.1")
    with pytest.raises(DataError, match="mnist is not prepared in"):
        load("mnist", data_dir=str(tmp_path))


@pytest.fixture
def unreachable(monkeypatch):
    """No network, and at once."""
    import requests

    def head(url: str, **_: object) -> None:
        raise requests.ConnectionError(url)

    monkeypatch.setattr(requests, "head", head)
    present = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda package: package in NEEDED or present(package)
    )


NEEDED = ("tensorflow", "importlib_resources")


def test_offline_names_the_files_and_where_to_put_them(tmp_path, unreachable):
    pytest.importorskip("importlib_resources")
    (tmp_path / "train-labels-idx1-ubyte.gz").touch()
    with pytest.raises(DataError) as error:
        load("mnist", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert "cannot be reached" in str(error.value)
    assert (
        "put t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, train-images-idx3-ubyte.gz into"
        in str(error.value)
    )
    assert "manual_dir" in str(error.value)
    assert not (tmp_path / "data").exists()


def test_offline_repeats_the_catalogues_own_instructions(tmp_path, unreachable):
    pytest.importorskip("importlib_resources")
    with pytest.raises(
        DataError, match="manual_dir should contain two files: ILSVRC2012_img_train"
    ):
        load("imagenet2012", data_dir=str(tmp_path))


def test_preparing_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(DataError, match=r"tensorflow and importlib_resources: pip install 'evojax"):
        load("mnist", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "name, says",
    [
        ("mnits", "no data set 'mnits'. Did you mean mnist, "),
        ("Digits", "Did you mean digits"),
        ("qqqqqq", "no data set 'qqqqqq'. Expected 'digits', npz:FILE or a name from https"),
        ("huggingface:mnist", "sets of 'huggingface' are not supported"),
        ("cifar-10", "no data set 'cifar-10'. Did you mean .*cifar10, "),
        ("../etc", "no data set '../etc'. Expected"),
        ("mnist:9.9.9", "cannot be opened|no data set"),
        # Without TensorFlow some sets that need it to be described are no names at all.
        ("glue", "glue is not an image classification set|no data set 'glue'"),
    ],
)
def test_unknown_names(tmp_path, name, says):
    with pytest.raises(DataError, match=says):
        load(name, data_dir=str(tmp_path))


def test_folders_are_checked_first(tmp_path):
    with pytest.raises(DataError, match="manual_dir is .* not a folder"):
        load("mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path / "none"))
    with pytest.raises(DataError, match="data_dir is empty"):
        load("mnist", data_dir="")
