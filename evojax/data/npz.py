"""A user's own images: one NumPy .npz file with four arrays."""

import zipfile
from pathlib import Path

import numpy as np

from evojax.data.dataset import DataError, Dataset, Split, check_seen
from evojax.files import expanded

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_CHANNELS = (1, 3, 4)
_HOW = "Write it with np.savez_compressed(FILE, x_train=..., y_train=..., x_test=..., y_test=...)."


def load_npz(path: str) -> Dataset:
    """Reads ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from an .npz file.

    Images are uint8, ``(N, H, W)`` or ``(N, H, W, C)`` with 1, 3 or 4 channels; labels are
    integers ``(N,)`` from 0 on. The number of classes is the largest label of both splits + 1, and
    each of them has training images. The file's name without its ending names the data set.
    Nothing is ever unpickled.

    Args:
      path: the file.

    Returns:
      A `Dataset` of images ``(N, H, W, C)``, in their own size.

    Raises:
      DataError: where the file is missing, damaged, no .npz, or its arrays are not as above.
    """
    file = expanded(path)
    if path and file.is_dir():
        raise DataError(f"npz:{path} is a folder; expected a file. {_HOW}")
    if not path or not file.is_file():
        raise DataError(f"npz:{path}: there is no such file. {_HOW}")
    arrays = _read(file)
    train, test = (
        Split(
            _images(f"{file}: x_{which}", arrays[f"x_{which}"]),
            _labels(f"{file}: y_{which}", arrays[f"y_{which}"]),
        )
        for which in ("train", "test")
    )
    classes = 1 + int(max(labels.max(initial=0) for labels in (train.labels, test.labels)))
    dataset = Dataset(file.stem, classes, train, test, str(file.absolute()))
    check_seen(dataset)
    _check_gaps(f"{file}: y_train", train.labels, classes)
    return dataset


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Make it readable.") from error
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is not an .npz file, or only a part of one. {_HOW}")
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive.files]
            if missing:
                raise DataError(
                    f"{file} lacks {', '.join(missing)}; it has "
                    f"{', '.join(archive.files) or 'nothing'}. {_HOW}"
                )
            arrays = {key: archive[key] for key in _KEYS}
    except DataError:
        raise
    except Exception as error:  # what a damaged header raises has no end: even TokenError
        raise DataError(
            f"{file} cannot be read ({error}): it is damaged, or holds Python objects, which are "
            f"never loaded. Plain arrays of numbers are expected. {_HOW}"
        ) from error
    strange = [key for key in _KEYS if not isinstance(arrays[key], np.ndarray)]
    if strange:  # NumPy hands out a member that is no .npy file as bytes.
        raise DataError(f"{file}: {', '.join(strange)} is not a NumPy array. {_HOW}")
    return arrays


def _images(what: str, images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8:
        key = what.split()[-1]
        hint = f" If all of it is that, use {key}.astype(np.uint8)."
        if images.dtype.kind == "f":
            hint = " Scale 0..1 by 255 and round, without any NaN."
        raise DataError(f"{what} is {images.dtype}; expected uint8, 0..255.{hint}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in _CHANNELS:
        hint = ""
        if images.ndim == 4 and images.shape[1] in _CHANNELS:
            hint = f" Channels come last: use {what.split()[-1]}.transpose(0, 2, 3, 1)."
        raise DataError(
            f"{what} has shape {images.shape}; expected (N, H, W) or (N, H, W, C) with C one of "
            f"{_CHANNELS}.{hint}"
        )
    return images


def _labels(what: str, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind not in "iu":
        hint = "Number the classes of both splits alike."
        if labels.dtype.kind in "bf":
            hint = f"If they are whole numbers, use {what.split()[-1]}.astype(int)."
        raise DataError(f"{what} is {labels.dtype}; expected integers from 0 on. {hint}")
    if labels.ndim != 1:
        hint = f" Use {what.split()[-1]}.ravel()." if labels.shape[1:] == (1,) else ""
        if labels.ndim == 2 and labels.shape[1] > 1:
            hint = f" One-hot? Use {what.split()[-1]}.argmax(axis=1)."
        raise DataError(f"{what} has shape {labels.shape}; expected (N,).{hint}")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < 2**20:
        raise DataError(
            f"{what} has labels {labels.min()}..{labels.max()}; expected 0..classes-1, at most a "
            "million classes. Leave out images without a class, and number the classes from 0."
        )
    return labels.astype(np.int32)


def _check_gaps(what: str, labels: np.ndarray, classes: int) -> None:
    """Refuses numbers that are no class: labels counted from 1, or codes of some other kind."""
    absent = np.setdiff1d(np.arange(classes), labels)
    if absent.size:
        some = absent[:10].tolist()
        hint = " Counted from 1? Subtract 1." if some == [0] else ""
        raise DataError(
            f"{what} has labels up to {classes - 1}, but none is {', '.join(map(str, some))}"
            f"{' and so on' if absent.size > 10 else ''}; expected 0..classes-1, each class with "
            f"training images.{hint} Number the classes of both splits without gaps: classes, "
            "y_train = np.unique(y_train, return_inverse=True); y_test = np.searchsorted(classes, "
            "y_test)."
        )
