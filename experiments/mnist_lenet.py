"""LeNet-5 evolves on MNIST: the papers' first experiment (Shafiee & Wong 2016, Table 1 and 2).

    python experiments/mnist_lenet.py

One to two hours on one CPU core, whose work it is. Expect 99.0 % or more at 125-fold, 98.5 % to
98.7 % at 250-fold. The papers' method, read literally, with the same training:

    python experiments/mnist_lenet.py --out runs/literal --selection-pressure 1 --litter 1 \\
        --clusters 0.8 --synapses 0.8 --sizes --sweep False --sample-biases False \\
        --generations 13 --max-drop 100

and the controls at the same sizes, with the same training (magnitude, random, synapse_driven):

    python experiments/mnist_lenet.py --out runs/magnitude --encoding magnitude \\
        --sample-biases False --generations 12 --max-drop 100
"""

from pathlib import Path

from evojax.command import Options, leave, run
from evojax.evolution import Settings
from evojax.learning import Recipe
from evojax.models.lenet import LeNet

DEFAULTS = Options(
    out=Path("runs/mnist_lenet"),
    data="mnist",
    settings=Settings(
        generations=24,
        sizes=(
            2.3, 5.2, 12.1, 22.0, 32.3, 40, 50, 62.8, 78, 98,
            125.1, 132.5, 140.4, 148.7, 157.6, 166.9, 176.8, 187.4, 198.5, 210.3, 222.8, 236.1,
            250.1,
        ),
        epochs=(2, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4, 10, *[3] * 11, 10),
        sample_biases=True,
        selection_pressure=25.0,
        clusters=0.97,
        synapses=0.83,
        sweep=True,
        litter=32,
        recipe=Recipe(learning_rate=3e-3, sparse_rate=0.45, l1=0.01, batch_size=32),
    ),
)  # fmt: skip

if __name__ == "__main__":
    leave(run("mnist_lenet", LeNet, DEFAULTS, __doc__))
