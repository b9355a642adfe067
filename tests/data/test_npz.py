"""A user's own file: what is read, and that nothing wrong gets through."""

import errno
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from evojax.data import DataError, load


def arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    good = {
        "x_train": rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(12) % 4,
        "x_test": rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8),
        "y_test": np.arange(4, dtype=np.uint8),
    }
    return {key: x for key, x in (good | changes).items() if x is not None}


def write(folder: Path, **changes: np.ndarray | None) -> str:
    np.savez(folder / "own.npz", **arrays(**changes))
    return f"npz:{folder / 'own.npz'}"


def test_reads_all_of_it(tmp_path):
    dataset = load(write(tmp_path))
    assert (dataset.name, dataset.classes) == ("own", 4)
    for which, split in (("train", dataset.train), ("test", dataset.test)):
        np.testing.assert_array_equal(split.images, arrays()[f"x_{which}"])
        np.testing.assert_array_equal(split.labels, arrays()[f"y_{which}"])
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32


def test_ten_classes_of_photographs_named_after_their_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (240, 32, 32, 3), dtype=np.uint8)
    y = rng.permutation(np.arange(240, dtype=np.uint8) % 10)
    file = tmp_path / "cifar10-jpeg.npz"
    np.savez(file, x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    dataset = load(f"npz:{file}")
    assert (dataset.name, dataset.classes) == ("cifar10-jpeg", 10)
    np.testing.assert_array_equal(dataset.train.images, x[:200])
    np.testing.assert_array_equal(dataset.test.labels, y[200:])
    tenth = load(f"npz:{file}", subset=0.1)
    counts = np.bincount(dataset.train.labels)
    np.testing.assert_array_equal(np.bincount(tenth.train.labels), np.rint(counts / 10))
    assert len(tenth.test.labels) == 40


def test_images_without_channels_get_one_and_are_brought_to_size(tmp_path):
    x = arrays()
    source = write(
        tmp_path, x_train=x["x_train"][:, :28, :28, 0], x_test=x["x_test"][:, :28, :28, 0]
    )
    dataset = load(source)
    assert dataset.train.images.shape == (12, 32, 32, 1)
    np.testing.assert_array_equal(
        dataset.test.images[:, 2:30, 2:30, 0], x["x_test"][:, :28, :28, 0]
    )
    assert load(source, size=10).test.images.shape == (4, 10, 10, 1)


def test_no_such_file(tmp_path):
    for source in (f"npz:{tmp_path / 'none.npz'}", "npz:"):
        with pytest.raises(DataError, match="there is no such file"):
            load(source)
    with pytest.raises(DataError, match="is a folder; expected a file. Write it with"):
        load(f"npz:{tmp_path}")
    with pytest.raises(DataError, match="x.npz is no name .* given as npz:/some/x.npz"):
        load("/some/x.npz")


def test_no_permission(tmp_path, monkeypatch):
    file = tmp_path / "closed.npz"
    file.touch()

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"closed\.npz cannot be read: Permission denied"):
        load(f"npz:{file}")


def test_no_npz(tmp_path):
    other = tmp_path / "x.npz"
    for content in (b"", b"hello", b"PK\x03\x04"):
        other.write_bytes(content)
        with pytest.raises(DataError, match="is not an .npz file, or only a part"):
            load(f"npz:{other}")
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match="is not an .npz file"):
        load(f"npz:{tmp_path / 'x.npy'}")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated(tmp_path, share):
    source = write(tmp_path)
    file = tmp_path / "own.npz"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(DataError, match="part of one"):
        load(source)


@pytest.mark.parametrize("where", [100, 20_000])
def test_damaged_within(tmp_path, where):
    source = write(tmp_path)
    file = tmp_path / "own.npz"
    content = bytearray(file.read_bytes())
    content[where : where + 40] = bytes(byte ^ 0xFF for byte in content[where : where + 40])
    file.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load(source)


def test_never_unpickles(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    labels = np.array([Trap()] * 4, dtype=object)
    with pytest.raises(DataError, match="never loaded"):
        load(write(tmp_path, y_test=labels))


def test_members_that_are_no_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        for key in arrays():
            archive.writestr(key, b"text")
    with pytest.raises(DataError, match="x_train.* is not a NumPy array"):
        load(f"npz:{tmp_path / 'own.npz'}")


def test_an_array_cut_short_inside_an_intact_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        for key, x in arrays().items():
            buffer = io.BytesIO()
            np.save(buffer, x)
            archive.writestr(f"{key}.npy", buffer.getvalue()[:-5])
    with pytest.raises(DataError, match="cannot be read"):
        load(f"npz:{tmp_path / 'own.npz'}")


IMAGES = arrays()["x_train"]


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"y_test": None}, "lacks y_test; it has x_train, y_train, x_test. Write it with np.savez"),
        ({"x_train": None, "X": IMAGES}, "lacks x_train; it has .*X"),
        ({"x_train": IMAGES / 255}, "x_train is float64; expected uint8.*Scale 0..1 by 255"),
        ({"x_train": IMAGES.astype(np.int64)}, "x_train is int64; expected .*astype.np.uint8"),
        ({"x_train": IMAGES.reshape(12, -1)}, r"x_train has shape \(12, 3072\); expected \(N, H"),
        ({"x_train": IMAGES.transpose(0, 3, 1, 2)}, r"use x_train.transpose\(0, 2, 3, 1\)"),
        ({"x_train": IMAGES[..., :2]}, r"C one of \(1, 3, 4\)"),
        ({"x_train": IMAGES[..., :1]}, r"training images are \(32, 32, 1\), test images"),
        ({"x_train": IMAGES[:0], "y_train": np.arange(0)}, "the training set has no images"),
        ({"x_train": IMAGES[:, :0]}, "the training set has no images"),
        ({"y_train": np.arange(12.0)}, "is float64; expected integers .*y_train.astype.int"),
        ({"y_train": np.array(["cat"] * 12)}, "y_train is <U3; expected .*Number the classes"),
        ({"y_train": np.ones(12, bool)}, "y_train is bool; expected integers"),
        ({"y_train": np.eye(12, 4, dtype=int)}, r"One-hot\? Use y_train.argmax"),
        ({"y_train": np.arange(12)[:, None]}, r"Use y_train.ravel\(\)"),
        ({"y_train": np.arange(12) - 1}, r"y_train has labels -1\.\.10; expected 0\.\.classes-1"),
        (
            {"y_train": np.arange(12) % 4 + 1, "y_test": np.arange(4) + 1},
            "y_train has labels up to 4, but none is 0; .*Counted from 1",
        ),
        (
            {"y_train": np.arange(12) % 4 * 100, "y_test": np.arange(4) * 100},
            "labels up to 300, but none is 1, 2, .*10 and so on; .*without gaps: classes, y_train",
        ),
        ({"y_train": np.arange(12) << 40}, "y_train has labels 0.*at most a million"),
        ({"y_train": np.full(12, 2**64 - 1, np.uint64)}, "y_train has labels"),
        ({"y_train": np.arange(11) % 4}, r"has 12 images, but labels of shape \(11,\)"),
        ({"y_train": np.zeros(12, int), "y_test": np.zeros(4, int)}, "1 class.*at least 2"),
        ({"y_test": np.arange(4) + 3}, r"labels \[4, 5, 6\] that the training set lacks"),
    ],
)
def test_refuses(tmp_path, changes, says):
    with pytest.raises(DataError, match=says):
        load(write(tmp_path, **changes))
