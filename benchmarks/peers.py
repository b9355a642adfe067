"""How do PyTorch's own pruning tools fare on the same terms? LeNet, as in methods.py.

    python -m venv peers && . peers/bin/activate && pip install -e '.[peers]'
    python benchmarks/peers.py                       # after benchmarks/methods.py
    python benchmarks/peers.py --beside              # alone

PyTorch and Torch-Pruning are no dependencies of evojax: give them an environment of their own.
On a machine without an accelerator, install PyTorch's CPU build first.

Same network with the same initial weights, same images in the same order, same epochs, same AdamW
with the same learning rate in every step, same sizes. What differs is what is compared:

* torch.nn.utils.prune: `global_unstructured` with `L1Unstructured`, iteratively, to the same number
  of synapses; a bias is pruned when its channel has no weight left, as in evojax, whose runs also
  sweep away synapses that no signal passes through: here they go on being counted.
* Torch-Pruning: whole channels by group magnitude, the weakest first, one at a time, until no more
  than that number of parameters is left; ranked over the whole network (global) or within each
  layer (uniform, its default). Our recipe raises the learning rate as the number of synapses
  falls; whether that suits narrow networks is open, so rows of their own keep the dense network's.

A finished run is not run again. Processes share the work by --seeds or --only; a last call without
--only collects. 240,000 training images a run, at most four minutes on one core; 18 runs.
"""

import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import methods
import numpy as np
from rich.console import Console

from evojax import study
from evojax.data import Dataset
from evojax.evolution.lineage import surroundings, usable_cores
from evojax.files import replace as write
from evojax.learning import Recipe, on_device
from evojax.report.comparison import publish

try:
    import torch
    import torch_pruning
    from torch import nn
    from torch.nn.utils import prune
    from torch_lenet import accuracy, count, fit, generation_key, initial, lenet, tensors
    from torch_lenet import with_weights  # isort: skip
except ImportError as error:
    sys.exit(
        f"error: {error}. This benchmark needs PyTorch and Torch-Pruning: make an environment of "
        "its own and install them there with pip install -e '.[peers]'"
    )


@dataclass(frozen=True)
class Options(methods.Terms):
    """What to measure, and where it goes.

    Attributes:
        beside: results of methods.py, on the same terms, to show in the table and the picture
            as well; of the seeds asked for.
        out: folder of the result.
        runs: folder of the runs.
    """

    beside: tuple[Path, ...] = (Path("results/methods/methods.json"),)
    out: Path = Path("results/peers")
    runs: Path = Path("runs/peers")


class Peer(NamedTuple):
    """A way to make a network smaller.

    Attributes:
        shrink: ``(net, limit) -> reached``: prunes in place to at most `limit` parameters and as
            few less as it can; False where it cannot.
        recipe: how networks are trained.
    """

    shrink: Callable[[nn.Module, int], bool]
    recipe: Recipe


def global_magnitude(net: nn.Module, limit: int) -> bool:
    """Unstructured: the weakest weights of the whole network, whatever their layer."""
    layers = with_weights(net)
    strengths, first = [], []
    for layer in layers:
        alive = getattr(layer, "weight_mask", torch.ones_like(layer.weight)) > 0
        strength = torch.where(alive, layer.weight.detach().abs(), -1.0)
        strengths.append(strength.flatten())
        first.append(strength.flatten(1).amax(1))
    ordered = torch.sort(torch.cat(strengths), descending=True).values
    ordered = ordered[ordered >= 0]
    # A channel's bias lives as long as its strongest weight: with the k strongest weights of the
    # network those biases are left whose channel's first weight is among the k.
    best = torch.cat(first)
    ranks = torch.searchsorted(-ordered, -best[best >= 0])
    biases = torch.searchsorted(ranks.sort().values, torch.arange(len(ordered) + 1))
    total = torch.arange(len(ordered) + 1) + biases
    kept = int((total <= limit).sum()) - 1
    if kept < 1:
        return False
    prune.global_unstructured(
        [(layer, "weight") for layer in layers],
        pruning_method=prune.L1Unstructured,
        amount=len(ordered) - kept,
    )
    for layer in layers:
        prune.custom_from_mask(layer, "bias", layer.weight_mask.flatten(1).any(1))
    return True


def channels(net: nn.Module, limit: int, *, ranked_globally: bool) -> bool:
    """Structured: the weakest channel of the network or of each layer, again and again."""
    width = sum(layer.weight.shape[0] for layer in with_weights(net)[:-1])
    inputs = with_weights(net)[0].weight.shape[1]
    pruner = torch_pruning.pruner.BasePruner(
        net,
        torch.zeros(1, inputs, 32, 32),
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        global_pruning=ranked_globally,
        pruning_ratio=1.0,
        iterative_steps=width,
        ignored_layers=[with_weights(net)[-1]],
    )
    for _ in range(width):
        for group in pruner.step(interactive=True):
            if count(net) > limit:
                group.prune()
    return count(net) <= limit


