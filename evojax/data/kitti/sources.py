"""One function that reads KITTI, wherever it is."""

from __future__ import annotations

from evojax.data.dataset import DataError, check_unused
from evojax.data.kitti.scenes import HEIGHT, WIDTH, Options, Scenes, check_canvas


def load_kitti(
    source: str = "kitti",
    *,
    manual_dir: str | None = None,
    data_dir: str | None = None,
    height: int = HEIGHT,
    width: int = WIDTH,
    subset: float = 1.0,
    skip_bad: bool = False,
) -> Scenes:
    """Finds KITTI's street scenes, and checks them; images are read later, one by one.

    Args:
      source: ``"kitti"`` by tensorflow-datasets (see `read_tfds`), or ``"kitti:FOLDER"`` with a
        folder in KITTI's own layout (see `read_folder`).
      manual_dir: for tensorflow-datasets: a folder with the original archives.
      data_dir: for tensorflow-datasets: where prepared sets lie; its own default where None.
      height: of the images, pixels.
      width: of the images, pixels. Less than 384 x 1248 scales images and boxes down.
      subset: the share of the training images to keep, in (0, 1], spread evenly over their list;
        the same whatever the seed. The test set stays whole.
      skip_bad: go on without scenes that cannot be used; `Scenes.skipped` counts them.

    Returns:
      `Scenes` for training and for measuring.

    Raises:
      DataError: (a ValueError) where an argument or the data cannot be used; it names files and
        lines, and says what to do.
    """
    check_canvas(height, width)
    if not 0.0 < subset <= 1.0:
        raise DataError(f"subset is {subset!r}; expected a share in (0, 1], e.g. 0.1 for a tenth.")
    options = Options((height, width), subset, skip_bad)
    if source == "kitti":
        from evojax.data.kitti.catalogue import read_tfds

        try:
            return read_tfds(options, manual_dir=manual_dir, data_dir=data_dir)
        except DataError as error:
            raise DataError(
                f"{error} Where KITTI's own files lie in FOLDER/image_2 and FOLDER/label_2, "
                "kitti:FOLDER as the source reads them as they are."
            ) from error
    kind, _, folder = source.partition(":")
    if kind != "kitti" or not folder.strip():
        raise DataError(f"source is {source!r}; expected 'kitti' or kitti:FOLDER.")
    check_unused(source, manual_dir=manual_dir, data_dir=data_dir)
    from evojax.data.kitti.folder import read_folder

    return read_folder(folder, options)
