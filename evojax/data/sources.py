"""One function that reads any source by its name."""

import dataclasses

from evojax.data.dataset import (
    DataError,
    Dataset,
    Split,
    check_seen,
    check_unused,
    stratified,
)
from evojax.data.digits import load_digits
from evojax.data.npz import load_npz
from evojax.data.resize import fit
from evojax.data.tfds import load_tfds


def load(
    source: str,
    *,
    manual_dir: str | None = None,
    data_dir: str | None = None,
    size: int = 32,
    subset: float = 1.0,
) -> Dataset:
    """Reads a data set and brings its images to ``size`` x ``size`` (see `resize.fit`).

    Args:
      source: ``"digits"`` (inside scikit-learn), ``"npz:FILE"`` (see `load_npz`), or the name of
        an image classification set of tensorflow-datasets, e.g. ``"mnist"`` (see `load_tfds`).
      manual_dir: for tensorflow-datasets: a folder with the original archives, where they are
        not to be fetched from the internet. Not used where the set is prepared already.
      data_dir: for tensorflow-datasets: where prepared sets lie; its own default where None.
      size: height and width of the images, in pixels.
      subset: the share of the training images to keep, in (0, 1]: the same images whatever the
        seed, the same share of every class. The test set stays whole.

    Returns:
      A `Dataset` with images ``(N, size, size, C)``.

    Raises:
      DataError: (a ValueError) where an argument or the data cannot be used; it says why and
        what to do.

    Example:
      >>> from evojax.data import load
      >>> load("digits", subset=0.5).train.images.shape
      (719, 32, 32, 1)
    """
    if not isinstance(source, str) or not source.strip():
        raise DataError(f"source is {source!r}; expected 'digits', a name like 'mnist' or npz:FILE")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise DataError(f"size is {size!r}; expected a whole number of pixels, at least 1.")
    if not 0.0 < subset <= 1.0:
        raise DataError(f"subset is {subset!r}; expected a share in (0, 1], e.g. 0.1 for a tenth.")
    dataset = _read(source, manual_dir, data_dir, size)
    check_seen(dataset)
    train = dataset.train
    if subset < 1.0:
        kept = stratified(train.labels, subset)
        train = Split(train.images[kept], train.labels[kept])
    return dataclasses.replace(dataset, train=_fit(train, size), test=_fit(dataset.test, size))


def _read(source: str, manual_dir: str | None, data_dir: str | None, size: int) -> Dataset:
    if source.endswith(".npz") and not source.startswith("npz:"):
        raise DataError(f"{source} is no name of a data set. A file is given as npz:{source}")
    if source != "digits" and not source.startswith("npz:"):
        return load_tfds(source, manual_dir=manual_dir, data_dir=data_dir, size=size)
    check_unused(source, manual_dir=manual_dir, data_dir=data_dir)
    return load_digits() if source == "digits" else load_npz(source.removeprefix("npz:"))


def _fit(split: Split, size: int) -> Split:
    return Split(fit(split.images, size), split.labels)
