"""How much smaller and faster is an evolved network once its dead channels are cut out?

    python benchmarks/inference.py --run results/networks/mnist_lenet --generations 12
    python benchmarks/inference.py --untrained AlexNet --macs 2 4 8

For the ancestor (dense), and for each generation as it is saved (masked: the same arrays with
zeros in them) and compacted, to the channels that live and to multiples of eight of them, and then
with each convolution in the form that is fastest (autotuned, for each batch):
parameters, multiply-accumulates an image, bytes, and the time of a forward pass in batches of 1, 32
and 256. All take turns within one run, after a warm-up. A speed-up is the median over the turns of
the dense network's time by that network's. Beside it stands by how much the multiply-accumulates
shrank, which it would be if nothing else took time.

Time does not depend on weights, so networks that take long to train are measured untrained: their
channels are drawn, cluster-driven, from initial weights, to each of the budgets asked for.

On a CPU other runners take their turns where they are installed: onnxruntime with the compacted
networks (the extra `onnx`), and of a LeNet PyTorch with the dense network and with the same
channels cut out by Torch-Pruning (the extra `peers`, in an environment of its own). Their
speed-ups, too, are against the dense network in JAX.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from common import check, launch, write

from evojax.deploy import autotune, channels, compact, cost, export
from evojax.deploy.export import NEEDED
from evojax.deploy.report import Variable
from evojax.deploy.timing import speedup, take_turns
from evojax.evolution import read_lineage, saved
from evojax.genetics import budget, cluster_driven, following, synthesis
from evojax.learning import apply_masks, linen
from evojax.models import AlexNet, ResNet

TORCH = ("torch", "torch_pruning")
UNTRAINED: dict[str, Callable[[], nn.Module]] = {
    "AlexNet": AlexNet,
    "ResNet-56": partial(ResNet, 9),
}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        run: folder of a run, with its saved networks.
        generations: which ones; by default the last.
        untrained: AlexNet or ResNet-56, in place of a run, without training, on 32x32 images.
        macs: by how much its multiply-accumulates are to shrink.
        round_to: compacted widths are kept at multiples of each of these.
        batches: images a forward pass.
        turns: how often each contestant is timed.
        seconds: how long one turn of one contestant is to last, about.
        out: where to write the result as JSON.
    """

    run: Path | None = None
    generations: tuple[int, ...] = ()
    untrained: str | None = None
    macs: tuple[float, ...] = (2.0, 4.0, 8.0)
    round_to: tuple[int, ...] = (1, 8)
    batches: tuple[int, ...] = (1, 32, 256)
    turns: int = 15
    seconds: float = 0.1
    out: Path = Path("runs/benchmarks/inference.json")


class Contestant(NamedTuple):
    """A network to time, and what it costs an image."""

    name: str
    forward: Callable[[jax.Array], jax.Array]
    row: dict[str, Any]

    def run_by(self, runner: str, forward: Callable[[jax.Array], Any]) -> "Contestant":
        """The same network in other hands."""
        name = f"{self.name}, {runner}"
        return Contestant(name, forward, self.row | {"name": name})


class Subject(NamedTuple):
    """A network whose forms compete; the dense one has no masks."""

    name: str
    apply: Callable[[Any, Any], jax.Array]
    variables: Any
    masks: Any
    image: jax.Array
    about: dict[str, Any]


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, batches=1, turns=1, round_to=1)
    title, subjects, origin = untrained(options) if options.untrained else recorded(options)
    contestants = competing(options, subjects, torch_too=origin.get("class") == "LeNet")
    random = np.random.default_rng(0)
    for batch in options.batches:
        images = random.normal(size=(batch, *subjects[0].image.shape[1:]))
        forwards = [contestant.forward for contestant in contestants]
        times = take_turns(
            forwards, jnp.asarray(images, jnp.float32), turns=options.turns, seconds=options.seconds
        )
        for contestant, seconds in zip(contestants, times, strict=True):
            contestant.row[f"speedup_{batch}"] = speedup(times[0], seconds)
            contestant.row[f"seconds_{batch}"] = statistics.median(seconds)
    report([contestant.row for contestant in contestants], title, origin, options)


