"""LeNet-5 evolves with five parents, with gene tags and without (Chung et al. 2018, Figures 1, 2).

    python experiments/mnist_polyploid.py
    python experiments/mnist_polyploid.py --environment constant --out runs/polyploid_constant \\
        --results results/mnist_polyploid_constant

A tenth of MNIST, populations of five, chi 0.6, filters as clusters. A cell is a lineage of its own:
the surviving share R of clusters, and of synapses within them, with tagging or without, a number of
parents, and a seed. The paper's shares are 0.5 0.55 0.6 0.65 0.7 0.75 0.8 0.85 0.9 0.95:
--shares runs them all, and --parents 1 2 3 5 compares numbers of parents at equal R. A single
network that trains as long as five costs as much: --population 1 --parents 1 --epochs 6 10.
--heredity and --output-cluster compare other choices, each with --out and --results of its own.

Finished cells are not run again, so an interrupted sweep goes on with the same command. One process
a core is fastest on CPUs: start the same command once a core,

    taskset -c 0 python experiments/mnist_polyploid.py & \\
    taskset -c 1 python experiments/mnist_polyploid.py; wait

and each takes the next cell that is free; the last one to end writes polyploid.json and the
pictures. --collect True runs nothing, and writes them of the cells that are finished so far.

Parents are drawn at random where there are fewer than the population, so that no image is held out
to choose the fittest, and every cell of a seed has the same ancestor. 24 cells of at most 456,000
training images each took an hour on one core of a CPU; half of them end early, for want of shared
synapses.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from evojax import report
from evojax.command import leave
from evojax.data import load
from evojax.evolution import Settings
from evojax.learning import Recipe, linen
from evojax.models.lenet import LeNet
from evojax.report.cells import Terms, entry
from evojax.report.polyploid import publish
from evojax.study import (
    check_different,
    check_runs,
    check_writable,
    command,
    finished,
    guarded,
    parsed,
    run,
)

EXPERIMENT = "mnist_polyploid"
BASE = Settings(
    max_drop=100.0,
    cluster="filter",
    mates="random",
    recipe=Recipe(learning_rate=3e-3, sparse_rate=0.45, l1=0.01, batch_size=32),
)


@dataclass(frozen=True)
class Options:
    """What to measure, and where it goes.

    Attributes:
        out: folder of the cells' runs; the same command again continues them.
        results: folder of the result.
        data: digits, the name of a tensorflow-datasets set such as mnist, or npz:FILE.
        subset: share of the training images to use, in (0, 1]; the test set stays whole.
        shares: surviving shares R of clusters and of synapses within them, in (0, 1].
        tagging: whether parents are aligned by gene tags; True, False or both.
        population: networks of each generation; all of them are trained, and all live on.
        parents: of every offspring; several are compared at equal R.
        seeds: one lineage of everything for each.
        generations: number of the last generation; 1 is the ancestor.
        epochs: of each generation, the ancestor first; the last number holds for the rest.
        environment: budget solves for the expected share, constant multiplies by it.
        heredity: what weights offspring start from: the mean of the parents', the fittest parent's
            (a tenth of the training images is held out to find it), or new ones.
        output_cluster: what lives or dies together in the last layer, if not what enters an output:
            with kernel no class dies as a whole.
        chi: share of the parents, in (0, 1], that must have a cluster for it to be passed on.
        manual_dir: folder with the original archives, where they cannot be fetched.
        data_dir: where tensorflow-datasets keeps prepared data.
        collect: run nothing, write the result of what is finished.
    """

    out: Path = Path("runs/mnist_polyploid")
    results: Path = Path("results/mnist_polyploid")
    data: str = "mnist"
    subset: float = 0.1
    shares: tuple[float, ...] = (0.5, 0.65, 0.8, 0.95)
    tagging: tuple[bool, ...] = (True, False)
    population: int = 5
    parents: tuple[int, ...] = (5,)
    seeds: tuple[int, ...] = (0, 1, 2)
    generations: int = 8
    epochs: tuple[int, ...] = (6, 2)
    environment: Literal["budget", "constant"] = "budget"
    heredity: Literal["mean", "fittest", "newborn"] = "mean"
    output_cluster: Literal["kernel"] | None = None
    chi: float = 0.6
    manual_dir: str | None = None
    data_dir: str | None = None
    collect: bool = False


def main(options: Options) -> int:
    """Runs the cells that are not finished yet, then writes the result; returns the exit status."""
    plan = planned(options)
    check_writable("--results", options.results)
    runs = [(folder(options, terms, settings.seed), settings) for terms, settings in plan]
    check_runs(runs, EXPERIMENT)
    if not options.collect:
        where = {"manual_dir": options.manual_dir, "data_dir": options.data_dir}
        dataset = load(options.data, subset=options.subset, **where)
        model = linen(LeNet(dataset.classes))
        for out, settings in runs:
            run(out, settings, model, dataset, EXPERIMENT)
    return collect(options, plan)


def planned(options: Options) -> list[tuple[Terms, Settings]]:
    """Terms and settings of every cell, all of one seed before the next seed.

    Raises:
        ValueError: an option is out of range.
    """
    for name in ("shares", "tagging", "parents", "seeds"):
        check_different(f"--{name}", getattr(options, name))
    if wrong := [share for share in options.shares if not 0 < share <= 1]:
        raise ValueError(f"--shares must be in (0, 1], such as 0.8; got {wrong[0]:g}")
    check_different("--shares", [_per_cent(share) for share in options.shares])  # They name cells.
    most = options.population
    if wrong := [count for count in options.parents if not 1 <= count <= most]:
        raise ValueError(f"--parents must be 1 to {most}, the population; got {wrong[0]}")
    return [
        (terms, settings_of(terms, seed, options))
        for seed in options.seeds
        for terms in cells_of(options)
    ]


def cells_of(options: Options) -> list[Terms]:
    """The cells of one seed. A single parent has nobody to be aligned with: it is run once."""
    return [
        Terms(share, tagging, parents)
        for share in options.shares
        for parents in options.parents
        for tagging in (options.tagging if parents > 1 else (None,))
    ]


def settings_of(terms: Terms, seed: int, options: Options) -> Settings:
    """BASE on these terms."""
    return replace(
        BASE,
        seed=seed,
        generations=options.generations,
        epochs=options.epochs,
        environment=options.environment,
        heredity=options.heredity,
        output_cluster=options.output_cluster,
        clusters=terms.share,
        synapses=terms.share,
        population=options.population,
        offspring=options.population,
        parents=terms.parents,
        tagging=terms.tagging is not False,
        chi=options.chi,
    )


def folder(options: Options, terms: Terms, seed: int) -> Path:
    """Where a cell's run lies."""
    tagging = {None: "", True: "-tagged", False: "-untagged"}[terms.tagging]
    name = f"R{_per_cent(terms.share)}{tagging}-m{terms.parents}-seed{seed}"
    return options.out / name


