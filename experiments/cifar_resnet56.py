"""ResNet-56 evolves on CIFAR-10 (Shafiee, Barshan & Wong 2017, Table II and V).

    python experiments/cifar_resnet56.py

It is meant for a GPU: 0.85 million parameters in 56 layers, 125 million multiply-accumulates an
image, 240 epochs of 50,000 images. Reckoned from that, not measured: an hour on a data centre's GPU
in bfloat16, days on a CPU. Expected, not measured: the paper's accuracies or better (93.0 % of the
ancestor, 90.3 % at 3-fold, 89.8 % at 4-fold; to 10-fold the paper has none).

To see the whole chain at work on a CPU, add

    --subset 0.02 --epochs 1 --generations 2 --litter 2

The controls at the same sizes, with the same litters (magnitude, random, synapse_driven):

    python experiments/cifar_resnet56.py --out runs/magnitude --encoding magnitude --max-drop 100
"""

from functools import partial
from pathlib import Path

from evojax.command import Options, leave, run
from evojax.evolution import Settings
from evojax.learning import Recipe
from evojax.models import ResNet

DEFAULTS = Options(
    out=Path("runs/cifar_resnet56"),
    data="cifar10",
    settings=Settings(
        generations=9,
        sizes=(1.29, 1.66, 2.25, 3.04, 4.02, 5.5, 7.4, 10),
        epochs=(80, 15, 15, 15, 15, 30, 15, 15, 40),
        selection_pressure=16.0,
        clusters=0.9,
        synapses=0.9,
        sweep=True,
        litter=16,
        recipe=Recipe(
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=5e-3,
            batch_size=128,
            crop=4,
            flip=True,
            cutout=8,
            compute_dtype="auto",
        ),
    ),
)

if __name__ == "__main__":
    leave(run("cifar_resnet56", partial(ResNet, 9), DEFAULTS, __doc__))
