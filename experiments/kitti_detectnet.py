"""DetectNet evolves on KITTI (Shafiee, Barshan & Wong 2017, Table III and VI).

    python experiments/kitti_detectnet.py                        # by tensorflow-datasets
    python experiments/kitti_detectnet.py --data kitti:FOLDER    # image_2/, label_2/

It is meant for a GPU. On a CPU see that the whole chain learns, on 16 images of half the size that
it then knows by heart (precision 83 to 91 %, recall 97 to 100 % on them; 15 minutes on a core):

    python experiments/kitti_detectnet.py --out runs/smoke --data kitti:FOLDER --subset 0.05 \\
        --height 192 --width 624 --augment False --workers 1 --generations 1 --epochs 120 \\
        --batch-size 4 --learning-rate 2e-3

The controls at the same sizes (magnitude, random, synapse_driven), of an ancestor that is trained
only once (the last command alone would train it anew, to the same bits):

    python experiments/kitti_detectnet.py --generations 1
    cp -r runs/kitti_detectnet runs/magnitude
    python experiments/kitti_detectnet.py --out runs/magnitude --encoding magnitude --max-drop 100
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evojax.command import Options, leave, run_task
from evojax.data.kitti import ORIGINAL, load_kitti
from evojax.evolution import Settings
from evojax.evolution.detection import Service, detection
from evojax.evolution.task import Task
from evojax.learning import Model, Recipe, linen
from evojax.models import DetectNet


@dataclass(frozen=True)
class Detection(Options):
    """Where a run lies, what it learns from, and how scenes are served.

    Attributes:
        data: kitti, by tensorflow-datasets, or kitti:FOLDER, in KITTI's own layout.
        height: of the images, pixels.
        width: of the images, pixels; less than 384 x 1248 scales them down, to 192 x 624 for
            example.
        skip_bad: go on without images or labels that cannot be used; they are counted.
        augment: change training images at random, as the original does.
        workers: threads that prepare batches; changes no bit of the lineage.
        normalisation: batch, or response as in the original.
    """

    data: str
    height: int = 384
    width: int = 1248
    skip_bad: bool = False
    augment: bool = True
    workers: int = 8
    normalisation: Literal["batch", "response"] = "batch"


DEFAULTS = Detection(
    out=Path("runs/kitti_detectnet"),
    data="kitti",
    settings=Settings(
        generations=11,
        sizes=(1.25, 1.56, 1.95, 2.48, 3.1, 3.9, 5.24, 6.6, 8.2, 9.97),
        epochs=(60, 10, 10, 10, 10, 10, 10, 10, 10, 20),
        selection_pressure=16.0,
        clusters=0.9,
        synapses=0.9,
        litter=8,
        recipe=Recipe(learning_rate=1e-3, batch_size=10, compute_dtype="auto"),
    ),
)


def prepare(options: Detection) -> tuple[Model, Task]:
    """The detector, and the scenes to learn from."""
    service = Service(ORIGINAL if options.augment else None, options.workers)
    scenes = load_kitti(
        options.data,
        manual_dir=options.manual_dir,
        data_dir=options.data_dir,
        height=options.height,
        width=options.width,
        subset=options.subset,
        skip_bad=options.skip_bad,
    )
    return linen(DetectNet(options.normalisation)), detection(scenes, service)


if __name__ == "__main__":
    leave(run_task("kitti_detectnet", prepare, DEFAULTS, __doc__))
