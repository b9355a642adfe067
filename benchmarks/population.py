"""How fast does a population train: one network after another, or together?

    python benchmarks/population.py

N LeNets train an epoch on the same random images, N from 1 to 16: one after another, each by the
program of one network; in turns within one program (`map`, evojax's way); and with every operation
done for all of them at once (`vmap`). All take turns in one run, after a warm-up. Shown is the
speed of each as a multiple of one after another's, the median of the turns' ratios.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from common import check, launch, take_turns, write

from evojax.deploy.timing import speedup
from evojax.genetics.trees import stacked
from evojax.learning import (
    Images,
    Network,
    Recipe,
    linen,
    on_device,
    population_trainer,
    trainer,
)
from evojax.models import LeNet

SHAPE = (32, 32, 1)
WAYS = ("one after another", "map", "vmap")


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        members: sizes of the population.
        images: of an epoch.
        batch: images a step of each member.
        turns: how often each contestant is timed.
        out: where to write the result as JSON.
    """

    members: tuple[int, ...] = (1, 2, 4, 8, 16)
    images: int = 512
    batch: int = 32
    turns: int = 5
    out: Path = Path("runs/benchmarks/population.json")


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, members=1, images=1, batch=1, turns=1)
    recipe = Recipe(batch_size=options.batch, compute_dtype="auto")
    contestants = ways(recipe)
    rows = []
    for members in options.members:
        runs = {
            name: partial(way, *population(members), images(options.images))
            for name, way in contestants.items()
        }
        times = take_turns(runs, options.turns)
        seconds = {name: statistics.median(each) for name, each in times.items()}
        speed = {name: speedup(times[WAYS[0]], each) for name, each in times.items()}
        rows.append({"members": members, "seconds": seconds, "speed": speed})
    report(rows, options)


def ways(recipe: Recipe) -> dict[str, Callable[[jax.Array, list[Network], Images], object]]:
    """The contestants: functions that train every member for an epoch."""
    model = linen(LeNet())
    alone = trainer(model, recipe)

    def one_after_another(keys: jax.Array, networks: list[Network], data: Images) -> object:
        trained = [
            alone.train(key, network, data, 1)[0]
            for key, network in zip(keys, networks, strict=True)
        ]
        return jax.block_until_ready(trained)

    def together(
        kit: Callable[..., object], keys: jax.Array, networks: list[Network], data: Images
    ) -> object:
        return jax.block_until_ready(kit(keys, stacked(networks), data, 1))

    found = {WAYS[0]: one_after_another}
    for way in WAYS[1:]:
        kit = population_trainer(model, recipe, together=way)
        found[way] = partial(together, kit.train)
    return found


def population(members: int) -> tuple[jax.Array, list[Network]]:
    """Keys of their own, and fresh networks, each by itself as evolution has them."""
    keys, model = jax.random.split(jax.random.key(0), members), linen(LeNet())
    networks = []
    for key in keys:
        params, batch_stats = model.init(key, SHAPE)
        masks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
        networks.append(Network(params, batch_stats, masks))
    return keys, networks


def images(count: int) -> Images:
    """Random images, on the device."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return on_device(pixels, random.integers(0, 10, count))


def report(rows: list[dict], options: Options) -> None:
    """Prints the table and writes the JSON file."""
    headings = ["networks", *WAYS]
    cells = [[str(row["members"]), *(f"{row['speed'][way]:.2f}" for way in WAYS)] for row in rows]
    write(
        "population",
        [headings, *cells],
        options,
        rows,
        {},
        title="Training a population of LeNets: speed",
    )


if __name__ == "__main__":
    launch(main, Options, __doc__)
