"""A folder in KITTI's own layout, checked whole before any work starts."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from evojax.data.dataset import DataError
from evojax.data.kitti.labels import SceneError, parse_labels
from evojax.data.kitti.scenes import Entry, Options, Scenes, check_shape, finish
from evojax.data.kitti.split import IMAGES, labelled, split
from evojax.files import expanded

_PICTURES = (".png", ".jpg", ".jpeg")
_TAIL = 64  # bytes at a file's end in which its end marker is looked for
_ENDS = {"PNG": b"IEND\xaeB\x60\x82", "JPEG": b"\xff\xd9"}


class _Listed(NamedTuple):
    """An image's index, and what messages call the place where it is listed."""

    image: str
    where: str


def read_folder(folder: str, options: Options) -> Scenes:
    """Reads ``image_2/*.png`` (or .jpg), ``label_2/*.txt`` and the lists of indices, if there.

    ``train.txt`` and ``test.txt``, an index a line, tell which images are for training and for
    measuring; images in neither are not looked at. Without them the folder must be KITTI's whole
    training set, which is then split as the papers did (see `split.validation`).

    Every image's labels and file are read once: its header, its end and, of a PNG, all checksums
    are looked at (2 ms each). It is decoded only when it is asked for, and damage inside a JPEG,
    which has no checksums, is not found.

    Args:
      folder: with ``image_2`` and ``label_2`` inside.
      options: the canvas, the share of training images, and whether to skip bad scenes. Skipping,
        of an index that is listed twice the first stays, of one in both lists that of ``test.txt``.

    Returns:
      `Scenes` named ``kitti`` where the split is the papers', else after the folder.

    Raises:
      DataError: where the folder lacks something, or naming the scenes that cannot be used, each
        with its file and line.
    """
    problems: list[SceneError] = []
    try:
        root = expanded(folder)
        pictures, labels = _files(root, problems)
        lists = _lists(root, problems) or _whole(root, pictures.keys() | labels.keys())
    except OSError as error:
        raise DataError(
            f"{folder} cannot be looked into ({error}); expected a folder with image_2 and "
            "label_2 that you may read."
        ) from error
    found: list[list[Entry]] = []
    for indices in lists:
        entries = []
        for listed in indices:
            try:
                entries.append(_entry(root, listed, pictures, labels))
            except SceneError as problem:
                problems.append(problem)
        found.append(entries)
    name = _name(root, *([index for index, _ in indices] for indices in lists))
    train, test = found
    return finish(name, str(root.absolute()), train, test, problems, options)


def _files(root: Path, problems: list[SceneError]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and label files by their index."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder; expected one with image_2 and label_2, as KITTI's.")
    for part in ("image_2", "label_2"):
        if not (root / part).is_dir():
            inner = root / "training"
            hint = f" Is it {inner}?" if (inner / part).is_dir() else ""
            raise DataError(
                f"{root} has no folder {part}; expected image_2 with images and label_2 with "
                f"labels, as in KITTI's training folder.{hint}"
            )
    pictures: dict[str, Path] = {}
    for file in _visible(root / "image_2"):
        if file.suffix.lower() not in _PICTURES:
            reason, what = (
                "not an image",
                f"ends in none of {', '.join(_PICTURES)}; expected images",
            )
        elif file.stem in pictures:
            same = pictures[file.stem].name
            reason, what = "two images", f"has the index of {same}; expected one image an index"
        else:
            pictures[file.stem] = file
            continue
        problems.append(SceneError(reason, f"image_2/{file.name} {what}."))
    labels = {f.stem: f for f in _visible(root / "label_2") if f.suffix == ".txt"}
    return pictures, labels


def _visible(folder: Path) -> list[Path]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.name[0] != ".")
    return [folder / name for name in names]


def _lists(root: Path, problems: list[SceneError]) -> tuple[list[_Listed], list[_Listed]] | None:
    """What train.txt and test.txt list; None where neither is there."""
    there = [file for file in ("train.txt", "test.txt") if os.path.lexists(root / file)]
    if not there:
        return None
    if len(there) == 1:
        raise DataError(
            f"{root} has {there[0]} alone; expected both train.txt and test.txt, or neither where "
            f"all {IMAGES} images of KITTI are there."
        )
    # The test list first: what it has is taken out of training, not the other way round.
    seen: dict[str, str] = {}
    test = _list(root / "test.txt", seen, problems)
    return _list(root / "train.txt", seen, problems), test


