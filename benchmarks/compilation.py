"""How does compile time grow with a network, and what does the cache of programs save?

    python benchmarks/compilation.py

Seconds to trace and to compile a generation's synthesis (cluster-driven, with a budget) and a
training epoch, of ResNets of 56, 110 and 1202 layers, which all have the same few shapes (of the
last one only the synthesis). All take turns in one process, which forgets in between what it
compiled, after the smallest of each kind once, not counted. A ratio is the median over the turns of
a network's time by ResNet-56's. `from disk` is what is left of a network's own time with JAX's
compilation cache, which experiments use, once the program lies there.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from common import check, launch, timed, write
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from evojax.compilation import FOLDER
from evojax.deploy.timing import speedup
from evojax.genetics import budget, cluster_driven, synthesis
from evojax.learning import Recipe, linen
from evojax.learning.images import Images
from evojax.learning.steps import Moment, steps
from evojax.models import ResNet

IMAGE = (32, 32, 3)
IMAGES = 1024


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        out: where to write the result as JSON.
        blocks: residual blocks a stage of each ResNet, which has 6 blocks + 2 layers; the first is
            the baseline.
        trained: of how many of them, from the first on, a training epoch is compiled too.
        turns: how often each is compiled.
    """

    out: Path = Path("runs/benchmarks/compilation.json")
    blocks: tuple[int, ...] = (9, 18, 200)
    trained: int = 2
    turns: int = 3


class Program(NamedTuple):
    """Something to compile.

    Attributes:
        network: its name.
        part: synthesis or training.
        build: traces and compiles it.
    """

    network: str
    part: str
    build: Callable[[], Any]


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, blocks=1, trained=0, turns=1)
    programs = [
        program
        for number, blocks in enumerate(options.blocks)
        for program in programs_of(blocks, training=number < options.trained)
    ]
    for program in programs_of(options.blocks[0], training=options.trained > 0):
        with cache_in(None):
            program.build()
    times: list[list[float]] = [[] for _ in programs]
    for turn in range(options.turns):
        for index in list(range(len(programs)))[:: 1 if turn % 2 else -1]:
            with cache_in(None):
                times[index].append(timed(programs[index].build))
    baselines = {part: times[i] for i, (_, part, _) in reversed(list(enumerate(programs)))}
    rows = [
        {
            "network": program.network,
            "part": program.part,
            "seconds": own,
            "ratio": 1 / speedup(baselines[program.part], own),
            "from_disk": from_disk(program, options.turns) / statistics.median(own),
        }
        for program, own in zip(programs, times, strict=True)
    ]
    report(rows, options)


def programs_of(blocks: int, training: bool) -> list[Program]:
    """Synthesis of a ResNet's offspring and, if asked for, an epoch of its training."""
    name = f"ResNet-{6 * blocks + 2}"
    model, key = linen(ResNet(blocks)), jax.random.key(0)
    params, batch_stats = jax.eval_shape(lambda: model.init(key, IMAGE))
    made = synthesis(cluster_driven(), budget(clusters=0.8, synapses=0.8))
    masks = jax.eval_shape(made.ancestor, params)
    found = [Program(name, "synthesis", lambda: built(made.offspring, key, params, masks))]
    if training:
        pure = steps(model, Recipe())
        images = Images(
            *(jax.ShapeDtypeStruct((IMAGES, *IMAGE), jnp.uint8),
              jax.ShapeDtypeStruct((IMAGES,), jnp.int32)),
            *2 * (jax.ShapeDtypeStruct((IMAGE[-1],), jnp.float32),),
        )  # fmt: skip
        state = jax.eval_shape(pure.begin, params, batch_stats, masks)
        moment = Moment(key, jnp.int32(0), jnp.int32(1))
        epoch = partial(built, pure.epoch, state, masks, images, moment)
        found.append(Program(name, "training", epoch))
    return found


def built(function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
    """A function compiled for arguments of which only shapes matter."""
    return jax.jit(lambda *args: function(*args)).lower(*args).compile()


def from_disk(program: Program, turns: int) -> float:
    """Seconds to build a program that JAX's compilation cache holds, the median."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + turns):
            with cache_in(folder):
                seconds.append(timed(program.build))
    return statistics.median(seconds[1:])


@contextmanager
def cache_in(folder: str | None) -> Iterator[None]:
    """What JAX compiled is forgotten, and kept in a folder, or nowhere."""
    before = jax.config.values[FOLDER]
    jax.clear_caches()
    _keep_in(folder)
    try:
        yield
    finally:
        _keep_in(before)


def _keep_in(folder: str | None) -> None:
    jax.config.update(FOLDER, folder)
    reset_cache()


def report(rows: list[dict[str, Any]], options: Options) -> None:
    """Prints the table and writes the JSON file."""
    headings = ["time to compile", f"of {rows[0]['network']}'s", "from disk, of its own"]
    cells = [
        [
            f"{row['part']}, {row['network']}",
            f"{row['ratio']:.2f}×",
            f"{row['from_disk']:.2f}×",
        ]
        for row in sorted(rows, key=lambda row: row["part"])
    ]
    write("compilation", [headings, *cells], options, rows, {}, title="compilation")


if __name__ == "__main__":
    launch(main, Options, __doc__)
