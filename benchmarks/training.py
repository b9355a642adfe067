"""What does masking cost in training, and how fast is training at all?

    python benchmarks/training.py
    taskset -c 0 python benchmarks/training.py --threads 1

Images per second of LeNet's training epoch (evojax.learning; forward, backward, AdamW), once
without masks and once with four fifths of every kernel pruned, and, where torch is importable, of
the same net and recipe in PyTorch. All take turns within one run, after a warm-up; medians are
reported, and the ratio is the median of the turns' ratios. Masking may cost 5 %.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from common import take_turns, write
from rich.console import Console
from rich.table import Table

from evojax.learning import Network, Recipe, linen, on_device, trainer
from evojax.models import LeNet
from evojax.study import parsed

ALIVE = 0.2


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        out: where to write the result as JSON.
        turns: how often each contestant is timed.
        steps: training steps a turn.
        batch_size: images a step.
        channels: of the 32x32 images.
        threads: of PyTorch; 0 leaves its default. JAX takes the cores it may run on.
    """

    out: Path = Path("runs/benchmarks/training.json")
    turns: int = 15
    steps: int = 10
    batch_size: int = 128
    channels: int = 1
    threads: int = 0


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    rng = np.random.default_rng(0)
    shape = (options.steps * options.batch_size, 32, 32, options.channels)
    images = rng.integers(0, 256, shape, np.uint8)
    labels = rng.integers(0, 10, shape[0], np.int32)
    contestants = evojax_epochs(images, labels, options)
    versions = {}
    try:
        import torch
    except ImportError:
        print("torch is not importable: measuring evojax alone", file=sys.stderr)
    else:
        contestants["PyTorch"] = torch_epoch(images, labels, options)
        versions = {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    speeds = {
        name: [shape[0] / seconds for seconds in times]
        for name, times in take_turns(contestants, options.turns).items()
    }
    report(speeds, options, versions)


def evojax_epochs(
    images: np.ndarray, labels: np.ndarray, options: Options
) -> dict[str, Callable[[], None]]:
    """One epoch each of the dense and of the masked network."""
    model = linen(LeNet())
    train = trainer(model, Recipe(batch_size=options.batch_size)).train
    data = on_device(images, labels)
    params, batch_stats = model.init(jax.random.key(0), images.shape[1:])
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
    masks = jax.tree.map(
        lambda leaf: jax.random.bernoulli(next(keys), ALIVE, leaf.shape) if leaf.ndim > 1 else None,
        params,
    )
    networks = {
        "dense": Network(params, batch_stats, jax.tree.map(lambda _: None, params)),
        "masked": Network(params, batch_stats, masks),
    }

    def epoch(network: Network) -> Callable[[], None]:
        def run() -> None:
            trained, _ = train(jax.random.key(2), network, data, 1)
            jax.block_until_ready(trained.params)

        return run

    return {name: epoch(network) for name, network in networks.items()}


def torch_epoch(images: np.ndarray, labels: np.ndarray, options: Options) -> Callable[[], None]:
    """One epoch of the same net and recipe in PyTorch, eager, in its fastest CPU layout."""
    import torch
    from torch import nn
    from torch_lenet import lenet

    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"

    params, _ = linen(LeNet()).init(jax.random.key(0), images.shape[1:])
    net = lenet(jax.device_get(params), options.channels)
    net = net.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.0)
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels).to(device).long()

    def run() -> None:
        order = torch.randperm(len(y), device=device).view(-1, options.batch_size)
        total = torch.zeros((), device=device)
        for rows in order:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[rows].float() / 127.5 - 1), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        total.item()

    return run


def report(speeds: dict[str, list[float]], options: Options, versions: dict) -> None:
    """Prints the table and writes the JSON file."""
    table = Table("", "images/s", "fastest", "of dense", title="LeNet, training")
    result = {}
    for name, values in speeds.items():
        ratios = [one / dense for one, dense in zip(values, speeds["dense"], strict=True)]
        result[name] = {
            "images_per_second": statistics.median(values),
            "fastest": max(values),
            "of_dense": statistics.median(ratios),
            "all": values,
        }
        row = result[name]
        table.add_row(
            name,
            f"{row['images_per_second']:,.0f}",
            f"{row['fastest']:,.0f}",
            f"{row['of_dense']:.3f}",
        )
    Console().print(table)
    headings = ["one epoch of LeNet", "speed, of the dense network's"]
    rows = [[name, f"{row['of_dense']:.2f}"] for name, row in result.items()]
    write("training", [headings, *rows], options, result, versions)


if __name__ == "__main__":
    main(parsed(Options, __doc__))
