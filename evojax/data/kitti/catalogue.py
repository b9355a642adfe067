"""KITTI through tensorflow-datasets: any image at any time, without TensorFlow once prepared."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from evojax.data.dataset import DataError
from evojax.data.kitti.labels import KINDS, SceneError, check_box
from evojax.data.kitti.scenes import Entry, Options, Scenes, check_shape, finish
from evojax.data.kitti.split import IMAGES, labelled, split
from evojax.data.tfds import prepared
from evojax.data.tfds_prepare import INSTALL, first_paragraph
from evojax.detection.boxes import Objects

if TYPE_CHECKING:
    import tensorflow_datasets

_NAME = "image/file_name"


def read_tfds(
    options: Options, *, manual_dir: str | None = None, data_dir: str | None = None
) -> Scenes:
    """Reads the set ``kitti`` of tensorflow-datasets, split as the papers did.

    Its own three splits are put together, and its images told apart by their files' names. A set
    that is not in `data_dir` yet is prepared there first, as by `evojax.data.load`: 12 GB to fetch,
    and as much again to keep. Each start reads it through once, for names and labels.

    tensorflow-datasets leaves DontCare regions out, so that what is found in them counts as false
    where KITTI's own metric would overlook it. A folder with KITTI's files has them.

    Args:
      options: the canvas, the share of training images, and whether to skip bad scenes.
      manual_dir: a folder with the original archives (data_object_image_2.zip and so on), used
        before the internet is.
      data_dir: where prepared sets lie; None: ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.

    Raises:
      DataError: where a package or an archive is missing, or what lies in `data_dir` is damaged,
        incomplete or in a format without random access.
    """
    with prepared("kitti", manual_dir, data_dir) as (tfds, builder):
        found: dict[str, Entry | SceneError] = {}
        for name, source in _sources(tfds, builder).items():
            _read(builder, name, source, found)
    missing = sorted(labelled() - found.keys())
    if missing:
        raise DataError(
            f"{builder.data_path} is damaged: it has {len(found)} of the {IMAGES} images of KITTI, "
            f"{missing[0]}.png is not among them. Delete the folder to have it prepared anew."
        )
    train, test = (
        [entry for entry in map(found.__getitem__, indices) if isinstance(entry, Entry)]
        for indices in split(found)
    )
    return finish(
        "kitti",
        str(builder.data_path),
        train,
        test,
        [problem for problem in found.values() if isinstance(problem, SceneError)],
        options,
    )


def _sources(
    tfds: ModuleType, builder: tensorflow_datasets.core.DatasetBuilder
) -> dict[str, Sequence[dict[str, Any]]]:
    """The splits by name; images in them stay encoded."""
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise DataError(
            f"{builder.data_path} is in the format {builder.info.file_format.value}, which gives "
            "no access to single images. Give another data_dir (--data-dir), to prepare it anew: "
            f"{INSTALL}"
        )
    encoded = {"image": tfds.decode.SkipDecoding()}
    return {
        name: builder.as_data_source(split=name, decoders=encoded) for name in builder.info.splits
    }


def _read(
    builder: tensorflow_datasets.core.DatasetBuilder,
    name: str,
    source: Sequence[dict[str, Any]],
    found: dict[str, Entry | SceneError],
) -> None:
    """Adds the entries of one split to `found`, by index."""
    kinds = builder.info.features["objects"].feature["type"].names
    if not set(kinds) <= set(KINDS):
        raise DataError(f"{builder.data_path} has the kinds {kinds}; expected those of KITTI.")
    try:
        for number in range(len(source)):
            example = source[number]
            file = example[_NAME].decode()
            image = partial(_image, source, number)
            index = Path(file).stem
            try:
                found[index] = _entry(index, f"{builder.data_path}: {file}", example, kinds, image)
            except SceneError as problem:
                found[index] = problem.with_traceback(None)  # which holds the image
    except Exception as error:
        raise DataError(
            f"{builder.data_path} is damaged: reading its split {name} failed "
            f"({first_paragraph(error)}). Delete the folder to have it prepared anew."
        ) from error


def _image(source: Sequence[dict[str, Any]], number: int) -> bytes:
    try:
        return source[number]["image"]
    except Exception as error:  # of its own kinds, where what lies on the disk is damaged
        raise OSError(first_paragraph(error)) from error


def _entry(
    index: str,
    where: str,
    example: dict[str, Any],
    kinds: list[str],
    image: Callable[[], bytes],
) -> Entry:
    encoded = example["image"]
    try:
        with Image.open(io.BytesIO(encoded)) as header:
            width, height = header.size
            header.verify()  # All its checksums.
    except Exception as error:  # what a damaged file raises has no end
        raise SceneError("unreadable image", f"{where} cannot be read ({error}).") from error
    check_shape(where, (height, width))
    objects = _objects(example["objects"], kinds, (height, width))
    for box in objects.boxes.tolist():
        check_box(box, where, (height, width))
    return Entry(index, where, len(encoded), (height, width), objects, image)


def _objects(stored: dict[str, Any], kinds: list[str], shape: tuple[int, int]) -> Objects:
    """Labels in pixels.

    The catalogue's boxes are shares of the image's sides, (ymin, xmin, ymax, xmax), whose y counts
    from the lower edge up. KITTI writes pixels with two digits: rounding gives them back exactly.
    """
    height, width = shape
    low, left, high, right = np.asarray(stored["bbox"], np.float64).reshape(-1, 4).T
    boxes = [left * width, (1 - high) * height, right * width, (1 - low) * height]
    return Objects(
        np.array([kinds[number] for number in stored["type"]], np.str_),
        np.stack(boxes, 1).round(2).astype(np.float32),
        np.asarray(stored["truncated"], np.float32),
        np.asarray(stored["occluded"], np.int32),
        np.asarray(stored["location"], np.float32).reshape(-1, 3)[:, 2],
    )