def recorded(options: Options) -> tuple[str, list[Subject], dict[str, Any]]:
    """The ancestor of a run and the generations asked for.

    Returns:
        What the table is called, the networks, and how they came about.

    Raises:
        ValueError: if there is no run, or it has no such generation.
    """
    if options.run is None:
        raise ValueError("expected --run RUN, or --untrained NETWORK")
    lineage = read_lineage(options.run)
    last = len(lineage["generations"])
    if wrong := [number for number in options.generations if not 1 < number <= last]:
        raise ValueError(f"--generations {wrong[0]}: expected 2 to {last}, which {options.run} has")
    subjects = []
    for number in (1, *(options.generations or (last,))):
        apply, variables, masks, image, *_ = saved(options.run, number)
        record = lineage["generations"][number - 1]
        about = {
            "generation": number,
            "architectural_efficiency": record["architectural_efficiency"],
            "accuracy": record["accuracy"],
        }
        size = f"{record['architectural_efficiency']:.0f}x" if subjects else "dense"
        subjects.append(Subject(size, apply, variables, masks if subjects else None, image, about))
    origin = {key: lineage[key] for key in ("command", "environment")}
    origin["class"] = lineage.get("model", {}).get("class", "").rpartition(".")[2]
    return f"{lineage['experiment']}, inference", subjects, origin


def untrained(options: Options) -> tuple[str, list[Subject], dict[str, Any]]:
    """A network with initial weights, and offspring of it at every budget asked for.

    Returns:
        As `recorded`.

    Raises:
        ValueError: if there is a run as well, or a budget is no reduction.
    """
    if options.run is not None:
        raise ValueError("--run and --untrained exclude each other")
    if options.untrained not in UNTRAINED:
        raise ValueError(f"--untrained must be of {', '.join(UNTRAINED)}; got {options.untrained}")
    if wrong := [times for times in options.macs if not times > 1]:
        raise ValueError(f"--macs {wrong[0]:g}: expected numbers above 1")
    model = linen(UNTRAINED[options.untrained]())
    image = jnp.zeros((1, 32, 32, 3))
    params, batch_stats = model.init(jax.random.key(0), image.shape[1:])
    variables = {"params": params, "batch_stats": batch_stats}
    rule = following(model.norms(image.shape[1:]))
    found = channels(model.predict, variables, image, rule=rule)
    subjects = [Subject("dense", model.predict, variables, None, image, {})]
    for times in options.macs:
        environment = budget(macs=1 / times)
        evolve = synthesis(cluster_driven(cluster="channel"), environment, rule, channels=found)
        masks = evolve.offspring(jax.random.key(1), params, evolve.ancestor(params))
        born = variables | {"params": apply_masks(params, masks)}
        subjects.append(Subject(f"MACs / {times:g}", model.predict, born, masks, image, {}))
    return f"{options.untrained}, untrained, inference", subjects, {"class": options.untrained}


def competing(options: Options, subjects: Sequence[Subject], torch_too: bool) -> list[Contestant]:
    """The dense network, then every other one masked and compacted, by every runner at hand."""
    made = []
    on_cpu = jax.default_backend() == "cpu"
    with_onnx = on_cpu and all(map(find_spec, NEEDED["onnx"]))
    torch_too = torch_too and on_cpu and all(map(find_spec, TORCH))
    for name, apply, variables, masks, image, about in subjects:
        if masks is None:
            dense = contestant(name, apply, variables, None, image, about)
            made += [dense, dense.run_by("autotuned", autotuned(apply, variables))]
            if torch_too:
                made.append(dense.run_by("PyTorch", in_torch(variables, image)))
            continue
        made.append(contestant(f"{name}, masked", apply, variables, masks, image, about))
        for multiple in options.round_to:
            small = compact(apply, variables, masks, image, multiple)
            form = f"{name}, compacted" + (f" to {multiple}s" if multiple > 1 else "")
            ours = contestant(form, small.apply, small.variables, None, image, about)
            made += [ours, ours.run_by("autotuned", autotuned(small.apply, small.variables))]
            if with_onnx:
                forward = onnxruntime(small.apply, small.variables)
                made.append(ours.run_by("onnxruntime", forward))
            if torch_too:
                forward = in_torch(variables, image, small.report.variables)
                made.append(ours.run_by("Torch-Pruning", forward))
    return made


