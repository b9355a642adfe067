"""AlexNet evolves on CIFAR-10 (Shafiee & Wong 2016, Table 1 and 3).

    python experiments/cifar_alexnet.py

It is meant for a GPU: 37 million parameters, 396 million multiply-accumulates an image, 150 epochs
of 50,000 images. Reckoned from that, not measured: less than half an hour on a data centre's GPU in
bfloat16, days on a CPU. Expected, not measured: the paper's accuracies or better (86.7 % of the
ancestor, 86.9 % at 5-fold, 84.6 % at 14-fold; to 50-fold the paper has none).

To see the whole chain at work on a CPU, add

    --subset 0.02 --epochs 1 --generations 2 --litter 2

The controls at the same sizes, with the same litters (magnitude, random, synapse_driven):

    python experiments/cifar_alexnet.py --out runs/magnitude --encoding magnitude --max-drop 100
"""

from pathlib import Path

from evojax.command import Options, leave, run
from evojax.evolution import Settings
from evojax.learning import Recipe
from evojax.models import AlexNet

DEFAULTS = Options(
    out=Path("runs/cifar_alexnet"),
    data="cifar10",
    settings=Settings(
        generations=9,
        sizes=(1.64, 2.82, 5.06, 8.39, 14.39, 22, 33, 50),
        epochs=(40, 10, 10, 10, 10, 20, 10, 10, 30),
        selection_pressure=16.0,
        clusters=0.9,
        synapses=0.9,
        sweep=True,
        litter=16,
        recipe=Recipe(
            learning_rate=2e-3,
            weight_decay=0.05,
            label_smoothing=0.1,
            batch_size=256,
            crop=4,
            flip=True,
            cutout=8,
            compute_dtype="auto",
        ),
    ),
)

if __name__ == "__main__":
    leave(run("cifar_alexnet", AlexNet, DEFAULTS, __doc__))