def _per_cent(share: float) -> str:
    return f"{100 * share:g}"


def collect(options: Options, plan: list[tuple[Terms, Settings]]) -> int:
    """Writes the result, of all cells or of those to be collected; returns the exit status."""
    done = []
    for terms, settings in plan:
        lineage = finished(folder(options, terms, settings.seed))
        if lineage is not None:
            done.append((terms, lineage))
    left = len(plan) - len(done)
    if not done or (left and not options.collect):
        print(f"{left} of {len(plan)} cells are not finished yet; the same command, once all are,")
        print(f"writes {options.results}; --collect True writes it of those that are")
        return 0
    table = publish(options.results, content_of(options, done)).rich()
    report.console(table).print(table)
    print(f"written: {options.results}, of {len(done)} of {len(plan)} cells")
    return 0


def content_of(options: Options, done: list[tuple[Terms, dict[str, Any]]]) -> dict[str, Any]:
    """What the JSON holds but the table: how it was measured, and every cell."""
    first = done[0][1]
    varied = ("seed", "clusters", "synapses", "tagging", "parents")
    return {
        "benchmark": "polyploid",
        "command": command(),
        "environment": first["environment"],
        "dataset": first["dataset"] | {"subset": options.subset},
        "settings": {k: v for k, v in first["config"].items() if k not in varied},
        "seeds": list(options.seeds),
        "cells": [entry(terms, lineage) for terms, lineage in done],
    }


if __name__ == "__main__":
    chosen = parsed(Options, __doc__, tyro.conf.FlagConversionOff)
    leave(guarded(lambda: main(chosen)))
