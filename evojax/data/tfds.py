"""Image classification sets of tensorflow-datasets, prepared once and read without TensorFlow."""

import contextlib
import difflib
import importlib.util
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evojax.data.dataset import DataError, Dataset, Split
from evojax.data.resize import fit

_INSTALL = "pip install 'evojax-synthesis[tfds]'"
_BATCH = 512
_REACH_SECONDS = 10.0
_log = logging.getLogger(__name__)


def load_tfds(
    name: str, *, manual_dir: str | None = None, data_dir: str | None = None, size: int = 32
) -> Dataset:
    """Reads a set by its name in the catalogue, e.g. ``"mnist"`` or ``"cifar10"``.

    A set that is not in ``data_dir`` yet is prepared there first, which needs TensorFlow and
    either the internet or the original archives in ``manual_dir``; their checksums are compared.
    An interrupted preparation leaves nothing that counts as prepared.

    Args:
      name: as in the catalogue, optionally with its configuration or version
        (``"cifar10_corrupted/brightness_1"``, ``"mnist:3.0.1"``).
      manual_dir: a folder with the original archives under the names the catalogue expects.
      data_dir: where prepared sets lie; None: ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.
      size: height and width of the images; they are brought to it while reading, because the
        images of some sets have different sizes (see `resize.fit`).

    Returns:
      A `Dataset` from the splits ``train`` and ``test``, images ``(N, size, size, C)``.

    Raises:
      DataError: where the set is unknown, is not for image classification or lacks a split, a
        package or an archive is missing, or what lies in ``data_dir`` is damaged.
    """
    if manual_dir is not None and not Path(manual_dir).expanduser().is_dir():
        raise DataError(f"manual_dir is {manual_dir!r}, which is not a folder.")
    with _quiet():
        builder = _builder(name, data_dir)
        image, label, classes = _features(name, builder)
        if not builder.is_prepared():
            _prepare(name, builder, manual_dir)
            builder = _builder(name, data_dir)
        absent = [split for split in ("train", "test") if split not in builder.info.splits]
        if absent:
            raise DataError(
                f"{name} has no split {' and no split '.join(absent)}, only "
                f"{', '.join(builder.info.splits)}. Write the images you want as train and test "
                "into a file and give npz:FILE as the source."
            )
        train, test = (_read(builder, split, image, label, size) for split in ("train", "test"))
    return Dataset(name, classes, train, test)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the progress bars, prints, logs and warnings of the packages below us to themselves."""
    tfds = _require()
    from absl import logging as absl_logging
    from tensorflow_datasets.core.utils import tqdm_utils

    absl_level, bars = absl_logging.get_verbosity(), tqdm_utils._active
    urllib3 = logging.getLogger("urllib3")
    urllib3_level = urllib3.level
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, when TensorFlow is imported
    tfds.disable_progress_bar()
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


def _require() -> Any:
    try:
        import PIL.Image  # noqa: F401  (decodes the stored images)
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"Data sets by name come through tensorflow-datasets, and {error.name} is not "
            f"installed: {_INSTALL}"
        ) from error
    return tfds


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    if data_dir is not None:
        data_dir = str(Path(data_dir).expanduser())
    try:
        parsed, _ = tfds.core.naming.parse_builder_name_kwargs(name)
        if parsed.namespace:
            raise DataError(
                f"{name}: sets of {parsed.namespace!r} are not supported, only those of the "
                "tensorflow-datasets catalogue itself, by their plain names."
            )
        return tfds.builder(name, data_dir=data_dir)
    except DataError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name.lower(), ["digits", *known], n=5)
        raise DataError(
            f"There is no data set {name!r}."
            + (f" Did you mean {', '.join(close)}?" if close else "")
            + " Expected 'digits', npz:FILE or a name from "
            "https://www.tensorflow.org/datasets/catalog/overview#image_classification"
        ) from error
    except Exception as error:
        raise DataError(f"{name} cannot be opened: {_first_lines(error)}") from error


def _features(name: str, builder: Any) -> tuple[str, str, int]:
    """The keys of image and label, and the number of classes."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    image, label = "image", "label"
    keys = builder.info.supervised_keys
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
            f"one class label, but it has {', '.join(kinds) or 'none of them'}."
        )
    if kinds[image].np_dtype != np.uint8 or kinds[image].shape[-1] is None:
        raise DataError(
            f"{name} has images of {np.dtype(kinds[image].np_dtype)} and shape "
            f"{kinds[image].shape}; expected uint8 and a fixed number of channels."
        )
    return image, label, kinds[label].num_classes


