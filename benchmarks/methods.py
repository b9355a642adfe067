"""Which encoding keeps most accuracy at equal size? LeNet on MNIST, three seeds, equal terms.

    python benchmarks/methods.py                     # every encoding
    python benchmarks/methods.py --study pressure    # selection pressure from 1 (the papers) on
    python benchmarks/methods.py --study choices     # the papers' open choices
    python benchmarks/methods.py --study channels    # what is physically smaller

Every run is a lineage like an experiment's, with the same data, sizes, epochs and recipe; within a
seed all have the same ancestor. Finished runs are not run again, so an interrupted study goes on
with the same command. One process a core is fastest on CPUs: start the same command once a core,

    taskset -c 0 python benchmarks/methods.py & taskset -c 1 python benchmarks/methods.py; wait

and each takes the next run that is free; the last one to end writes OUT/STUDY.json and .png. No
test image chooses anything: the test accuracy of every generation is reported, good or bad.

The study of channels asks for accuracy at equal cost: every network is compacted, and its
multiply-accumulates are counted. Sizes of its own, in the same number of generations.

240,000 training images a run, about four minutes on one core. 21, 18, 30 and 12 runs; three of each
of the latter are the first's.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from evojax.command import leave
from evojax.data import Dataset, load
from evojax.deploy import compact, cost
from evojax.evolution import Settings, checkpoints, read_lineage
from evojax.evolution.lineage import configuration
from evojax.learning import Recipe, linen
from evojax.models import LeNet
from evojax.report.comparison import MACS, SYNAPSES, Method, publish, read
from evojax.study import (
    check_different,
    check_runs,
    check_writable,
    command,
    finished,
    guarded,
    parsed,
    run,
    slug,
)

# experiments/mnist_lenet.py's, with smaller litters; a tenth of the images gets more epochs.
BASE = Settings(
    max_drop=100.0,
    selection_pressure=25.0,
    clusters=0.97,
    synapses=0.83,
    sweep=True,
    litter=16,
    recipe=Recipe(learning_rate=3e-3, sparse_rate=0.45, l1=0.01, batch_size=32),
)
SIZES = (2.0, 4.0, 8.0, 16.0, 23.0, 32.0, 45.0, 64.0, 90.0, 128.0)
EPOCHS = (6, 2, 2, 2, 2, 3, 3, 3, 5, 4, 8)
REPORTED = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
MAC_SIZES = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 23.0, 32.0)
MAC_REPORTED = (2.0, 4.0, 8.0, 16.0, 32.0)

# What each variation changes in BASE. One name is one setting, whatever the study.
PLAIN = "cluster-driven"
FILTERS = "cluster-driven, filters"  # The choice with the lowest training loss in the end.
PRESSURES = (1, 3, 10, 30, 100)
MAGNITUDE = {"magnitude": {"encoding": "magnitude"}}
BY_CHANNEL = {"cluster": "channel", "currency": "macs", "synapses": 1.0, "sizes": MAC_SIZES}
STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    "methods": {
        FILTERS: {"cluster": "filter"},
        PLAIN: {},
        "cluster-driven, literal": {
            "selection_pressure": 1.0, "clusters": 0.8, "synapses": 0.8, "sweep": False,
            "litter": 1,
        },
        "synapse-driven": {"encoding": "synapse_driven"},
        "synapse-driven, literal": {
            "encoding": "synapse_driven", "selection_pressure": 1.0, "sweep": False, "litter": 1
        },
        **MAGNITUDE,
        "random": {"encoding": "random"},
    },
    "pressure": {
        **{f"pressure {beta}": {"selection_pressure": float(beta)} for beta in PRESSURES},
        **MAGNITUDE,
    },
    "choices": {
        PLAIN: {},
        "truncation 0": {"truncation": 0.0},
        "truncation 0.2": {"truncation": 0.2},
        "litter of one": {"litter": 1},
        "no l1": {"recipe": replace(BASE.recipe, l1=0.0)},
        "heredity newborn": {"heredity": "newborn", "litter": 1},
        "heredity rewind": {"heredity": "rewind", "litter": 1},
        "biases sampled": {"sample_biases": True},
        FILTERS: {"cluster": "filter"},
        "cluster synapse": {"cluster": "synapse"},
    },
    "channels": {
        "channel clusters": BY_CHANNEL,
        PLAIN: {},
        "strongest channels": BY_CHANNEL | {"selection_pressure": 1000.0, "litter": 1},
        "random channels": BY_CHANNEL | {"encoding": "random"},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """The terms on which everybody is measured.

    Attributes:
        data: digits, the name of a tensorflow-datasets set such as mnist, or npz:FILE.
        subset: share of the training images to use, in (0, 1]; the test set stays whole.
        seeds: one run of everything for each.
        only: names of what to run; nothing is written to `out` then.
        sizes: architectural efficiencies of the generations after the ancestor.
        epochs: of each generation, the ancestor first; the last number holds for the rest.
        manual_dir: folder with the original archives, where they cannot be fetched.
        data_dir: where tensorflow-datasets keeps prepared data.
    """

    data: str = "mnist"
    subset: float = 0.1
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[str, ...] = ()
    sizes: tuple[float, ...] = SIZES
    epochs: tuple[int, ...] = EPOCHS
    manual_dir: str | None = None
    data_dir: str | None = None


@dataclass(frozen=True)
class Options(Terms):
    """What to measure, and where it goes.

    Attributes:
        study: which variations are compared.
        out: folder of the result.
        runs: folder of the runs, shared by all studies.
    """

    study: Literal["methods", "pressure", "choices", "channels"] = "methods"
    out: Path = Path("results/methods")
    runs: Path = Path("runs/methods")


def main(options: Options) -> int:
    """Runs what is not finished yet, then writes the study; returns the exit status."""
    plan = planned(options)
    check_writable("--out", options.out)
    runs = [(folder(options, name, settings.seed), settings) for name, settings in plan]
    check_runs(runs, "methods")
    dataset = images(options)
    model = linen(LeNet(dataset.classes))
    for out, settings in runs:
        run(out, settings, model, dataset, "methods")
    return collect(options)


def planned(options: Options) -> list[tuple[str, Settings]]:
    """Name and settings of every run, all variations of one seed before the next seed.

    Raises:
        ValueError: an option is out of range.
    """
    variations = STUDIES[options.study]
    check(options, variations)
    return [
        (name, settings_of(changes, seed, options))
        for seed in options.seeds
        for name, changes in variations.items()
        if name in options.only or not options.only
    ]


def check(terms: Terms, names: Collection[str]) -> None:
    """Checks what Settings cannot.

    Raises:
        ValueError: there is no seed, one comes twice, there is no size, or a name is unknown.
    """
    check_different("--seeds", terms.seeds)
    if not terms.sizes:
        raise ValueError("--sizes must be one or more architectural efficiencies above 1")
    if unknown := [name for name in terms.only if name not in names]:
        raise ValueError(f"--only must be of {', '.join(names)}; got {', '.join(unknown)}")


def images(terms: Terms) -> Dataset:
    """The data set that is asked for."""
    where = {"manual_dir": terms.manual_dir, "data_dir": terms.data_dir}
    return load(terms.data, subset=terms.subset, **where)


def settings_of(changes: dict[str, Any], seed: int, terms: Terms) -> Settings:
    """BASE on these terms, with a variation's changes."""
    fixed = {
        "seed": seed,
        "generations": 1 + len(terms.sizes),
        "sizes": terms.sizes,
        "epochs": terms.epochs,
    }
    return replace(BASE, **fixed | changes)


