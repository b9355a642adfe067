"""How much memory does training take, and how does it grow with batch, population and network?

    python benchmarks/memory.py

What XLA says of the compiled epoch of LeNet, AlexNet and ResNet-56 (of DetectNet: of a step), for
batches of several sizes, and for populations whose members take turns: arguments, temporaries and
results, less what works in the memory of the arguments. Beside it what `training_memory` foretells
without compiling anything. Nothing of this is allocated.

And the largest memory that short runs of experiments take on the host, each in a process of its
own, compilation included. Where the host is the device, as here on CPUs, both are in it. What they
learn are random images; those of LeNet are scikit-learn's digits.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import check, launch, write
from jax.sharding import Mesh

from evojax.learning import (
    Images,
    Model,
    Network,
    Recipe,
    linen,
    population_mesh,
    training_memory,
)
from evojax.learning.detector import step_of
from evojax.learning.population import population_steps
from evojax.learning.steps import Moment, State, steps
from evojax.models import AlexNet, DetectNet, LeNet, ResNet

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
IMAGES = 1024
BOXES = 32


class Subject(NamedTuple):
    """A network and what it learns from.

    Attributes:
        model: the network.
        shape: of an image.
        optimizer: its experiment's.
    """

    model: Model
    shape: tuple[int, int, int]
    optimizer: str


SUBJECTS = {
    "LeNet": Subject(linen(LeNet()), (32, 32, 1), "adamw"),
    "AlexNet": Subject(linen(AlexNet()), (32, 32, 3), "adamw"),
    "ResNet-56": Subject(linen(ResNet(9)), (32, 32, 3), "sgd"),
    "DetectNet": Subject(linen(DetectNet()), (384, 1248, 3), "adamw"),
}
RUNS = {
    "LeNet": ("digits_lenet.py",),
    "AlexNet": ("cifar_alexnet.py", "--litter", "2", "--batch-size", "32"),
    "ResNet-56": ("cifar_resnet56.py", "--litter", "2", "--batch-size", "32"),
}


WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""In a small process between, for one counts as large as what started it."""

ALONE = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Compiles all anew, and takes of a GPU what it needs: this process holds most of its memory."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        networks: which; of LeNet, AlexNet, ResNet-56 and DetectNet.
        batches: images a step.
        scenes: images a step of DetectNet, which are larger.
        members: sizes of the population, with the first of the batches.
        generations: of each run on the host; none without such runs.
        images: random ones that these runs train on.
        out: where to write the result as JSON.
    """

    networks: tuple[str, ...] = tuple(SUBJECTS)
    batches: tuple[int, ...] = (32, 128)
    scenes: tuple[int, ...] = (2, 10)
    members: tuple[int, ...] = (2, 4, 8)
    generations: tuple[int, ...] = (2, 4)
    images: int = 128
    out: Path = Path("runs/benchmarks/memory.json")


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, SUBJECTS, batches=1, scenes=1, images=1)
    if min(options.members, default=2) < 1:
        raise ValueError(f"--members must be at least 1; got {min(options.members)}")
    report([row for name in options.networks for row in on_device(name, options)], options)
    if options.generations:
        report_host(list(on_host(options)), options)


def on_device(name: str, options: Options) -> Iterator[dict[str, Any]]:
    """What XLA says of a network's training, and what was foretold, in bytes."""
    subject, detects = SUBJECTS[name], name == "DetectNet"
    sizes = [(batch, 1) for batch in (options.scenes if detects else options.batches)]
    if not detects:
        sizes += [(options.batches[0], members) for members in options.members]
    for batch, members in sizes:
        recipe = Recipe(optimizer=subject.optimizer, batch_size=batch, compute_dtype="auto")
        count = batch if detects else IMAGES
        memory = training_memory(subject.model, recipe, subject.shape, count)
        made = detecting(subject, recipe) if detects else classifying(subject, recipe, members)
        found = made.memory_analysis()
        yield {
            "network": name,
            "batch": batch,
            "members": members,
            "arguments": found.argument_size_in_bytes,
            "temporaries": found.temp_size_in_bytes,
            "results": found.output_size_in_bytes,
            "aliased": found.alias_size_in_bytes,
            "total": total(made),
            "foretold": memory._replace(members=members).total,
        }


def total(made: jax.stages.Compiled) -> int:
    """Bytes of a device's memory that a compiled program takes in all."""
    found = made.memory_analysis()
    taken = found.argument_size_in_bytes + found.temp_size_in_bytes + found.output_size_in_bytes
    return taken - found.alias_size_in_bytes


