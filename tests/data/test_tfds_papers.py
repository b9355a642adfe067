"""The sets of the papers as tensorflow-datasets has them: original archives in, images out.

The archives are written here in the original formats, small; their checksums stand in for the
registered ones, so that all else is the real pipeline. These tests import TensorFlow.
"""

import importlib.util
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from evojax.data import DataError, Split, load
from evojax.data.resize import fit

tfds = pytest.importorskip("tensorflow_datasets")
for package in ("tensorflow", "importlib_resources", "PIL"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"preparing needs {package}, which is not installed", allow_module_level=True)

IDX = "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, train-images-idx3-ubyte.gz, "
ARCHIVES = {
    "mnist": IDX + "train-labels-idx1-ubyte.gz",
    "fashion_mnist": IDX + "train-labels-idx1-ubyte.gz",
    "cifar10": "cifar-10-binary.tar.gz",
    "cifar100": "cifar-100-binary.tar.gz",
    "stl10": "stl10_binary.tar.gz",
}


def some(count: int, size: int, classes: int, seed: int = 0) -> Split:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return Split(images, np.arange(count, dtype=np.int32) % classes)


def cifar_records(split: Split, coarse: bool = False) -> bytes:
    """An example: one byte a label, then the red, green and blue planes row by row."""
    labels = split.labels[:, None].astype(np.uint8)
    planes = split.images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([labels // 5] * coarse + [labels, planes], 1).tobytes()


def cifar10(train: Split, test: Split) -> dict[str, bytes]:
    count = len(train.labels) // 5
    parts = [Split(*(x[i * count :][:count] for x in train)) for i in range(5)]
    files = {f"data_batch_{i}.bin": cifar_records(part) for i, part in enumerate(parts, 1)}
    names = "\n".join(f"class{i}" for i in range(10)) + "\n"
    files |= {"test_batch.bin": cifar_records(test), "batches.meta.txt": names.encode()}
    return {f"cifar-10-batches-bin/{name}": content for name, content in files.items()}


def cifar100(train: Split, test: Split) -> dict[str, bytes]:
    files = {f"{n}.bin": cifar_records(x, True) for n, x in (("train", train), ("test", test))}
    for kind, classes in (("coarse", 20), ("fine", 100)):
        names = "\n".join(f"{kind}{i}" for i in range(classes)) + "\n"
        files[f"{kind}_label_names.txt"] = names.encode()
    return {f"cifar-100-binary/{name}": content for name, content in files.items()}


def stl10(train: Split, test: Split) -> dict[str, bytes]:
    """Three planes an image, column by column; labels from 1 on; unlabelled images besides."""
    files = {"class_names.txt": "\n".join(f"class{i}" for i in range(10)).encode()}
    for name, split in (("train", train), ("test", test), ("unlabeled", some(30, 96, 1, seed=9))):
        files[f"{name}_X.bin"] = split.images.transpose(0, 3, 2, 1).tobytes()
        files[f"{name}_y.bin"] = (split.labels + 1).astype(np.uint8).tobytes()
    del files["unlabeled_y.bin"]
    return {f"stl10_binary/{name}": content for name, content in files.items()}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Writes a set's archive into a folder and has its checksum expected."""

    def write(name: str, files: dict[str, bytes]) -> str:
        builder = tfds.builder_cls(name)
        ((url, registered),) = builder.url_infos.items()
        folder = tmp_path / "archives"
        folder.mkdir()
        with tarfile.open(folder / registered.filename, "w:gz") as tar:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        info = tfds.download.checksums.compute_url_info(folder / registered.filename)
        monkeypatch.setattr(builder, "url_infos", {url: info})
        return str(folder)

    return write


def same(got: Split, expected: Split) -> None:
    """The same pairs of image and label, in whatever order."""

    def rows(split: Split) -> list[bytes]:
        return sorted(x.tobytes() + y.tobytes() for x, y in zip(*split, strict=True))

    assert got.images.shape == expected.images.shape and rows(got) == rows(expected)


@pytest.mark.parametrize(
    ("name", "files", "classes"), [("cifar10", cifar10, 10), ("cifar100", cifar100, 100)]
)
def test_cifar_bit_by_bit(tmp_path, archive, name, files, classes):
    train, test = some(100, 32, classes), some(20, 32, classes, seed=1)
    folder = archive(name, files(train, test))
    dataset = load(name, data_dir=str(tmp_path / "data"), manual_dir=folder)
    assert (dataset.name, dataset.classes) == (name, classes)
    same(dataset.train, train)
    same(dataset.test, test)


def test_stl10_reads_no_unlabelled_images(tmp_path, archive):
    train, test = some(20, 96, 10), some(30, 96, 10, seed=1)
    folder, data = archive("stl10", stl10(train, test)), str(tmp_path / "data")
    dataset = load("stl10", data_dir=data, manual_dir=folder, size=96)
    assert (dataset.name, dataset.classes) == ("stl10", 10)
    same(dataset.train, train)
    same(dataset.test, test)
    small = load("stl10", data_dir=data)
    same(small.train, Split(fit(train.images, 32), train.labels))
    same(small.test, Split(fit(test.images, 32), test.labels))
    (unlabelled,) = Path(data).rglob("*unlabelled*")
    unlabelled.unlink()  # What is not there cannot be read.
    same(load("stl10", data_dir=data, size=96).test, test)


class EvojaxOddSplits(tfds.core.GeneratorBasedBuilder):
    """A set without a test split, of which nothing is left out before that is said."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "validation": self._generate_examples()}

    def _generate_examples(self):
        for number in range(4):
            yield number, {"image": np.zeros((8, 8, 3), np.uint8), "label": number % 2}


def test_a_set_without_the_two_splits_is_prepared_whole(tmp_path):
    with pytest.raises(DataError, match="no split named test, only train, validation"):
        load("evojax_odd_splits", data_dir=str(tmp_path))


def test_an_archive_of_the_right_name_that_is_not_the_original(tmp_path, archive, monkeypatch):
    folder = archive("cifar10", cifar10(some(10, 32, 10), some(10, 32, 10)))
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz.* wrong checksum(.|\n)*fetch it"):
        load("cifar10", data_dir=str(tmp_path / "data"), manual_dir=folder)


@pytest.mark.parametrize("name", ARCHIVES)
def test_offline_the_missing_archives_are_named(tmp_path, monkeypatch, name):
    import requests

    def head(url: str, **_: object) -> None:
        raise requests.ConnectionError(url)

    monkeypatch.setattr(requests, "head", head)
    with pytest.raises(DataError) as error:
        load(name, data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert f"{name} is not prepared" in str(error.value)
    assert f"put {ARCHIVES[name]} into a folder and give it as manual_dir" in str(error.value)


@pytest.mark.parametrize(
    ("name", "classes", "channels"),
    [("mnist", 10, 1), ("cifar10", 10, 3), ("cifar100", 100, 3), ("stl10", 10, 3)],
)
def test_any_prepared_set(tmp_path, name, classes, channels):
    """A prepared set's metadata; its records are examples that tensorflow-datasets invents."""
    builder = tfds.builder(name, data_dir=str(tmp_path))
    builder.data_path.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=builder.data_path, dataset_name=name, filetype_suffix="tfrecord"
    )
    builder.info.set_splits(
        tfds.core.splits.SplitDict(
            tfds.core.SplitInfo(
                name=split, shard_lengths=[200], num_bytes=0, filename_template=template
            )
            for split in ("train", "test")
        )
    )
    builder.info.write_to_directory(builder.data_path)
    policy = tfds.testing.MockPolicy.USE_FILES
    with tfds.testing.mock_data(num_examples=200, policy=policy, data_dir=str(tmp_path)):
        dataset = load(name, data_dir=str(tmp_path))
    assert (dataset.name, dataset.classes) == (name, classes)
    assert dataset.train.images.shape == dataset.test.images.shape == (200, 32, 32, channels)
    assert dataset.train.labels.max() >= classes // 2
