"""The generation loop: synthesis, heredity, training, measuring, saving."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from evojax.data import DataError, Dataset
from evojax.evolution import checkpoints
from evojax.evolution.candidates import Candidate, candidates, fittest
from evojax.evolution.classification import classification
from evojax.evolution.ending import status_of, terms
from evojax.evolution.events import (
    GenerationFinished,
    RunContinued,
    RunFinished,
    RunStarted,
    Watch,
)
from evojax.evolution.lineage import (
    configuration,
    entry,
    new_lineage,
    note_surroundings,
    write_lineage,
)
from evojax.evolution.mates import NothingShared
from evojax.evolution.record import members_of, scored
from evojax.evolution.run_folder import check_alike, holds_run, open_run
from evojax.evolution.settings import Settings
from evojax.evolution.task import DataLost, Task
from evojax.evolution.world import World, census_of, compacted_cost, make_world
from evojax.files import replace
from evojax.genetics import Draw
from evojax.genetics.census import similarity
from evojax.hosts import hosts_of
from evojax.learning import Model, Network, NonFiniteLoss
from evojax.learning.memory import check_generation


def evolve(
    settings: Settings,
    model: Model,
    dataset: Dataset | Task,
    out: str | Path,
    *,
    experiment: str = "evolution",
    command: str | None = None,
    watch: Watch = lambda event: None,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Evolves a lineage from an ancestor, generation by generation (Shafiee & Wong 2016).

    Each finished generation is saved before it counts. Called again with the same arguments after a
    crash, it continues where it stopped and gives the same lineage, timings aside. A generation
    whose training broke down is tried again only with other epochs or another size. What the
    ancestor does not depend on may change while it has no offspring: copies of its folder can each
    evolve in a way of their own, to the same bits as from the start. Where several networks live
    on, a generation's record holds one entry for each, the fittest first, which is also the one
    that the rest of the record is about.

    Args:
        settings: everything that decides the lineage.
        model: the model; its last layers, as many as the task says, give the outputs.
        dataset: images and labels, or another task.
        out: the run's folder.
        experiment: its name in the record.
        command: how it was started, for the record.
        watch: called with each `Event`.
        mesh: of devices over which a generation's networks are spread, as many at once as fit
            (`evojax.learning.population_mesh`); by default they train one after another on one
            device. Which, changes no bit of the lineage of float32 networks, unless batches are
            split as well: over how many, the record tells, also where a run went on with another
            number. Where devices of other processes are among them, all processes call this
            alike; process 0 reads and writes the folder, and it alone is watched.

    Returns:
        The lineage, as in lineage.json. Its `status` says why it ended.

    Raises:
        ValueError: if the folder, the data or the model do not fit. A run of another configuration
            is refused before any work; all else is told before a new folder is made.
        CheckpointError: if a generation cannot be saved or read.
        DataLost: if data cannot be read any more.
        NonFiniteLoss: if the ancestor's training breaks down; where every offspring's does, or
            parents share no synapses in some layer, the lineage ends with its last generation.
    """
    out, hosts = Path(out), hosts_of(mesh)
    watch = watch if hosts.leads else lambda event: None
    task = dataset if isinstance(dataset, Task) else classification(dataset)
    with hosts.together():
        config = configuration(settings, experiment, task.name) | task.config
        task.check(settings, model, mesh)
        # Parents, and of their offspring those that live on so far.
        check_generation(model, task.shape, 2 * settings.population)
        memory, about = task.memory(settings, model, mesh), task.record(settings)
        watch(RunStarted(memory, about, task.source))
        files = task.files() if hosts.leads else {}
        # The folder of another run is refused before any work; a new one is made after all checks.
        begun = hosts.leads and holds_run(out)
        world = None if begun else make_world(settings, model, task, watch, mesh)
    everything = config | {f"dataset.{name}": value for name, value in about.items()}
    first = hosts.agreed(everything)
    with hosts.together():
        check_alike(first, everything)
    with ExitStack() as run:
        with hosts.together():
            lineage, command = None, command or " ".join(sys.argv)
            if hosts.leads:
                lineage = run.enter_context(open_run(out, config, about, model.description))
            if world is None:
                world = make_world(settings, model, task, watch, mesh)
            if lineage is None:
                lineage = new_lineage(experiment, command, settings, config, about, mesh)
            elif status_of(settings, lineage) is None:
                watch(RunContinued(len(lineage["generations"]), str(out)))
                note_surroundings(lineage, mesh)
                if lineage["config"] != config:  # The new command gives all of it, the old a part.
                    lineage["command"] = command
            lineage |= {
                "outputs": task.outputs,
                "config": config,
                "model": dict(model.description),
                "status": "running",
            }
            _add_files(out, files)
        lineage = hosts.agreed(lineage)
        _to_its_end(out, lineage, world)
    watch(RunFinished(lineage["status"], str(out)))
    return lineage


def _to_its_end(out: Path, lineage: dict[str, Any], world: World) -> None:
    """Adds generations to the lineage until it ends, and writes why, be it interrupted."""
    try:
        lineage["status"] = _evolve(out, lineage, world)
    except (KeyboardInterrupt, DataLost) as error:
        if world.hosts.leads and lineage["generations"]:
            why = ": data were lost" if isinstance(error, DataLost) else ""
            last = len(lineage["generations"])
            lineage["status"] = f"interrupted after generation {last}{why}"
            write_lineage(out, lineage)
        raise
    _write(out, lineage, world)


