"""Image classification data: where it comes from, and augmentation on the device.

Sources are imported where they are asked for: importing this package needs neither
scikit-learn nor tensorflow-datasets.
"""

from evojax.data.augment import crop, cutout, flip, shift
from evojax.data.dataset import DataError, Dataset, Split
from evojax.data.sources import load

__all__ = ["DataError", "Dataset", "Split", "crop", "cutout", "flip", "load", "shift"]
