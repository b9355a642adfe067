"""How do time and memory grow from LeNet to a network of a thousand million parameters?

    python benchmarks/scale.py

For each network: one generation's synthesis against a copy of its weights, in turns; what XLA says
of its memory, arguments, temporaries and results; and what training is foretold to take
(`training_memory`). A network whose synthesis does not fit into the device's memory is not run: its
time is reckoned from that of the next smaller one, by the number of parameters, and marked with ≈.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from common import check, launch, take_turns, write
from memory import SUBJECTS, Subject, total
from synthesis import KEYS, copying

import evojax
from evojax.learning import Recipe, linen, training_memory
from evojax.learning.memory import available

MARGIN = 1.2
"""Of the synthesis' memory, for the copy that it is compared with."""


class Wide(nn.Module):
    """1,040 M parameters: fully connected layers of 8,192 units."""

    layers: int = 15
    units: int = 8192

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits (N, 1000) of images (N, H, W, C)."""
        x = x.reshape(len(x), -1)
        for _ in range(1 + self.layers):
            x = nn.relu(nn.Dense(self.units, use_bias=False)(x))
        return nn.Dense(1000, use_bias=False)(x)


NETWORKS = SUBJECTS | {"1 G": Subject(linen(Wide()), (32, 32, 3), "adamw")}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        networks: which, from small to large; of LeNet, AlexNet, ResNet-56, DetectNet and 1 G.
        turns: how often each is timed.
        batch: images a step of training, of which the memory is foretold.
        out: where to write the result as JSON.
    """

    networks: tuple[str, ...] = ("LeNet", "ResNet-56", "DetectNet", "AlexNet", "1 G")
    turns: int = 5
    batch: int = 32
    out: Path = Path("runs/benchmarks/scale.json")


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, NETWORKS, turns=1, batch=1)
    rows: list[dict[str, Any]] = []
    for name in options.networks:
        row = memory_of(name, options.batch)
        limit = available()
        if limit is None or row["synthesis_bytes"] * MARGIN < limit:
            row |= times_of(name, options.turns)
        elif rows:
            grown = row["parameters"] / rows[-1]["parameters"]
            row["seconds"] = rows[-1]["seconds"] * grown
        rows.append(row)
    report(rows, options)


def memory_of(name: str, batch: int) -> dict[str, Any]:
    """A network's parameters, and bytes that synthesis and training take; nothing is allocated."""
    subject = NETWORKS[name]
    params, _ = subject.model.shapes(subject.shape)
    synthesis = evolving()
    masks = jax.eval_shape(synthesis.ancestor, params)
    made = jax.jit(synthesis.offspring).lower(jax.random.key(0), params, masks).compile()
    recipe = Recipe(optimizer=subject.optimizer, batch_size=batch, compute_dtype="auto")
    training = training_memory(subject.model, recipe, subject.shape, batch)
    return {
        "network": name,
        "parameters": training.parameters,
        "synthesis_bytes": total(made),
        "network_bytes": training.network,
        "activation_bytes": training.activations,
    }


def times_of(name: str, turns: int) -> dict[str, float]:
    """Seconds of a generation's synthesis, and as multiples of a copy of the weights."""
    subject = NETWORKS[name]
    shapes, _ = subject.model.shapes(subject.shape)
    params = jax.tree.unflatten(jax.tree.structure(shapes), list(random(jax.tree.leaves(shapes))))
    synthesis = evolving()
    masks = synthesis.ancestor(params)
    keys = cycle(list(jax.random.split(jax.random.key(0), KEYS)))
    offspring = jax.jit(synthesis.offspring)
    times = take_turns(
        {
            "synthesis": lambda: jax.block_until_ready(offspring(next(keys), params, masks)),
            "copy": copying(jax.tree.leaves(params)),
        },
        turns,
    )
    ratios = [a / b for a, b in zip(times["synthesis"], times["copy"], strict=True)]
    return {
        "seconds": statistics.median(times["synthesis"]),
        "of_copy": statistics.median(ratios),
    }


def evolving() -> evojax.Synthesis:
    """The papers' synthesis: cluster-driven, kernels, budget 0.8 and 0.8."""
    return evojax.synthesis(evojax.cluster_driven(), evojax.budget(clusters=0.8, synapses=0.8))


def random(shapes: list[jax.ShapeDtypeStruct]) -> Iterator[jax.Array]:
    """Arrays of random numbers, each from a key of its own."""
    for index, leaf in enumerate(shapes):
        yield jax.random.normal(jax.random.key(index), leaf.shape, leaf.dtype)


def report(rows: list[dict[str, Any]], options: Options) -> None:
    """Prints the table and writes the JSON file."""
    headings = [
        "network", "parameters, M", "synthesis, times the copy", "synthesis, time",
        "synthesis, B a parameter", "training, B a parameter",
        f"activations of {options.batch} images, MB",
    ]  # fmt: skip
    cells = [
        [
            row["network"],
            f"{row['parameters'] / 1e6:,.2f}",
            f"{row['of_copy']:.1f}" if "of_copy" in row else "",
            _grown(row, rows[0]),
            f"{row['synthesis_bytes'] / row['parameters']:.1f}",
            f"{row['network_bytes'] / row['parameters']:.1f}",
            f"{row['activation_bytes'] / 1e6:,.0f}",
        ]
        for row in rows
    ]
    write("scale", [headings, *cells], options, rows, {})


def _grown(row: dict[str, Any], first: dict[str, Any]) -> str:
    if "seconds" not in row:
        return ""
    reckoned = "" if "of_copy" in row else "≈ "
    return f"{reckoned}{row['seconds'] / first['seconds']:,.1f}×"


if __name__ == "__main__":
    launch(main, Options, __doc__)