def _add_files(out: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        if not (out / name).exists():
            replace(out / name, content)


def _evolve(out: Path, lineage: dict[str, Any], world: World) -> str:
    """Adds generations to the lineage until it ends, and says why."""
    hosts = world.hosts
    with hosts.together(checkpoints.CheckpointError):
        population = _last(out, lineage, world)
    population = hosts.agreed_arrays(population)
    while (status := status_of(world.settings, lineage)) is None:
        number = len(lineage["generations"]) + 1
        try:
            with hosts.working():
                population, record = _generation(number, population, world)
        except (NonFiniteLoss, NothingShared) as error:
            if not lineage["generations"]:
                raise
            status = f"stopped: {error}; generation {number - 1} is the last good one"
            lineage["broken"] = terms(world.settings, number) | {"status": status}
            return status
        except DataError as error:
            raise DataLost(
                f"{error} Every finished generation is saved; with the data as they were, run the "
                "same command again."
            ) from error
        lineage.pop("broken", None)
        with hosts.together(checkpoints.CheckpointError):
            if hosts.leads:
                _save(out, number, population, record)
        # Its measures, too, are process 0's: they decide whether the lineage goes on.
        lineage["generations"].append(hosts.agreed(record))
        _write(out, lineage, world)
        world.watch(GenerationFinished(record))
    return status


def _write(out: Path, lineage: dict[str, Any], world: World) -> None:
    with world.hosts.together(OSError):
        if world.hosts.leads:
            write_lineage(out, lineage)


def _save(out: Path, number: int, population: Sequence[Network], record: dict[str, Any]) -> None:
    """Saves a population, and notes in the record which networks those are."""
    record["crc32"] = checkpoints.save(out, number, population[0])
    for place, member in enumerate(record.get("members", [])):
        member["crc32"] = (
            checkpoints.save(out, number, population[place], place) if place else record["crc32"]
        )


def _last(out: Path, lineage: dict[str, Any], world: World) -> list[Network]:
    """The saved networks of the last generation, the fittest first; none before the first.

    Where another process reads them, only their shapes.
    """
    if not lineage["generations"]:
        return []
    record = lineage["generations"][-1]
    if not world.hosts.leads:
        return [world.blank] * len(members_of(record))
    number = record["generation"]
    population = []
    for place, noted in enumerate([record, *members_of(record)[1:]]):
        network = checkpoints.restore(out, number, world.blank, noted.get("crc32"), place)
        # Older records have no checksum, and a record may have been changed by hand.
        counted = entry(number, census_of(network.masks, world), world.layers)
        names = ("synapses", "clusters", "layers")
        if any(noted[name] != counted[name] for name in names if place == 0 or name in noted):
            raise checkpoints.unrecorded(out, number)
        population.append(jax.tree.map(jnp.asarray, network))
    return population


def _generation(
    number: int, population: list[Network], world: World
) -> tuple[list[Network], dict[str, Any]]:
    """A generation's networks that live on, the fittest first, and its record.

    The list of its parents is emptied, so that they are let go.
    """
    start = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(world.settings.seed), number)
    everyone = candidates(number, key, population, world)
    members = fittest(everyone, world.settings.population)
    if not members:
        raise next(one.failure for one in reversed(everyone) if one.failure is not None)
    record = _recorded(number, members, everyone, world)
    networks = [one.network for one in members]
    return networks, record | {"train_seconds": time.perf_counter() - start}


def _recorded(
    number: int, members: Sequence[Candidate], everyone: Sequence[Candidate], world: World
) -> dict[str, Any]:
    """What the record says of a generation: of the fittest, how it was drawn, and of the others."""
    best = members[0]
    measures = [world.trial.measure(one.network) for one in members]
    record = entry(
        number,
        census_of(best.network.masks, world),
        world.layers,
        loss=best.epochs[-1].loss,
        epochs=len(best.epochs),
        **{world.judged_by: best.fitness, **measures[0]},
        **compacted_cost(best.network.masks, world),
    )
    if best.epochs[-1].accuracy is not None:
        record["train_accuracy"] = best.epochs[-1].accuracy
    if waited := sum(epoch.waited for epoch in best.epochs):
        record["waited_seconds"] = waited
    if best.draw is not None:
        # Those that broke down have no fitness.
        offspring = [{world.judged_by: one.fitness, "synapses": one.synapses} for one in everyone]
        record |= _drawn(best.draw) | {"litter": list(best.litter), "offspring": offspring}
    if world.settings.population > 1:
        masks = [one.network.masks for one in members]
        record["similarity"] = similarity(masks, world.plan, world.settings.cluster)
        pairs = zip(members, measures, strict=True)
        record["members"] = [_member(number, *pair, world) for pair in pairs]
    return record


def _drawn(draw: Draw) -> dict[str, Any]:
    """What the record says of the draw of an architecture."""
    return {
        "cluster_factor": _finite(draw.cluster_factor),
        "synapse_factor": _finite(draw.synapse_factor),
        "capped": bool(draw.capped),
        "rescued": int(draw.rescued),
    }


def _member(
    number: int, one: Candidate, measures: Mapping[str, Any], world: World
) -> dict[str, Any]:
    """What the record says of one network of a population."""
    counts = entry(number, census_of(one.network.masks, world), world.layers)
    return {
        **{name: measures[name] for name in scored(measures)},
        world.judged_by: one.fitness,
        **{name: counts[name] for name in ("synapses", "clusters", "bytes_sparse", "macs")},
        "parents": list(one.parents),
        "train_seconds": sum(epoch.seconds for epoch in one.epochs),
    }


def _finite(value: jax.Array) -> float | list | None:
    """A number as JSON can hold it: a factor without bound is ``None``; a list of several."""
    if value.ndim:
        return [_finite(one) for one in value]
    return float(value) if np.isfinite(value) else None
