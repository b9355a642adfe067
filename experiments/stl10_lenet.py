"""LeNet-5 evolves on STL-10 at 32x32 pixels (Shafiee & Wong 2016, Table 1 and 2).

    python experiments/stl10_lenet.py

2,000 epochs of 5,000 images. Reckoned from MNIST's speed, not measured: two to four hours on one
CPU core, minutes on a GPU. Expected, not measured: the paper's accuracies or better (57.7 % of the
ancestor, 60.5 % at 15-fold, 56.6 % at 56-fold).

The papers' method, read literally, with the same training:

    python experiments/stl10_lenet.py --out runs/literal --selection-pressure 1 --litter 1 \\
        --clusters 0.8 --synapses 0.8 --sizes --sweep False --generations 10 --max-drop 100

and the controls at the same sizes, with the same litters (magnitude, random, synapse_driven):

    python experiments/stl10_lenet.py --out runs/random --encoding random --max-drop 100
"""

from pathlib import Path

from evojax.command import Options, leave, run
from evojax.evolution import Settings
from evojax.learning import Recipe
from evojax.models import LeNet

DEFAULTS = Options(
    out=Path("runs/stl10_lenet"),
    data="stl10",
    settings=Settings(
        generations=10,
        sizes=(1.54, 2.37, 3.71, 5.81, 9.3, 14.99, 24, 38.22, 56.27),
        epochs=(200,),
        selection_pressure=16.0,
        clusters=0.9,
        synapses=0.9,
        sweep=True,
        litter=32,
        recipe=Recipe(
            learning_rate=2e-3,
            sparse_rate=0.45,
            weight_decay=0.05,
            label_smoothing=0.1,
            batch_size=64,
            crop=4,
            flip=True,
            cutout=8,
            compute_dtype="auto",
        ),
    ),
)

if __name__ == "__main__":
    leave(run("stl10_lenet", LeNet, DEFAULTS, __doc__))