def _prepare(name: str, builder: Any, manual_dir: str | None) -> None:
    import tensorflow_datasets as tfds

    folder = builder.data_path
    if folder.exists():
        raise DataError(
            f"{folder} exists, but it is not a complete tensorflow-datasets folder. Delete it to "
            "have it prepared anew."
        )
    needed = ("tensorflow", "importlib_resources")
    lacking = [package for package in needed if importlib.util.find_spec(package) is None]
    if lacking:
        raise DataError(
            f"{name} is not prepared in {builder.data_dir_root}, and preparing it (once) needs "
            f"{' and '.join(lacking)}: {_INSTALL}. Reading it afterwards does not."
        )
    root = Path(builder.data_dir_root)
    missing = _missing(builder, manual_dir)
    _check_reachable(name, builder, missing)
    _hide_gpus()
    # A library is silent, but minutes of silence look like a hang: one line, once per data set.
    _log.warning("Preparing %s in %s, once; this can take minutes.", name, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Extracted files are cached by the archive's name alone, which sets share (MNIST and
        # Fashion-MNIST do): in a common folder, one would be read for the other.
        with tempfile.TemporaryDirectory(prefix="extracting.", dir=root) as extracted:
            builder.download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual_dir, extract_dir=extracted, try_download_gcs=False
                ),
            )
    except Exception as error:
        if not builder.is_prepared():  # it is, where another process was faster
            raise DataError(
                f"{name} could not be prepared: {_first_lines(error)}\n{_advice(builder, missing)}"
            ) from error


def _missing(builder: Any, manual_dir: str | None) -> dict[str, str]:
    """The registered archives that are not in manual_dir: address -> file name."""
    folder = None if manual_dir is None else Path(manual_dir).expanduser()
    return {
        url: info.filename or ""
        for url, info in (builder.url_infos or {}).items()
        if not (folder and info.filename and (folder / info.filename).is_file())
    }


def _check_reachable(name: str, builder: Any, missing: dict[str, str]) -> None:
    """Fails within seconds where tensorflow-datasets would retry for minutes.

    Of a set with configurations only some of the archives are needed: then one that is there is
    taken for the one needed, and tensorflow-datasets has the last word.
    """
    some_there = len(missing) < len(builder.url_infos or {})
    url = next((url for url in missing if url.startswith("http")), None)
    if url is None or (builder.BUILDER_CONFIGS and some_there):
        return
    import requests

    try:
        requests.head(url, timeout=_REACH_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise DataError(
            f"{name} is not prepared in {builder.data_dir_root}, and {url} cannot be reached.\n"
            f"{_advice(builder, missing)}"
        ) from error


def _advice(builder: Any, missing: dict[str, str]) -> str:
    advice = "Without the internet: put {} into a folder and name it with --manual-dir (manual_dir="
    advice += ")."
    files = sorted({file for file in missing.values() if file})
    listed = ", ".join(files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    return advice.format(listed or "the original archives")


def _hide_gpus() -> None:
    """Keeps TensorFlow, where it is built for GPUs, from taking the memory that JAX needs."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # too late: it has them already
        tf.config.set_visible_devices([], "GPU")


def _read(builder: Any, split: str, image: str, label: str, size: int) -> Split:
    expected = builder.info.splits[split].num_examples
    images, labels = [], []
    try:
        for batch in _batches(builder, split):
            pictures = [example[image] for example in batch]
            if len({picture.shape for picture in pictures}) == 1:
                images.append(fit(np.stack(pictures), size))
            else:
                images += [fit(picture[None], size) for picture in pictures]
            labels += [int(example[label]) for example in batch]
    except DataError:
        raise
    except Exception as error:
        raise _damaged(builder, split, _first_lines(error)) from error
    if not labels or len(labels) != expected:
        raise _damaged(builder, split, f"{len(labels)} of {expected} examples")
    return Split(np.concatenate(images), np.asarray(labels, np.int32))


def _batches(builder: Any, split: str) -> Iterator[list[dict[str, Any]]]:
    """Examples in their stored order."""
    import tensorflow_datasets as tfds

    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        source = builder.as_data_source(split=split)
        for start in range(0, len(source), _BATCH):
            yield source.__getitems__(range(start, min(start + _BATCH, len(source))))
        return
    # Prepared by someone else in the other format: only TensorFlow reads it.
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"{builder.data_path} is in the format {builder.info.file_format.value}, which needs "
            f"TensorFlow to read: {_INSTALL}. Or give another data_dir, to prepare it anew."
        )
    _hide_gpus()
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    for example in tfds.as_numpy(
        builder.as_dataset(split=split, shuffle_files=False, read_config=in_order)
    ):
        yield [example]


def _damaged(builder: Any, split: str, what: str) -> DataError:
    return DataError(
        f"{builder.data_path} is damaged: reading the split {split} gave {what}. Delete the "
        "folder to have it prepared anew."
    )


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split("\n\n")[0].split())[:500] or type(error).__name__