def in_torch(
    variables: Any,  # noqa: ANN401
    image: jax.Array,
    report: Sequence[Variable] = (),
) -> Callable[[jax.Array], Any]:
    """LeNet as PyTorch runs it, with the channels that a compaction left."""
    import torch
    from torch_lenet import lenet, narrowed

    def tensor(images: jax.Array) -> torch.Tensor:
        return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)

    kept = {
        variable.path.split("/")[1]: variable.kept[-1]
        for variable in report
        if variable.path.endswith("/kernel") and variable.kept[-1] is not None
    }
    net = lenet(jax.device_get(variables["params"]), image.shape[-1]).eval()
    net = narrowed(net, kept, tensor(image)).to(memory_format=torch.channels_last)
    prepared: dict[int, tuple[jax.Array, torch.Tensor]] = {}

    def forward(images: jax.Array) -> torch.Tensor:
        if id(images) not in prepared:
            prepared[id(images)] = images, tensor(images)
        with torch.inference_mode():
            return net(prepared[id(images)][1])

    return forward


def autotuned(apply: Callable[[Any, Any], Any], variables: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    """The network with each convolution in the form that is fastest for so many images."""
    tuned: dict[tuple[int, ...], Callable[[Any, Any], Any]] = {}

    def forward(images: jax.Array) -> jax.Array:
        if images.shape not in tuned:
            tuned[images.shape] = jax.jit(autotune(apply, variables, images).apply)
        return tuned[images.shape](variables, images)

    return forward


def onnxruntime(apply: Callable[[Any, Any], Any], variables: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    """The network as onnxruntime runs it, converted anew for every shape of images."""
    from onnxruntime import InferenceSession

    sessions: dict[tuple[int, ...], InferenceSession] = {}

    def forward(images: jax.Array) -> list[np.ndarray]:
        if images.shape not in sessions:
            with tempfile.TemporaryDirectory() as folder:
                (file,) = export(apply, variables, images, Path(folder) / "net", "onnx").files
                sessions[images.shape] = InferenceSession(file.read_bytes())
        session = sessions[images.shape]
        return session.run(None, {session.get_inputs()[0].name: np.asarray(images)})

    return forward


def contestant(
    name: str,
    apply: Callable[[Any, Any], jax.Array],
    variables: Any,  # noqa: ANN401
    masks: Any,  # noqa: ANN401
    image: jax.Array,
    about: dict[str, Any],
) -> Contestant:
    """A network and what it costs: the arrays that are there, unless there are masks."""
    found = cost(apply, variables, image, masks)
    jitted = jax.jit(apply)
    row = {"name": name, **about, "parameters": found.parameters, "macs": found.macs}
    row |= {"bytes": found.bytes_sparse, "peak_activation_bytes": found.peak_activation_bytes}
    return Contestant(name, lambda images: jitted(variables, images), row)


def runners() -> dict[str, str]:
    """Versions of the other runners that are installed."""
    packages = {"onnxruntime": "onnxruntime", "torch": "torch", "torch_pruning": "torch-pruning"}
    return {name: version(p) for name, p in packages.items() if find_spec(name)}


def report(
    rows: list[dict[str, Any]], title: str, origin: dict[str, Any], options: Options
) -> None:
    """Prints the table and writes the JSON file."""
    headings = ["", "parameters", "kMACs", "fewer MACs", "kB"]
    headings += [f"speed-up, batch {batch}" for batch in options.batches]
    cells = [
        [
            row["name"],
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e3:,.0f}",
            f"{rows[0]['macs'] / row['macs']:.1f}×",
            f"{row['bytes'] / 1e3:.1f}",
            *(f"{row[f'speedup_{batch}']:.2f}×" for batch in options.batches),
        ]
        for row in rows
    ]
    write("inference", [headings, *cells], options, rows, runners(), title=title, network=origin)


if __name__ == "__main__":
    launch(main, Options, __doc__)
