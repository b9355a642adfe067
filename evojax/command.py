"""What every experiment's command does: flags, data, evolution, report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import flax.linen as nn
import jax
import tyro
from jax.sharding import Mesh

from evojax import report, study
from evojax.compilation import keep_programs
from evojax.data import Dataset, load
from evojax.evolution import CheckpointError, DataLost, Settings, evolve
from evojax.evolution.run_folder import check_folder
from evojax.evolution.task import Task
from evojax.hosts import ALONE, HostError, Hosts
from evojax.joining import Joining, end, join, leaving
from evojax.learning import Model, NonFiniteLoss, linen, population_mesh
from evojax.report import tables
from evojax.report.paper import published


@dataclass(frozen=True)
class Options:
    """Where a run lies and what it learns from.

    Attributes:
        out: the run's folder; the same command again continues it.
        data: digits, the name of a tensorflow-datasets set such as mnist, or npz:FILE; images of
            another size are brought to 32x32 pixels.
        subset: share of the training images to use, in (0, 1]; the test set stays whole.
        manual_dir: folder with the original archives, where they cannot be fetched.
        data_dir: where tensorflow-datasets keeps prepared data.
        devices: over how many devices a generation's networks are spread; by default one, or all
            of all processes where there are several.
        data_parallel: over how many devices (on a CPU: cores) the batches of each network are
            split, so many times `devices` in all; each has batch statistics of its own.
        hosts: how several processes, on one host or many, find each other.
        settings: everything that decides the lineage.
    """

    out: Path
    data: str
    settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]
    subset: float = 1.0
    manual_dir: str | None = None
    data_dir: str | None = None
    devices: int | None = None
    data_parallel: int = 1
    hosts: Annotated[Joining, tyro.conf.OmitArgPrefixes] = Joining()


def run(
    experiment: str,
    make_model: Callable[[int], nn.Module],
    defaults: Options,
    description: str,
) -> int:
    """Runs an experiment with image classification as its command line asks, and reports on it.

    Args:
        experiment: its name, as in lineage.json.
        make_model: ``(classes) -> module``.
        defaults: what the flags default to.
        description: first lines of ``--help``.

    Returns:
        As `run_task`.
    """

    def classified(options: Options) -> tuple[Model, Dataset]:
        dataset = load(
            options.data,
            manual_dir=options.manual_dir,
            data_dir=options.data_dir,
            subset=options.subset,
        )
        return linen(make_model(dataset.classes)), dataset

    return run_task(experiment, classified, defaults, description)


def leave(status: int) -> NoReturn:
    """Ends the process with this status, an interrupted one (130) without taking Python down.

    A device may still compute then, and crashes where it meets what is left of the interpreter.
    """
    if status == 130:
        end(status)
    sys.exit(status)


@leaving
@study.interruptible()
def run_task(
    experiment: str,
    prepare: Callable[[Any], tuple[Model, Dataset | Task]],
    defaults: Options,
    description: str,
) -> int:
    """Runs an experiment as its command line asks, and writes its report.

    Args:
        experiment: its name, as in lineage.json.
        prepare: ``(options) -> (model, task)``, of the options in the defaults' class.
        defaults: what the flags default to.
        description: first lines of ``--help``.

    Returns:
        The process's exit status: 0, 2 for bad input, 1 where the run could not go on, 130 where
        it was interrupted.
    """
    keep_programs()
    out, hosts = None, ALONE
    try:
        options = study.parsed(
            type(defaults), description, tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff,
            default=defaults,
        )  # fmt: skip
        settings = options.settings
        _take_cores((options.devices or 1) * options.data_parallel)
        hosts = join(options.hosts)
        mesh = _mesh(options.devices, options.data_parallel, hosts)
        with hosts.together():
            if hosts.leads:  # Before data are fetched and prepared, which may take long.
                check_folder(options.out)
        model, task = hosts.in_turn(lambda: prepare(options))
        out = options.out
        with report.progress() as watch:
            lineage = evolve(
                settings, model, task, options.out,
                experiment=experiment, command=study.command(), watch=watch, mesh=mesh,
            )  # fmt: skip
        with hosts.together(OSError):
            page = report.write(options.out) if hosts.leads else None
    except (CheckpointError, DataLost, NonFiniteLoss, HostError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(
            f"\nerror: the device has too little memory ({str(error).splitlines()[0]}). Take a "
            "smaller --batch-size, or a device with more memory or with nothing else on it. Every "
            "finished generation is saved: the same command goes on after it, and a run with other "
            "settings needs another --out.",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(
            f"\nerror: {error}. Every finished generation is saved; make room or grant access, and "
            "run the same command again.",
            file=sys.stderr,
        )
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Every finished generation is saved; to continue, run the same command "
            f"again:\n  {study.command()}",
            file=sys.stderr,
        )
        _report_so_far(out if hosts.leads else None)
        return 130
    if not hosts.leads:
        return 0
    console = report.console()
    console.print(tables.generations(lineage).rich())
    console.print()
    console.print(tables.layers(lineage, published(experiment)).rich())
    console.print(f"Report: {page}", soft_wrap=True, markup=False)
    return 0


def _take_cores(devices: int) -> None:
    """Makes so many devices of a CPU's cores; before anything is computed, and no GPU minds."""
    there = max(getattr(jax.config, "jax_num_cpu_devices", 1), 1)
    flags = os.environ.get("XLA_FLAGS", "")
    if devices > there and "--xla_force_host_platform_device_count" not in flags:
        # Where something was computed already, there are as many devices as there are.
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)


def _mesh(devices: int | None, data_parallel: int, hosts: Hosts) -> Mesh | None:
    """The devices that are asked for; none where one network trains after another."""
    if not hosts.several:
        alone = devices in (None, 1) and data_parallel == 1
        return None if alone else population_mesh(1 if devices is None else devices, data_parallel)
    if data_parallel != 1:
        raise ValueError(
            f"data_parallel must be 1 with several processes; got {data_parallel}: a network's "
            "batches are split over devices of one process only"
        )
    if devices not in (None, jax.device_count()):
        raise ValueError(
            f"devices must be left out with several processes, which have {jax.device_count()} and "
            f"train on all of them; got {devices}"
        )
    return population_mesh(jax.device_count())


def _report_so_far(out: Path | None) -> None:
    """Reports the generations that an interrupted run has finished, if there are any."""
    if out is not None and (out / "lineage.json").exists():
        # Somebody is in a hurry, and nothing depends on this.
        with suppress(OSError, ValueError, KeyboardInterrupt):
            print(f"Report so far: {report.write(out)}", file=sys.stderr)