def folder(options: Options, name: str, seed: int) -> Path:
    """Where a run lies."""
    return options.runs / f"{slug(name)}-seed{seed}"


def collect(options: Options) -> int:
    """Writes the study, if all its runs are finished; returns the exit status."""
    methods, unfinished = [], 0
    for name, changes in STUDIES[options.study].items():
        if options.only and name not in options.only:
            continue
        lineages = []
        for seed in options.seeds:
            lineage = finished(folder(options, name, seed))
            unfinished += lineage is None
            lineages.append(lineage)
        settings = {k: asdict(v) if is_dataclass(v) else v for k, v in changes.items()}
        methods.append({"name": name, "settings": settings, "runs": lineages})
    if unfinished or options.only:
        left = f"{unfinished} of these runs are not finished yet" if unfinished else "all finished"
        print(f"{left}; the command without --only, once all are, writes {options.out}")
        return 0
    content = content_of(options, methods)
    n = len(options.seeds)
    by_channel = options.study == "channels"
    shown = publish(
        options.out,
        content,
        MAC_REPORTED if by_channel else reported(options.sizes),
        note=note(content["dataset"], n),
        lead=options.study in ("methods", "channels"),
        ordered=options.study == "pressure",
        measure=MACS if by_channel else SYNAPSES,
    )
    Console().print(shown.rich())
    print(f"written: {options.out / options.study}.json and .png")
    return 0


