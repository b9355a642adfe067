"""Detection of objects: boxes, what a grid network is taught, its losses, decoding and metrics.

Knows nothing of networks, of data and of genetics: arrays in, arrays out.
"""

from evojax.detection.boxes import (
    Detections,
    Objects,
    areas,
    intersections,
    no_detections,
    no_objects,
    overlaps,
)

__all__ = [
    "Detections",
    "Objects",
    "areas",
    "intersections",
    "no_detections",
    "no_objects",
    "overlaps",
]
