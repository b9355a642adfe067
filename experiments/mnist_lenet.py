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
        generations=14,
        epochs=(10, 3),
        selection_pressure=8.0,
        recipe=Recipe(),
    ),
)

if __name__ == "__main__":
    sys.exit(run("mnist_lenet", LeNet, DEFAULTS, __doc__))
