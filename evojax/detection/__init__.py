"""Detection of objects: boxes, what a grid network is taught, its losses, decoding and metrics.

Knows nothing of networks, of data and of genetics: arrays in, arrays out.
"""

from evojax.detection.boxes import (
    Detections,
    Objects,
    areas,
    far_to_near,
    intersections,
    no_detections,
    no_objects,
    overlaps,
)
from evojax.detection.decoding import Decoding, decode, labelled
from evojax.detection.difficulty import EASY, HARD, MODERATE, Difficulty
from evojax.detection.losses import BOX_WEIGHT, Losses, losses
from evojax.detection.metrics import Score, original, whole
from evojax.detection.ranked import AveragePrecision, average_precision
from evojax.detection.targets import Coverage, Targets, targets

__all__ = [
    "BOX_WEIGHT",
    "EASY",
    "HARD",
    "MODERATE",
    "AveragePrecision",
    "Coverage",
    "Decoding",
    "Detections",
    "Difficulty",
    "Losses",
    "Objects",
    "Score",
    "Targets",
    "areas",
    "average_precision",
    "decode",
    "far_to_near",
    "intersections",
    "labelled",
    "losses",
    "no_detections",
    "no_objects",
    "original",
    "overlaps",
    "targets",
    "whole",
]