def content_of(options: Options, methods: list[dict[str, Any]]) -> dict[str, Any]:
    """What the JSON holds but the table: how it was measured, and every run.

    Its settings are BASE's, which the methods' own change.
    """
    first = methods[0]["runs"][0]
    base = settings_of({}, options.seeds[0], options)
    settings = configuration(base, first["config"]["experiment"], first["config"]["data"])
    for method in methods:
        measured_runs = list(map(measured, method["runs"]))
        if options.study == "channels":
            for run in measured_runs:
                place = folder(options, method["name"], run["seed"])
                run["mac_reduction"] = mac_reductions(place, first["dataset"])
        method["runs"] = measured_runs
    return {
        "benchmark": options.study,
        "command": command(),
        "environment": first["environment"],
        "dataset": first["dataset"] | {"subset": options.subset},
        "settings": {k: v for k, v in settings.items() if k != "seed"},
        "seeds": list(options.seeds),
        "methods": methods,
    }


def measured(lineage: dict[str, Any]) -> dict[str, Any]:
    """A run's figures, generation by generation, and where they were measured."""
    keys = ("architectural_efficiency", "synapses", "accuracy", "loss", "epochs", "train_seconds")
    columns = {key: [record[key] for record in lineage["generations"]] for key in keys}
    environment = {key: lineage["environment"][key] for key in ("jax", "device", "git")}
    return {"seed": lineage["seed"], "status": lineage["status"], **environment, **columns}


def mac_reductions(place: Path, dataset: dict[str, Any]) -> list[float]:
    """Multiply-accumulates of the ancestor over those of every generation, compacted."""
    module = LeNet(dataset["classes"])
    image = jnp.asarray(np.random.default_rng(1).normal(size=(1, *dataset["image_shape"])))
    macs = []
    for record in read_lineage(place)["generations"]:
        network = checkpoints.restore(place, record["generation"], crc32=record.get("crc32"))
        small = compact(module.apply, {"params": network.params}, network.masks, image)
        macs.append(cost(small.apply, small.variables, image).macs)
    return [macs[0] / each for each in macs]


def beside(paths: Sequence[Path], terms: Terms, dataset: Dataset) -> list[Method]:
    """What finished studies have of the seeds asked for, to be shown beside other methods.

    Raises:
        ValueError: a study is missing, or of other images, sizes or epochs.
    """
    wanted = {
        "name": dataset.name,
        "train": len(dataset.train.labels),
        "test": len(dataset.test.labels),
        "sizes": list(terms.sizes),
        "epochs": list(terms.epochs),
    }
    found = []
    for path in paths:
        studied = read(path)
        content = json.loads(path.read_text())
        has = {**content.get("dataset", {}), **content.get("settings", {})}
        if changed := [key for key, value in wanted.items() if has.get(key) != value]:
            raise ValueError(
                f"{path} was measured on other terms ({', '.join(changed)}): name one on these "
                "with --beside, or none"
            )
        for method in studied:
            runs = tuple(run for run in method.runs if run.seed in terms.seeds)
            found += [Method(method.name, runs)] if runs else []
    return found


def reported(sizes: tuple[float, ...]) -> list[float]:
    """The sizes that the table shows: the question's, or all where none of them was asked for."""
    return [size for size in sizes if size in REPORTED] or list(sizes)


def note(dataset: dict[str, Any], seeds: int) -> str:
    """The line under the picture's title."""
    what = f"LeNet on {dataset['name']}, {dataset['train']:,} training images"
    return f"{what}; " + (f"mean and range of {seeds} seeds" if seeds > 1 else "1 seed")


if __name__ == "__main__":
    chosen = parsed(Options, __doc__)
    leave(guarded(lambda: main(chosen)))
