"""Image classification sets of tensorflow-datasets, read without TensorFlow once prepared."""

import contextlib
import difflib
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from evojax.data.dataset import DataError, Dataset, Split
from evojax.data.resize import fit
from evojax.data.tfds_prepare import INSTALL, SPLITS, first_paragraph, hide_gpus, prepare
from evojax.files import expanded

if TYPE_CHECKING:
    import tensorflow_datasets

_BATCH = 512
_CATALOGUE = "https://www.tensorflow.org/datasets/catalog/overview#image_classification"
# TensorFlow reads these when it is imported: errors only, and no notice about oneDNN.
_QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


def load_tfds(
    name: str, *, manual_dir: str | None = None, data_dir: str | None = None, size: int = 32
) -> Dataset:
    """Reads a set by its name in the catalogue, e.g. ``"mnist"`` or ``"cifar10"``.

    A set that is not in ``data_dir`` yet is prepared there first, which needs TensorFlow and
    either the internet or the original archives in ``manual_dir``; their checksums are compared.
    An interrupted preparation leaves nothing that counts as prepared.

    Of sets with further splits, such as STL-10's 100,000 unlabelled images, only ``train`` and
    ``test`` are read, and held once in the size asked for. Preparing, tensorflow-datasets has no
    setting to leave splits out: STL-10 takes about 7 GB of memory and 2 GB of disk, once.

    Args:
      name: as in the catalogue, optionally with its configuration or version
        (``"cifar10_corrupted/brightness_1"``, ``"mnist:3.0.1"``).
      manual_dir: a folder with the original archives under the names the catalogue expects, e.g.
        ``cifar-10-binary.tar.gz`` or ``stl10_binary.tar.gz``; errors name those that are missing.
      data_dir: where prepared sets lie; None: ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.
      size: height and width of the images; they are brought to it while reading, because the
        images of some sets have different sizes (see `resize.fit`).

    Returns:
      A `Dataset` from the splits ``train`` and ``test``, images ``(N, size, size, C)``.

    Raises:
      DataError: where the set is unknown, is not for image classification or lacks a split, a
        package or an archive is missing, or what lies in ``data_dir`` is damaged.
    """
    with prepared(name, manual_dir, data_dir, _features) as (tfds, builder):
        image, label, classes = _features(tfds, name, builder)
        absent = [split for split in SPLITS if split not in builder.info.splits]
        if absent:
            raise DataError(
                f"{name} has no split named {' and none named '.join(absent)}, only "
                f"{', '.join(builder.info.splits)}. Write the images you want as train and test "
                "into a file and give npz:FILE as the source."
            )
        train, test = (_read(tfds, builder, split, image, label, size) for split in SPLITS)
    return Dataset(name, classes, train, test, str(builder.data_path))


@contextlib.contextmanager
def prepared(
    name: str,
    manual_dir: str | None,
    data_dir: str | None,
    check: Callable[[ModuleType, str, Any], object] = lambda tfds, name, builder: None,
) -> Iterator[tuple[ModuleType, "tensorflow_datasets.core.DatasetBuilder"]]:
    """A set's builder, the set prepared if it was not, and tensorflow-datasets silent meanwhile.

    Args:
      name: as in the catalogue.
      manual_dir: as in `load_tfds`.
      data_dir: likewise.
      check: ``(tfds, name, builder)``, refuses a set by a DataError before it is prepared.

    Yields:
      The module tensorflow_datasets, and the builder.

    Raises:
      DataError: as `load_tfds`.
    """
    archives = _folder("manual_dir", manual_dir)
    if archives is not None and not archives.is_dir():
        raise DataError(f"manual_dir is {manual_dir!r}, which is not a folder.")
    root = _folder("data_dir", data_dir)
    tfds = _require()
    with _quiet(tfds):
        builder = _builder(tfds, name, root)
        check(tfds, name, builder)
        if not builder.is_prepared():
            prepare(name, builder, archives)
            builder = _builder(tfds, name, root)
        yield tfds, builder


def _folder(what: str, folder: str | None) -> Path | None:
    if folder is not None and not str(folder).strip():
        raise DataError(f"{what} is empty; expected a folder.")
    return None if folder is None else expanded(folder)


def _require() -> ModuleType:
    try:
        import PIL.Image  # noqa: F401  (decodes the stored images)
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            "Data sets by name come through tensorflow-datasets, which needs packages that are "
            f"not installed ({error}): {INSTALL}"
        ) from error
    return tfds


