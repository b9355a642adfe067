"""Street scenes with labelled cars: KITTI, from disk to batches.

Needs the packages of ``pip install 'evojax-synthesis[detection]'``: OpenCV and Grain.
"""

try:
    import cv2  # noqa: F401
    import grain  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"KITTI's scenes need packages that are not installed ({error}): "
        "pip install 'evojax-synthesis[detection]'"
    ) from error

from evojax.data.kitti.augmentation import ORIGINAL, Augmentation, augment
from evojax.data.kitti.labels import SceneError, parse_labels
from evojax.data.kitti.pipeline import Batch, View, batches, in_order
from evojax.data.kitti.scenes import CELL, Scene, SceneList, Scenes
from evojax.data.kitti.sources import load_kitti

__all__ = [
    "CELL",
    "ORIGINAL",
    "Augmentation",
    "Batch",
    "Scene",
    "SceneError",
    "SceneList",
    "Scenes",
    "View",
    "augment",
    "batches",
    "in_order",
    "load_kitti",
    "parse_labels",
]
