"""Preparing a set of tensorflow-datasets, once: from the internet or from archives in a folder."""

import contextlib
import importlib.util
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from evojax.data.dataset import DataError

if TYPE_CHECKING:
    import tensorflow_datasets

SPLITS = ("train", "test")
INSTALL = "pip install 'evojax-synthesis[tfds]'"
_NEEDED = ("tensorflow", "importlib_resources")
_REACH_SECONDS = 10.0
_log = logging.getLogger(__name__)


def prepare(
    name: str, builder: "tensorflow_datasets.core.DatasetBuilder", manual_dir: Path | None
) -> None:
    """Writes a set into its builder's folder, in the format that needs no TensorFlow to read.

    Of a set that has them, only the splits `SPLITS`: who wants the others as well, from the same
    folder, prepares the set with tensorflow-datasets itself, which reads the same here.

    tensorflow-datasets writes into a folder of its own and renames it as the last step, so an
    interrupted preparation is not taken for a finished one.

    Args:
      name: what messages call the set.
      builder: of a set that is not prepared.
      manual_dir: a folder with the original archives, used before the internet is; or None.

    Raises:
      DataError: where something half-made is in the way, a package is missing, or an archive
        is neither in the folder nor to be fetched, or not the original.
    """
    if builder.data_path.exists():
        raise DataError(
            f"{builder.data_path} exists, but is not a complete tensorflow-datasets folder. "
            "Delete it to have it prepared anew."
        )
    lacking = [package for package in _NEEDED if importlib.util.find_spec(package) is None]
    if lacking:
        raise DataError(
            f"{name} is not prepared in {builder.data_dir_root}, and preparing it (once) needs "
            f"{' and '.join(lacking)}: {INSTALL}. Reading it afterwards does not."
        )
    missing = _missing(builder, manual_dir)
    _check_reachable(name, builder, missing)
    # A library is silent, but minutes of silence look like a hang: one line, once per data set.
    _log.warning("Preparing %s in %s, once: this can take minutes.", name, builder.data_dir_root)
    hide_gpus()
    try:
        _download_and_prepare(builder, manual_dir)
    except Exception as error:
        if not builder.is_prepared():  # it is, where another process was faster
            raise DataError(
                f"{name} could not be prepared: {first_paragraph(error)}\n"
                f"{_advice(builder, missing, manual_dir)}"
            ) from error


def hide_gpus() -> None:
    """Keeps TensorFlow, where it is built for GPUs, from taking the memory that JAX needs."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # too late: it has them already
        tf.config.set_visible_devices([], "GPU")


def first_paragraph(error: BaseException) -> str:
    """What an error says, on one line and without the pages that may follow."""
    text = str(error).split("\n\n")[0].split("To debug")[0]
    return " ".join(text.split())[:500] or type(error).__name__


def _download_and_prepare(
    builder: "tensorflow_datasets.core.DatasetBuilder", manual_dir: Path | None
) -> None:
    import tensorflow_datasets as tfds

    root = Path(builder.data_dir_root)
    root.mkdir(parents=True, exist_ok=True)
    # Extracted files are cached by the archive's name alone, which different sets share (MNIST
    # and Fashion-MNIST do): in a common folder, one would be read in place of the other.
    with tempfile.TemporaryDirectory(prefix="extracting.", dir=root) as extracted:
        config = tfds.download.DownloadConfig(
            manual_dir=None if manual_dir is None else str(manual_dir),
            extract_dir=extracted,
            try_download_gcs=False,  # would ask the network even where all archives are there
        )
        builder.download_and_prepare(download_config=config, file_format="array_record")


def _missing(
    builder: "tensorflow_datasets.core.DatasetBuilder", manual_dir: Path | None
) -> dict[str, str]:
    """The registered archives that are not in manual_dir: address -> file name, "" if unknown."""
    return {
        url: info.filename or ""
        for url, info in (builder.url_infos or {}).items()
        if not (manual_dir and info.filename and (manual_dir / info.filename).is_file())
    }


def _check_reachable(
    name: str, builder: "tensorflow_datasets.core.DatasetBuilder", missing: dict[str, str]
) -> None:
    """Fails within seconds where tensorflow-datasets would retry for minutes.

    Of a set with several configurations only some archives are needed. There, one that is in the
    folder is taken for the one needed, and tensorflow-datasets has the last word.
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
            f"{_advice(builder, missing, None)}"
        ) from error


def _advice(
    builder: "tensorflow_datasets.core.DatasetBuilder",
    missing: dict[str, str],
    manual_dir: Path | None,
) -> str:
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        asked = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        return f"By hand, with manual_dir (--manual-dir): {asked}"
    if manual_dir is not None and not missing:
        return f"All archives are in {manual_dir}: if one has a wrong checksum, fetch it again."
    names = sorted({file for file in missing.values() if file}) or ["the original archives"]
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return (
        f"Without the internet: put {listed} into a folder and give it as manual_dir "
        "(--manual-dir)."
    )