@contextlib.contextmanager
def _quiet(tfds: ModuleType) -> Iterator[None]:
    """Silences the progress bars, prints, logs and warnings of the packages below us."""
    from absl import logging as absl_logging
    from tensorflow_datasets.core.utils import tqdm_utils

    bars = getattr(tqdm_utils, "_active", True)  # there is no public way to ask
    absl_level = absl_logging.get_verbosity()
    urllib3 = logging.getLogger("urllib3")
    urllib3_level = urllib3.level
    environment = {key: x for key, x in _QUIET_TENSORFLOW.items() if key not in os.environ}
    os.environ.update(environment)
    tfds.display_progress_bar(False)
    absl_logging.set_verbosity(absl_logging.FATAL)
    urllib3.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        tfds.display_progress_bar(bars)
        absl_logging.set_verbosity(absl_level)
        urllib3.setLevel(urllib3_level)
        for key in environment:
            os.environ.pop(key, None)


def _builder(
    tfds: ModuleType, name: str, root: Path | None
) -> "tensorflow_datasets.core.DatasetBuilder":
    try:
        parsed, _ = tfds.core.naming.parse_builder_name_kwargs(name)
    except Exception as error:  # Hyphens, say: no name in the catalogue has any.
        raise _unknown(tfds, name) from error
    if parsed.namespace:
        raise DataError(
            f"{name}: sets of {parsed.namespace!r} are not supported, only those of the "
            f"tensorflow-datasets catalogue itself, by their plain names: {_CATALOGUE}"
        )
    try:
        return tfds.builder(name, data_dir=None if root is None else str(root))
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(tfds, name) from error
    except Exception as error:
        hint = f" Is a package missing? {INSTALL}" if isinstance(error, ImportError) else ""
        raise DataError(f"{name} cannot be opened: {first_paragraph(error)}.{hint}") from error


def _unknown(tfds: ModuleType, name: str) -> DataError:
    known = {"digits", *tfds.list_builders(with_community_datasets=False)}
    close = difflib.get_close_matches(name.lower(), known, n=5)
    return DataError(
        f"There is no data set {name!r}."
        + (f" Did you mean {', '.join(close)}?" if close else "")
        + f" Expected 'digits', npz:FILE or a name from {_CATALOGUE}"
    )


def _features(
    tfds: ModuleType, name: str, builder: "tensorflow_datasets.core.DatasetBuilder"
) -> tuple[str, str, int]:
    """The keys of image and label, and the number of classes."""
    features, keys = builder.info.features, builder.info.supervised_keys
    image, label = "image", "label"
    if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = keys
    kinds = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    if not (
        isinstance(kinds.get(image), tfds.features.Image)
        and isinstance(kinds.get(label), tfds.features.ClassLabel)
        and kinds[label].num_classes
    ):
        raise DataError(
            f"{name} is not an image classification set: each example must have one image and "
            f"one class label, but it has {', '.join(kinds) or type(features).__name__}."
        )
    if kinds[image].np_dtype != np.uint8 or kinds[image].shape[-1] is None:
        raise DataError(
            f"{name} has images of {np.dtype(kinds[image].np_dtype)} and shape "
            f"{kinds[image].shape}; expected uint8 and a fixed number of channels."
        )
    return image, label, kinds[label].num_classes


def _read(
    tfds: ModuleType,
    builder: "tensorflow_datasets.core.DatasetBuilder",
    split: str,
    image: str,
    label: str,
    size: int,
) -> Split:
    expected = builder.info.splits[split].num_examples
    channels = builder.info.features[image].shape[-1]
    count = 0
    try:
        images = np.empty((expected, size, size, channels), np.uint8)
        labels = np.empty(expected, np.int32)
        for batch in _batches(tfds, builder, split):
            here = slice(count, count + len(batch))
            pictures = [example[image] for example in batch]
            if len({picture.shape for picture in pictures}) == 1:
                images[here] = fit(np.stack(pictures), size)
            else:
                images[here] = [fit(picture[None], size)[0] for picture in pictures]
            labels[here] = [example[label] for example in batch]
            count += len(batch)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(builder, split, f"failed ({first_paragraph(error)})") from error
    if not count or count != expected:
        raise _damaged(builder, split, f"gave {count} of {expected} examples")
    return Split(images, labels)


def _batches(
    tfds: ModuleType, builder: "tensorflow_datasets.core.DatasetBuilder", split: str
) -> Iterator[list[dict[str, Any]]]:
    """Examples in their stored order."""
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        source = builder.as_data_source(split=split)
        for start in range(0, len(source), _BATCH):
            yield source.__getitems__(range(start, min(start + _BATCH, len(source))))
        return
    # Prepared by someone else in tensorflow-datasets' default format: only TensorFlow reads it.
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"{builder.data_path} is in the format {builder.info.file_format.value}, which needs "
            f"TensorFlow to read: {INSTALL}. Or give another data_dir, to prepare it anew."
        )
    hide_gpus()
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=in_order)
    for example in tfds.as_numpy(dataset):
        yield [example]


def _damaged(
    builder: "tensorflow_datasets.core.DatasetBuilder", split: str, what: str
) -> DataError:
    return DataError(
        f"{builder.data_path} is damaged: reading its split {split} {what}. Delete the folder to "
        "have it prepared anew."
    )