RECIPE = methods.BASE.recipe
DENSE_RATE = replace(RECIPE, sparse_rate=0.0)
NO_L1 = replace(RECIPE, l1=0.0)
RANKED = partial(channels, ranked_globally=True)
UNIFORM = partial(channels, ranked_globally=False)
PEERS = {
    "torch.nn.utils.prune": Peer(global_magnitude, RECIPE),
    "torch.nn.utils.prune, no l1": Peer(global_magnitude, NO_L1),
    "Torch-Pruning, global": Peer(RANKED, RECIPE),
    "Torch-Pruning, global, dense rate": Peer(RANKED, DENSE_RATE),
    "Torch-Pruning, uniform": Peer(UNIFORM, RECIPE),
    "Torch-Pruning, uniform, dense rate": Peer(UNIFORM, DENSE_RATE),
}


def main(options: Options) -> int:
    """Runs what is not finished yet, then writes the comparison; returns the exit status."""
    methods.check(options, PEERS)
    methods.settings_of({}, options.seeds[0], options)  # Checks sizes and epochs.
    dataset = methods.images(options)
    beside = methods.beside(options.beside, options, dataset)
    torch.set_num_threads(usable_cores())  # Or PyTorch takes a thread for each core there is.
    names = [name for name in PEERS if name in options.only or not options.only]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in options.seeds:
        for name in names:
            runs[name].append(finished(name, seed, options, dataset))
    if options.only:
        print(f"all finished; the command without --only writes {options.out}")
        return 0
    first = runs[names[0]][0]
    content = {
        "benchmark": "peers",
        "command": study.command(),
        "environment": first["environment"],
        "dataset": first["dataset"] | {"subset": options.subset},
        "seeds": list(options.seeds),
        "methods": [{"name": name, "runs": runs[name]} for name in names],
    }
    shown = publish(
        options.out,
        content,
        methods.reported(options.sizes),
        note=methods.note(content["dataset"], len(options.seeds)),
        beside=beside,
        lead=bool(beside),
    )
    Console().print(shown.rich())
    print(f"written: {options.out}/peers.json and .png")
    return 0


def finished(name: str, seed: int, options: Options, dataset: Dataset) -> dict[str, Any]:
    """The record of a run, from its file if it is finished.

    Raises:
        ValueError: the file is of a run on other terms.
    """
    place = options.runs / f"{study.slug(name)}-seed{seed}.json"
    config = {"sizes": options.sizes, "epochs": options.epochs, **asdict(PEERS[name].recipe)}
    terms = {"peer": name, "seed": seed, "config": config, "dataset": about(dataset)}
    terms = json.loads(json.dumps(terms))
    if place.exists():
        record = json.loads(place.read_text())
        changed = [key for key, value in terms.items() if record.get(key) != value]
        if changed:
            raise ValueError(
                f"{place} is of a run on other terms ({', '.join(changed)}): name another folder "
                "with --runs, or move the file away"
            )
        return record
    print(f"{name}, seed {seed}", flush=True)
    environment = surroundings() | {
        "torch": torch.__version__,
        "torch_pruning": torch_pruning.__version__,
        "device": "cpu",
        "torch_threads": torch.get_num_threads(),
    }
    record = terms | {"command": study.command(), "environment": environment}
    record |= lineage(PEERS[name], seed, options, dataset)
    write(place, (json.dumps(record, indent=1) + "\n").encode())
    return record


def about(dataset: Dataset) -> dict[str, Any]:
    """What tells data sets apart."""
    train, test = dataset.train, dataset.test
    checksum = zlib.crc32(np.ascontiguousarray(train.images).data)
    sizes = {"train": len(train.labels), "test": len(test.labels)}
    return {"name": dataset.name, **sizes, "crc32": checksum}


def lineage(peer: Peer, seed: int, options: Options, dataset: Dataset) -> dict[str, Any]:
    """Trains, prunes and trains again, down to the last size that can be reached."""
    settings = methods.settings_of({}, seed, options)
    train = on_device(*dataset.train)
    test = on_device(*dataset.test, train)
    net = lenet(initial(seed, dataset), dataset.train.images.shape[3])
    size = count(net)
    columns: dict[str, list[Any]] = {
        key: [] for key in ("architectural_efficiency", "synapses", "accuracy", "train_seconds")
    }
    status = f"finished: {settings.generations} generations"
    shown, hidden = tensors(train), tensors(test)
    for generation in range(1, settings.generations + 1):
        start = perf_counter()
        wanted = settings.size_of(generation)
        if wanted is not None and not peer.shrink(net, int(size / wanted)):
            status = f"stopped: cannot reach {wanted:g}"
            break
        epochs = settings.epochs_of(generation)
        density = count(net) / size
        fit(net, *shown, peer.recipe, generation_key(seed, generation), epochs, density)
        if not all(bool(parameter.isfinite().all()) for parameter in net.parameters()):
            status = f"stopped: the training of generation {generation} broke down"
            break
        row = (size / count(net), count(net), accuracy(net, *hidden), perf_counter() - start)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        print(f"  {row[0]:.2f}x: test accuracy {100 * row[2]:.2f} %, {row[3]:.1f} s", flush=True)
    return {"status": status, **columns}


if __name__ == "__main__":
    chosen = study.parsed(Options, __doc__)
    sys.exit(study.guarded(lambda: main(chosen)))
