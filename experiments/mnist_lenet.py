"""LeNet-5 evolves on MNIST: the papers' first experiment."""

import sys
from pathlib import Path

from evojax.command import Options, run
from evojax.evolution import Settings
from evojax.learning import Recipe
from evojax.models.lenet import LeNet

DEFAULTS = Options(
    out=Path("runs/mnist_lenet"),
    data="mnist",
    settings=Settings(
        generations=12,
        sizes=(2.3, 5.2, 12.1, 22.0, 32.3, 45.0, 62.8, 88.0, 125.1, 177.0, 250.1),
        epochs=(2, 1, 1, 1, 1, 1, 2, 2, 3, 5, 2, 4),
        selection_pressure=8.0,
        sweep=True,
        recipe=Recipe(learning_rate=3e-3, sparse_rate=0.45, batch_size=32),
    ),
)

if __name__ == "__main__":
    sys.exit(run("mnist_lenet", LeNet, DEFAULTS, __doc__))