def _list(file: Path, seen: dict[str, str], problems: list[SceneError]) -> list[_Listed]:
    listed = []
    for number, line in enumerate(_text(file, str(file)).splitlines(), 1):
        index, where = line.strip(), f"{file.name}, line {number}"
        if index in seen:
            twice = seen[index].startswith(file.name)
            problems.append(
                SceneError(
                    "index listed twice" if twice else "index in both lists",
                    f"{where}: the index {index} is in {seen[index]} already; expected each once.",
                )
            )
        elif index:
            seen[index] = where
            listed.append(_Listed(index, where))
    return listed


def _whole(root: Path, indices: set[str]) -> tuple[list[_Listed], list[_Listed]]:
    """The papers' split of all of KITTI."""
    missing, strange = sorted(labelled() - indices), sorted(indices - labelled())
    if missing or strange:
        parts = [f"lacks {len(missing)} of them ({_first(missing)})"] if missing else []
        parts += [f"has {len(strange)} others ({_first(strange)})"] if strange else []
        raise DataError(
            f"{root} has no train.txt and test.txt, so it must hold the {IMAGES} labelled images "
            f"of KITTI, 000000 to {IMAGES - 1:06d}, but it {' and '.join(parts)}. Write the "
            "indices to train on and to measure on into train.txt and test.txt, one a line."
        )
    train, test = split(indices)
    return [_Listed(i, "KITTI") for i in train], [_Listed(i, "KITTI") for i in test]


def _first(indices: list[str]) -> str:
    return ", ".join(indices[:5]) + (", ..." if len(indices) > 5 else "")


def _name(root: Path, train: list[str], test: list[str]) -> str:
    if (sorted(train), sorted(test)) == split(labelled()):
        return "kitti"
    name = root.resolve().name
    # Only results on the papers' split are to be compared with the papers'.
    return "kitti-own-split" if name.lower() == "kitti" else name


def _entry(
    root: Path, listed: _Listed, pictures: dict[str, Path], labels: dict[str, Path]
) -> Entry:
    index, where = listed
    if index not in pictures:
        if index not in labels:
            raise SceneError(
                "no image",
                f"{where}: {index!r:.60} is no index; expected one a line, the name of an image in "
                "image_2 without its ending, such as 000012.",
            )
        raise SceneError(
            "no image",
            f"{where}: label_2/{index}.txt has no image; expected image_2/{index}.png or "
            f"image_2/{index}.jpg.",
        )
    picture = pictures[index]
    name = f"image_2/{picture.name}"
    if index not in labels:
        raise SceneError(
            "no labels",
            f"{where}: {name} has no labels; expected label_2/{index}.txt, empty if nothing is "
            "to be seen.",
        )
    shape, size = _look(picture, name)
    check_shape(name, shape)
    file = f"label_2/{index}.txt"
    objects = parse_labels(_text(labels[index], file), file, shape)
    return Entry(index, str(picture), size, shape, objects, picture.read_bytes)


def _look(picture: Path, name: str) -> tuple[tuple[int, int], int]:
    """Height and width from the header, and the file's length, once it is found whole."""
    try:
        content = picture.read_bytes()
        with Image.open(io.BytesIO(content), formats=tuple(_ENDS)) as image:
            width, height = image.size
            complete = _ENDS[str(image.format)] in content[-_TAIL:]
            if complete:
                image.verify()  # The checksums of a PNG; a JPEG has none.
    except UnidentifiedImageError as error:
        what = "is something else, by its first bytes" if content else "is empty"
        raise SceneError(
            "unreadable image", f"{name} {what}; expected a PNG or JPEG image."
        ) from error
    except Exception as error:  # what a damaged file raises has no end
        raise SceneError(
            "unreadable image", f"{name} cannot be read ({error}); expected a PNG or JPEG image."
        ) from error
    if not complete:
        raise SceneError(
            "truncated image",
            f"{name} ends too early, after {len(content)} bytes: only a part is there, or "
            f"something else follows the image. Expected its end in the last {_TAIL} bytes.",
        )
    return (height, width), len(content)


def _text(file: Path, name: str) -> str:
    try:
        return file.read_text("utf-8-sig")  # Some editors begin a file with a mark.
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(
            "unreadable labels", f"{name} cannot be read ({error}); expected text in UTF-8."
        ) from error
