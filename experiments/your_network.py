"""Bring your own network: it evolves on digits, gets smaller, and leaves as a file.

python experiments/your_network.py [--nnx]      # Flax Linen or NNX, under a minute
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
from flax import nnx

import evojax
from evojax import report
from evojax.data import load
from evojax.evolution import Settings, checkpoints, evolve
from evojax.learning import Recipe, linen
from evojax.learning import nnx as from_nnx
from evojax.models.layers import conv

SHORT = {"generations": 8, "epochs": (6, 3), "recipe": Recipe(batch_size=32)}


class YourLinen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3), strides=2, conv_general_dilated=conv)(x))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2, conv_general_dilated=conv)(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class YourNNX(nnx.Module):
    def __init__(self, rngs):
        same = {"strides": 2, "conv_general_dilated": conv, "rngs": rngs}
        self.conv1, self.conv2 = nnx.Conv(1, 16, (3, 3), **same), nnx.Conv(16, 32, (3, 3), **same)
        self.out = nnx.Linear(8 * 8 * 32, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv2(nnx.relu(self.conv1(x))))
        return self.out(x.reshape(x.shape[0], -1))


def main(flavour: str, out: Path, **changes) -> Path:
    """Evolves a network by its channels, compacts the last generation and exports it."""
    model = linen(YourLinen()) if flavour == "linen" else from_nnx(YourNNX)
    settings = Settings(cluster="channel", currency="macs", synapses=1.0, **(SHORT | changes))
    with report.progress() as watch:
        lineage = evolve(settings, model, load("digits"), out, watch=watch)
    net = checkpoints.restore(out, len(lineage["generations"]))
    variables = {"params": net.params, "batch_stats": net.batch_stats}
    x = jnp.zeros((1, *lineage["dataset"]["image_shape"]))
    small = evojax.compact(model.predict, variables, net.masks, x)
    print(small.report)
    return evojax.export(small.apply, small.variables, x, out / "small", force=True).files[0]


if __name__ == "__main__":
    flavour = {"": "linen", "--nnx": "nnx"}.get(" ".join(sys.argv[1:])) or print(__doc__)
    flavour or sys.exit("--help" not in sys.argv)
    print(f"written: {main(flavour, Path('runs/your_network') / flavour)}")
