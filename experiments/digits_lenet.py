"""LeNet-5 evolves on scikit-learn's embedded handwritten digits: a first look, offline.

    python experiments/digits_lenet.py

Two minutes on two CPU cores, compilation included.
"""

from pathlib import Path

from evojax.command import Options, leave, run
from evojax.evolution import Settings
from evojax.learning import Recipe
from evojax.models.lenet import LeNet

DEFAULTS = Options(
    out=Path("runs/digits_lenet"),
    data="digits",
    settings=Settings(
        generations=8,
        epochs=(15, 5),
        selection_pressure=8.0,
        sweep=True,
        recipe=Recipe(learning_rate=3e-3, sparse_rate=0.45, batch_size=32, shift=2),
    ),
)

if __name__ == "__main__":
    leave(run("digits_lenet", LeNet, DEFAULTS, __doc__))
