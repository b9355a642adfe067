"""How fast is training, beside PyTorch, and what does masking cost?

    python benchmarks/training.py
    taskset -c 0 python benchmarks/training.py --threads 1

with several cores also with every batch split over them (`--data-parallel` of the experiments),
and on a GPU

    python benchmarks/training.py --networks AlexNet ResNet-56 --steps 500 \\
        --compute-dtype bfloat16 --compiled

(of fewer steps an epoch is mostly what is done once in it: copies of weights, an order of images).

Images a second of training epochs (evojax.learning; forward, backward, AdamW), once without masks
and once with four fifths of every kernel pruned, and, where torch is importable, of the same net
and optimizer in PyTorch, channels last, on the same device. All take turns within one run, after a
warm-up; the ratio is the median of the turns' ratios. PyTorch has what XLA has without asking: an
optimizer in one pass (fused), programs for the sizes at hand and, on a GPU, the fastest
convolutions of several and products in TensorFloat-32.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from common import check, launch, take_turns, write

from evojax.deploy.timing import speedup
from evojax.evolution.lineage import usable_cores
from evojax.learning import (
    Network,
    Recipe,
    linen,
    on_device,
    population_mesh,
    split_trainer,
    trainer,
)
from evojax.models import AlexNet, LeNet, ResNet

ALIVE = 0.2
EVOJAX = ("dense", "masked")
SPLIT = "dense, batches split over the cores"
PYTORCH = "PyTorch"


class Subject(NamedTuple):
    """A network, and channels of the 32x32 images that it is given."""

    module: nn.Module
    channels: int


NETWORKS = {
    "LeNet": Subject(LeNet(), 1),
    "AlexNet": Subject(AlexNet(), 3),
    "ResNet-20": Subject(ResNet(3), 3),
    "ResNet-56": Subject(ResNet(9), 3),
}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        networks: which; of LeNet, AlexNet, ResNet-20 and ResNet-56.
        turns: how often each contestant is timed.
        steps: training steps a turn, of LeNet; of the others, which are larger, a fifth.
        batch_size: images a step.
        compute_dtype: of activations and matrix products, in PyTorch by its autocast.
        compiled: whether PyTorch's networks are compiled (torch.compile).
        threads: of PyTorch; 0 leaves its default. JAX takes the cores it may run on.
        cores: of a CPU, over which batches are split as well; 0 takes those it may run on.
        out: where to write the result as JSON.
    """

    networks: tuple[str, ...] = ("LeNet", "AlexNet", "ResNet-20")
    turns: int = 9
    steps: int = 10
    batch_size: int = 128
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False
    threads: int = 0
    cores: int = 0
    out: Path = Path("runs/benchmarks/training.json")


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, NETWORKS, turns=1, steps=1, batch_size=1, threads=0, cores=0)
    cores = options.cores or usable_cores()
    if cores > 1:  # Before anything is computed.
        jax.config.update("jax_num_cpu_devices", cores)
    versions: dict[str, Any] = {}
    try:
        import torch
    except ImportError:
        print("torch is not importable: measuring evojax alone", file=sys.stderr)
    else:
        torch.set_num_threads(options.threads or torch.get_num_threads())
        versions = {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    results = {
        name: measured(name, options, with_torch=bool(versions)) for name in options.networks
    }
    report(results, options, versions)


def measured(name: str, options: Options, with_torch: bool) -> dict[str, Any]:
    """Images a second of every contestant, and its speed as a share of the dense network's."""
    subject = NETWORKS[name]
    rng = np.random.default_rng(0)
    count = options.batch_size * (options.steps if name == "LeNet" else max(options.steps // 5, 1))
    images = rng.integers(0, 256, (count, 32, 32, subject.channels), np.uint8)
    labels = rng.integers(0, 10, count, np.int32)
    contestants = evojax_epochs(subject.module, images, labels, options)
    if with_torch:
        contestants[PYTORCH] = torch_epoch(name, images, labels, options)
    times = take_turns(contestants, options.turns)
    return {
        contestant: {
            "images_per_second": count / statistics.median(own),
            "of_dense": speedup(times[EVOJAX[0]], own),
            "seconds": own,
        }
        for contestant, own in times.items()
    }


def evojax_epochs(
    module: nn.Module, images: np.ndarray, labels: np.ndarray, options: Options
) -> dict[str, Callable[[], object]]:
    """One epoch each of the dense and of the masked network."""
    model = linen(module)
    recipe = Recipe(batch_size=options.batch_size, compute_dtype=options.compute_dtype)
    train = trainer(model, recipe).train
    data = on_device(images, labels)
    params, batch_stats = model.init(jax.random.key(0), images.shape[1:])
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
    masks = jax.tree.map(
        lambda leaf: jax.random.bernoulli(next(keys), ALIVE, leaf.shape) if leaf.ndim > 1 else None,
        params,
    )
    whole = jax.tree.map(lambda _: None, params)

    def epoch(masks: Any, train: Callable[..., Any] = train) -> Callable[[], object]:  # noqa: ANN401
        network = Network(params, batch_stats, masks)
        return lambda: jax.block_until_ready(train(jax.random.key(2), network, data, 1)[0])

    contestants = dict(zip(EVOJAX, map(epoch, (whole, masks)), strict=True))
    if on_several_cores():
        mesh = population_mesh(1, jax.device_count())
        contestants[SPLIT] = epoch(whole, split_trainer(model, recipe, mesh).train)
    return contestants


def on_several_cores() -> bool:
    """Whether batches can be split over a CPU's cores."""
    return jax.default_backend() == "cpu" and jax.device_count() > 1


def torch_epoch(
    name: str, images: np.ndarray, labels: np.ndarray, options: Options
) -> Callable[[], object]:
    """One epoch of the same net and optimizer in PyTorch."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch_networks import NETWORKS as THEIRS

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    net = THEIRS[name]().to(device, memory_format=torch.channels_last)
    forward = torch.compile(net, dynamic=False) if options.compiled else net
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.0, fused=True)
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels).to(device).long()
    low = options.compute_dtype == "bfloat16"

    def run() -> object:
        order = torch.randperm(len(y), device=device).view(-1, options.batch_size)
        total = torch.zeros((), device=device)
        for rows in order:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=low):
                loss = cross_entropy(forward(x[rows].float() / 127.5 - 1), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item()

    return run


def report(results: dict[str, Any], options: Options, versions: dict[str, Any]) -> None:
    """Prints the table and writes the JSON file."""
    headings = ["speed of training, of the dense network's", *results]
    contestants = next(iter(results.values()))
    rows = [
        [contestant, *(f"{result[contestant]['of_dense']:.2f}" for result in results.values())]
        for contestant in contestants
    ]
    write("training", [headings, *rows], options, results, versions)


if __name__ == "__main__":
    launch(main, Options, __doc__)
