"""Preparing through the real pipeline. The only tests here that import TensorFlow."""

import gzip
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from evojax.data import DataError, load

tfds = pytest.importorskip("tensorflow_datasets")
for package in ("tensorflow", "importlib_resources"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"preparing needs {package}, which is not installed", allow_module_level=True)

ARCHIVES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@pytest.fixture
def mnist() -> Path:
    """A folder with the four original archives."""
    if "EVOJAX_TEST_DATA" not in os.environ:
        pytest.skip("EVOJAX_TEST_DATA does not name a folder with mnist/ (the original archives)")
    folder = Path(os.environ["EVOJAX_TEST_DATA"]) / "mnist"
    absent = [name for name in ARCHIVES if not (folder / name).is_file()]
    if absent:
        pytest.skip(f"{folder} lacks {', '.join(absent)}")
    return folder


def idx(folder: Path, images: str, labels: str) -> np.ndarray:
    """Every example as one row of 784 pixels and its label, sorted."""
    pixels = np.frombuffer(gzip.decompress((folder / images).read_bytes()), np.uint8, offset=16)
    answers = np.frombuffer(gzip.decompress((folder / labels).read_bytes()), np.uint8, offset=8)
    return rows(pixels.reshape(-1, 28, 28, 1), answers)


def rows(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    joined = np.concatenate([images.reshape(len(images), -1), labels[:, None].astype(np.uint8)], 1)
    return np.sort(np.ascontiguousarray(joined).view(f"V{joined.shape[1]}").ravel())


def test_real_mnist_bit_by_bit(tmp_path, mnist):
    # What another set, with archives of the same names, may have left behind.
    stale = tmp_path / "downloads" / "extracted"
    stale.mkdir(parents=True)
    for name in ARCHIVES:
        (stale / f"GZIP.{name}").write_bytes(b"not MNIST")
    dataset = load("mnist", data_dir=str(tmp_path), manual_dir=str(mnist), size=28)
    assert (dataset.name, dataset.classes) == ("mnist", 10)
    assert len(dataset.train.labels) == 60_000 and len(dataset.test.labels) == 10_000
    assert (rows(*dataset.train) == idx(mnist, *ARCHIVES[:2])).all()
    assert (rows(*dataset.test) == idx(mnist, *ARCHIVES[2:])).all()
    assert not list(tmp_path.glob("extracting.*"))


def test_an_archive_that_is_not_the_original(tmp_path, mnist):
    folder = tmp_path / "archives"
    folder.mkdir()
    for name in ARCHIVES:
        (folder / name).symlink_to(mnist / name)
    (folder / ARCHIVES[1]).unlink()
    (folder / ARCHIVES[1]).write_bytes((mnist / ARCHIVES[1]).read_bytes()[:-1])
    for _ in range(2):  # nor is anything left that a second try would take for prepared
        with pytest.raises(DataError, match=f"{ARCHIVES[1]}.* has wrong checksum(.|\n)*fetch it"):
            load("mnist", data_dir=str(tmp_path / "data"), manual_dir=str(folder))


class EvojaxInterrupted(tfds.core.GeneratorBasedBuilder):
    """A set whose preparation fails halfway, until told otherwise."""

    VERSION = tfds.core.Version("1.0.0")
    halfway: BaseException | None = None

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(50), "test": self._generate_examples(10)}

    def _generate_examples(self, count):
        for number in range(count):
            if number == count // 2 and self.halfway is not None:
                raise self.halfway
            yield number, {"image": np.full((32, 32, 3), number, np.uint8), "label": number % 2}


@pytest.mark.parametrize(
    "failure, raised", [(KeyboardInterrupt(), KeyboardInterrupt), (OSError("disk full"), DataError)]
)
def test_an_interrupted_preparation_starts_over(tmp_path, monkeypatch, capfd, failure, raised):
    monkeypatch.setattr(EvojaxInterrupted, "halfway", failure)
    with pytest.raises(raised, match="disk full" if raised is DataError else None):
        load("evojax_interrupted", data_dir=str(tmp_path))
    assert not list(tmp_path.rglob("*.array_record*")) and not list(tmp_path.glob("extracting.*"))
    monkeypatch.setattr(EvojaxInterrupted, "halfway", None)
    dataset = load("evojax_interrupted", data_dir=str(tmp_path))
    assert sorted(dataset.train.images[:, 0, 0, 0]) == list(range(50))
    np.testing.assert_array_equal(dataset.train.labels, dataset.train.images[:, 0, 0, 0] % 2)
    printed, logged = capfd.readouterr()
    assert printed == "" and len(logged.splitlines()) <= 2, logged  # no wall of progress bars


def test_prepared_by_another_process_in_the_meantime(tmp_path, monkeypatch):
    prepare = tfds.core.DatasetBuilder.download_and_prepare

    def lose_the_race(builder, **arguments):
        prepare(builder, **arguments)
        raise OSError("Directory not empty")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lose_the_race)
    assert len(load("evojax_interrupted", data_dir=str(tmp_path)).train.labels) == 50


def test_reads_the_format_of_others(tmp_path):
    builder = tfds.builder("evojax_interrupted", data_dir=str(tmp_path))
    builder.download_and_prepare(
        file_format="tfrecord",
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
    dataset = load("evojax_interrupted", data_dir=str(tmp_path))
    assert sorted(dataset.test.images[:, 0, 0, 0]) == list(range(10))
