"""An experiment like those in experiments/, of a network and with settings for a second's work."""

from pathlib import Path

import flax.linen as nn
import jax

from evojax.command import Options, leave, run
from evojax.evolution import Settings
from evojax.learning import Recipe


class Small(nn.Module):
    """For 32x32 images: a convolution and a classifier."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits (N, classes) of images (N, 32, 32, C)."""
        x = nn.relu(nn.Conv(4, (8, 8), (8, 8), name="conv")(x))
        return nn.Dense(self.classes, name="dense")(x.reshape(len(x), -1))


DEFAULTS = Options(
    out=Path("runs/small"),
    data="npz:quarters.npz",
    settings=Settings(
        generations=6, epochs=(4, 2), max_drop=100.0, recipe=Recipe(batch_size=16, shift=1)
    ),
)

if __name__ == "__main__":
    leave(run("small", Small, DEFAULTS, "A small experiment."))
