"""The command ``evojax``: what became of a run, made smaller, and taken elsewhere.

``evojax --version`` tells its version.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from evojax import __version__, report
from evojax.compilation import keep_programs
from evojax.deploy import Compacted, Exported, autotune, cost, export
from evojax.deploy import compact as compacted
from evojax.deploy.checks import check_round_to
from evojax.deploy.export import ARRAYS, Format, check_export
from evojax.deploy.timing import speedup, take_turns
from evojax.evolution import Saved, read_lineage, saved
from evojax.files import with_home
from evojax.models.record import UnknownNetwork
from evojax.report import tables, text
from evojax.report.deployed import widths
from evojax.report.paper import published


@dataclass(frozen=True)
class Show:
    """Tables of a run, and of a generation layer by layer: widths, entries, MACs, latency.

    Of a network that evojax does not ship, the tables of the run alone.

    Attributes:
        run: the run's folder.
        generation: which one to compact; by default the last whose network is there.
        round_to: keep widths at multiples of this many channels, as hardware likes them.
        batch: images a forward pass, for latency.
        autotune: measure it as well with each convolution in the form that is fastest here, which
            takes some seconds for each distinct one.
    """

    run: tyro.conf.Positional[Path]
    generation: int | None = None
    round_to: int = 1
    batch: int = 1
    autotune: bool = False


@dataclass(frozen=True)
class Write:
    """Writes a run's report anew: lineage.csv, figures and report.html.

    Attributes:
        run: the run's folder.
    """

    run: tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Compact:
    """Removes the dead channels of a generation, and says which arrays shrink.

    Attributes:
        run: the run's folder.
        out: a NumPy archive (.npz) for the smaller arrays; OUT.json describes them.
        generation: which one; by default the last whose network is there.
        round_to: keep widths at multiples of this.
        force: overwrite files.
    """

    run: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path | None] = None
    generation: int | None = None
    round_to: int = 1
    force: bool = False


@dataclass(frozen=True)
class Export:
    """Writes a compacted generation into a file that runs without evojax.

    Attributes:
        run: the run's folder.
        out: the file.
        format: stablehlo for jax.export, onnx; or arrays with OUT.json beside them:
            safetensors, npz, or sparse, which leaves zeros out.
        generation: which one; by default the last whose network is there.
        round_to: keep widths at multiples of this.
        dense: export the network in its full size, pruned weights as zeros.
        autotune: give each convolution the form that is measured to be fastest here, in batches.
        batch: images a call, of ONNX; StableHLO takes any number.
        force: overwrite files.
    """

    run: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    format: Format = "stablehlo"
    generation: int | None = None
    round_to: int = 1
    dense: bool = False
    autotune: bool = False
    batch: int = 1
    force: bool = False


Command = (
    Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Write, tyro.conf.subcommand("report")]
    | Annotated[Compact, tyro.conf.subcommand("compact")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)

FASTER = (
    "Its clusters seldom empty whole channels. For networks that run faster evolve with --cluster "
    "channel --currency macs --synapses 1."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what follows ``evojax``; the process's own by default.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(f"evojax {__version__}")
        return 0
    command: Any = tyro.cli(Command, prog="evojax", description=__doc__, args=arguments)
    command = with_home(command)
    keep_programs()
    try:
        match command:
            case Show():
                show(command)
            case Write():
                write(command)
            case Compact():
                compact(command)
            case Export():
                export_(command)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def show(options: Show) -> None:
    """Prints the tables of a run."""
    _check_batch(options.batch)
    check_round_to(options.round_to)
    lineage = read_lineage(options.run)
    console = report.console()
    parts: list[Any]  # All of it is there before the first line is printed.
    try:
        parts = _shown_compacted(saved(options.run, options.generation), options)
    except UnknownNetwork as error:
        if options.generation is not None:
            raise
        parts = [f"No table of the compacted network: {error}"]
    console.print(tables.generations(lineage).rich())
    console.print()
    console.print(tables.layers(lineage, published(lineage["experiment"])).rich())
    for part in parts:
        console.print(part, markup=False)


def _shown_compacted(network: Saved, options: Show) -> list[Any]:
    """What `show` prints of a compacted generation."""
    small = _compacted(network, options.round_to)
    dense = cost(network.apply, network.variables, network.image)
    masked = cost(network.apply, network.variables, network.image, network.masks)
    left = cost(small.apply, small.variables, network.image)
    shape = (options.batch, *network.image.shape[1:])
    images = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    contestants: dict[str, Saved | Compacted] = {"dense": network, "compacted": small}
    if options.autotune:
        fast = autotune(small.apply, small.variables, images)
        contestants["autotuned"] = small._replace(apply=fast.apply)
    forwards = [jax.jit(lambda x, n=n: n.apply(n.variables, x)) for n in contestants.values()]
    times = dict(zip(contestants, take_turns(forwards, images), strict=True))
    speeds = [f"{name} {speedup(times['dense'], own):.2f}×" for name, own in times.items()]
    channels = network.lineage["config"].get("cluster") == "channel"
    return [
        f"{_which(network)}, compacted",
        widths(small.report, dense, masked, left).rich(),
        f"Speed of a forward pass in batches of {options.batch} on {jax.devices()[0].device_kind}, "
        f"with {dense.macs / max(left.macs, 1):.2f}× fewer MACs: {', '.join(speeds)}",
        *([] if channels else [FASTER]),
    ]


def write(options: Write) -> None:
    """Writes the report of a run."""
    print(f"Report: {report.write(options.run)}")


def compact(options: Compact) -> None:
    """Prints what compaction removes, and writes what is left."""
    check_round_to(options.round_to)
    if options.out is not None:
        check_export(options.out, "npz", force=options.force)
    network = saved(options.run, options.generation)
    small = _compacted(network, options.round_to)
    done = None
    if options.out is not None:
        done = export(
            small.apply, small.variables, network.image, options.out, "npz",
            report=small.report, force=options.force,
        )  # fmt: skip
    print(small.report)
    if small.report.parameters_after == small.report.parameters_before:
        multiples = f" at multiples of {options.round_to}" if options.round_to > 1 else ""
        print(f"Nothing can be removed: every array keeps its size{multiples}")
    if done is not None:
        _tell(small, network, done)


def export_(options: Export) -> None:
    """Writes a generation into a file of another format."""
    _check_batch(options.batch)
    check_round_to(options.round_to)
    check_export(options.out, options.format, force=options.force)
    if options.autotune and options.format in ARRAYS:
        raise ValueError(
            f"--autotune changes how a network computes, of which {options.format} holds nothing: "
            "leave it out, or export to stablehlo or onnx"
        )
    network = saved(options.run, options.generation)
    images = jnp.zeros((options.batch, *network.image.shape[1:]))
    small = None if options.dense else _compacted(network, options.round_to)
    apply, variables, *_ = network if small is None else small
    tuned = autotune(apply, variables, images) if options.autotune else None
    done = export(
        apply if tuned is None else tuned.apply, variables, images, options.out, options.format,
        report=None if small is None else small.report, force=options.force,
    )  # fmt: skip
    _tell(small, network, done)
    if tuned is not None:
        print(f"autotuned in batches of {options.batch}: {tuned.speedup:.2f}× as fast")


def _compacted(network: Saved, round_to: int = 1) -> Compacted:
    # A minute for dozens of convolutions.
    with Console(stderr=True).status("looking for channels that cannot influence the output"):
        return compacted(network.apply, network.variables, network.masks, network.image, round_to)


def _tell(small: Compacted | None, network: Saved, done: Exported) -> None:
    print(f"{_which(network)}: {_size(small)}")
    for file in done.files:
        print(f"written: {file}, {text.size(file.stat().st_size)}")


def _which(network: Saved) -> str:
    return f"Generation {network.generation} of {len(network.lineage['generations'])}"


def _size(small: Compacted | None) -> str:
    if small is None:
        return "in its full size, pruned weights as zeros"
    report = small.report
    return (
        f"{report.parameters_before:,} numbers, of which {report.living:,} are not pruned, "
        f"in arrays of {report.parameters_after:,}"
    )


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise ValueError(f"--batch must be at least 1; got {batch}")


if __name__ == "__main__":
    sys.exit(main())