def classifying(
    subject: Subject, recipe: Recipe, members: int, mesh: Mesh | None = None
) -> jax.stages.Compiled:
    """A classifier's epoch, compiled, or that of several, by default in turns on one device."""
    pure, network = steps(subject.model, recipe), shapes(subject)
    state = jax.eval_shape(pure.begin, *network)
    data = Images(
        array((IMAGES, *subject.shape), jnp.uint8), array((IMAGES,), jnp.int32),
        *2 * (array(subject.shape[-1:], jnp.float32),),
    )  # fmt: skip
    number = array((), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    if members == 1 and mesh is None:
        return compiled(pure.epoch, state, network.masks, data, Moment(key, number, number))
    state, masks, keys = jax.tree.map(
        lambda leaf: array((members, *leaf.shape), leaf.dtype), (state, network.masks, key)
    )
    several = population_steps(subject.model, recipe, mesh or population_mesh(1))
    return compiled(several.epoch, state, masks, keys, data, number, number)


def detecting(subject: Subject, recipe: Recipe) -> jax.stages.Compiled:
    """A step of a detector's training, compiled."""
    network, batch = shapes(subject), recipe.batch_size
    state = jax.eval_shape(steps(subject.model, recipe).begin, *network)
    arrays = (
        array((batch, *subject.shape), jnp.uint8), array((batch, BOXES, 4), jnp.float32),
        array((batch,), jnp.int32),
    )  # fmt: skip
    progress = array((), jnp.float32)
    return compiled(step_of(subject.model, recipe), state, network.masks, arrays, progress)


def shapes(subject: Subject) -> Network:
    """A network's shapes; every parameter has a mask."""
    params, batch_stats = subject.model.shapes(subject.shape)
    masks = jax.tree.map(lambda leaf: array(leaf.shape, jnp.bool_), params)
    return Network(params, batch_stats, masks)


def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:  # noqa: ANN401
    """An array that is not there."""
    return jax.ShapeDtypeStruct(shape, dtype)


def compiled(
    function: Callable[..., Any],
    state: State,
    *args: Any,  # noqa: ANN401
) -> jax.stages.Compiled:
    """A function that works in the memory of its state, for arguments that are not there."""
    return jax.jit(function, donate_argnums=0).lower(state, *args).compile()


def on_host(options: Options) -> Iterator[dict[str, Any]]:
    """The largest memory of runs of experiments."""
    with tempfile.TemporaryDirectory() as folder:
        random_images(Path(folder) / "images.npz", options.images)
        for name, (script, *more) in RUNS.items():
            if name not in options.networks:
                continue
            data = [] if name == "LeNet" else ["--data", f"npz:{folder}/images.npz"]
            for generations in options.generations:
                command = [
                    sys.executable, str(EXPERIMENTS / script), *more, *data,
                    "--generations", str(generations), "--epochs", "1", "--max-drop", "100",
                    "--out", f"{folder}/{name}-{generations}",
                ]  # fmt: skip
                yield {
                    "network": name,
                    "generations": generations,
                    "peak": largest(command),
                }


def random_images(file: Path, count: int) -> None:
    """Images of ten classes to train on, and as many to test by."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    y = np.arange(count) % 10
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)


def largest(command: Sequence[str]) -> int:
    """Bytes of memory that a process had at most.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | ALONE,
    )
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def report(rows: Sequence[dict[str, Any]], options: Options) -> None:
    """Prints the table of the device's memory and writes the JSON file."""
    headings = [
        "MB on the device", "batch", "networks", "arguments", "temporaries", "results", "aliased",
        "in all", "foretold",
    ]  # fmt: skip
    parts = ("arguments", "temporaries", "results", "aliased", "total", "foretold")
    cells = [
        [
            row["network"],
            str(row["batch"]),
            str(row["members"]),
            *(_mb(row[part]) for part in parts),
        ]
        for row in rows
    ]
    write("memory", [headings, *cells], options, rows, {})


def report_host(rows: Sequence[dict[str, Any]], options: Options) -> None:
    """Prints the table of the host's memory and writes it beside the other, as NAME-host.json."""
    headings = ["MB on the host", *(f"{number} generations" for number in options.generations)]
    networks = dict.fromkeys(row["network"] for row in rows)
    cells = [
        [name, *(_mb(row["peak"]) for row in rows if row["network"] == name)] for name in networks
    ]
    out = options.out.with_stem(f"{options.out.stem}-host")
    write("memory", [headings, *cells], replace(options, out=out), rows, {})


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"


if __name__ == "__main__":
    launch(main, Options, __doc__)
