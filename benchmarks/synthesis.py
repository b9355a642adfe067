"""How long does one generation's synthesis take, against touching its bytes once?

    python benchmarks/synthesis.py

For parameter sets the size of LeNet, ResNet-56 and AlexNet: evojax's compiled synthesis
(cluster-driven, kernels, budget 0.8 and 0.8) against a copy of the weights, and against the same
algorithm in NumPy and, where torch is importable, in PyTorch, eager and compiled. All take turns in
one run, after a warm-up; medians are reported as multiples of the copy, with the compile time.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import check, launch, take_turns, timed, write
from compilation import cache_in
from memory import SUBJECTS

import evojax
from evojax.genetics.environment import SAMPLE

TRUNCATION = 0.05
KEYS = 16
"""How many offspring are drawn, in turn."""


NETWORKS = ("LeNet", "ResNet-56", "AlexNet")


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        out: where to write the result as JSON.
        turns: how often each contestant is timed.
        networks: which parameter sets.
    """

    out: Path = Path("runs/benchmarks/synthesis.json")
    turns: int = 9
    networks: tuple[str, ...] = NETWORKS


def main(options: Options) -> None:
    """Measures, prints a table and writes the JSON file."""
    check(options, NETWORKS, turns=1)
    versions = {}
    try:
        import torch

        versions["torch"] = torch.__version__
    except ImportError:
        print("torch is not importable: measuring without it", file=sys.stderr)
    with cache_in(None):  # A first call compiles.
        results = {name: measure(kernels(name), options.turns) for name in options.networks}
    report(results, options, versions)


def kernels(name: str) -> list[tuple[int, ...]]:
    """Shapes of all of a network's parameters that have synapses."""
    params, _ = SUBJECTS[name].model.shapes(SUBJECTS[name].shape)
    return [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]


def measure(shapes: list[tuple[int, ...]], turns: int) -> dict[str, dict[str, float]]:
    """Seconds of every contestant: median and first call; and as multiples of the copy."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape, np.float32) for shape in shapes]
    contestants = {
        "copy": copying(weights),
        "evojax": with_evojax(weights),
        "NumPy": with_numpy(weights),
        **with_torch(weights),
    }
    first = {name: timed(run) for name, run in contestants.items()}
    times = take_turns(contestants, turns)
    return {
        name: {
            "seconds": statistics.median(values),
            "of_copy": statistics.median(
                one / copy for one, copy in zip(values, times["copy"], strict=True)
            ),
            "first_call_seconds": first[name],
        }
        for name, values in times.items()
    } | {"weights": {"count": sum(w.size for w in weights)}}


def copying(weights: Sequence[np.ndarray | jax.Array]) -> Callable[[], object]:
    """Reads and writes the weights once, compiled by XLA."""
    arrays = jax.device_put(weights)
    copy = jax.jit(lambda leaves: [leaf + 1.0 for leaf in leaves])
    return lambda: jax.block_until_ready(copy(arrays))


def with_evojax(weights: list[np.ndarray]) -> Callable[[], object]:
    """One call of the compiled synthesis, with another key each time."""
    params = {f"layer{index}": {"kernel": leaf} for index, leaf in enumerate(weights)}
    params = jax.device_put(params)
    synthesis = evojax.synthesis(evojax.cluster_driven(), evojax.budget(clusters=0.8, synapses=0.8))
    masks = synthesis.ancestor(params)
    keys = cycle(list(jax.random.split(jax.random.key(0), KEYS)))
    share = jnp.float32(0.64)
    return lambda: jax.block_until_ready(synthesis.draw(next(keys), params, masks, share))


def with_numpy(weights: list[np.ndarray]) -> Callable[[], object]:
    """The same algorithm in NumPy."""
    masks = [np.ones(w.shape, bool) for w in weights]
    rng = np.random.default_rng(0)

    def run() -> list[np.ndarray]:
        clusters, synapses = [], []
        for w, mask in zip(weights, masks, strict=True):
            strength = np.abs(w) * mask
            z = strength.max()
            axes = tuple(range(w.ndim - 2))
            sums = np.where(strength < TRUNCATION * z, 0, strength).sum(axes, keepdims=True)
            clusters.append(sums / sums.max() - 1)
            synapses.append(strength / z - 1)
        log_fc = numpy_factor([np.zeros(1, np.float32)] * len(weights), clusters, 0.8)
        given = [np.minimum(0, log_fc + c) for c in clusters]
        log_fs = numpy_factor(given, synapses, 0.64)
        margins = []
        for g, s in zip(given, synapses, strict=True):
            own = np.log(1 - rng.random(s.shape, np.float32)) - np.minimum(0, log_fs + s)
            cluster = np.log(1 - rng.random(g.shape, np.float32)) - g
            margins.append(own - g if g.shape == s.shape else np.maximum(cluster, own))
        alive = sum(int((m < 0).sum()) for m in margins)
        limit = int(0.64 * sum(m.size for m in margins))
        threshold = min(0.0, float(np.log(limit / max(alive, 1))) * 1.01)
        return [m < threshold for m in margins]

    return run


def numpy_factor(given: list[np.ndarray], logs: list[np.ndarray], share: float) -> float:
    """log F by bisection on a regular sample."""
    total = sum(log.size for log in logs)
    stride = max(1, total // SAMPLE)
    g = np.concatenate(
        [
            np.broadcast_to(a, b.shape).reshape(-1)[::stride]
            for a, b in zip(given, logs, strict=True)
        ]
    )
    log = np.concatenate([b.reshape(-1)[::stride] for b in logs])
    low, high = -20.0, float(-log.min())
    for _ in range(24):
        middle = 0.5 * (low + high)
        enough = np.exp(g + np.minimum(0, middle + log)).mean() >= share
        low, high = (low, middle) if enough else (middle, high)
    return high


def with_torch(weights: list[np.ndarray]) -> dict[str, Callable[[], object]]:
    """The same algorithm in PyTorch, eager and compiled; nothing where it is not importable."""
    try:
        import torch
    except ImportError:
        return {}
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    tensors = [torch.from_numpy(w).to(device) for w in weights]
    masks = [torch.ones_like(w, dtype=torch.bool) for w in tensors]

    def factor(given: list[Any], logs: list[Any], share: float) -> Any:  # noqa: ANN401
        stride = max(1, sum(log.numel() for log in logs) // SAMPLE)
        pairs = zip(given, logs, strict=True)
        g = torch.cat([a.expand(b.shape).reshape(-1)[::stride] for a, b in pairs])
        log = torch.cat([b.reshape(-1)[::stride] for b in logs])
        low, high = torch.full((), -20.0, device=device), -log.min()
        for _ in range(24):
            middle = 0.5 * (low + high)
            enough = torch.exp(g + (middle + log).clamp(max=0)).mean() >= share
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        return high

    def draw() -> list[Any]:
        clusters, synapses = [], []
        for w, mask in zip(tensors, masks, strict=True):
            strength = w.abs() * mask
            z = strength.max()
            kept = torch.where(strength < TRUNCATION * z, 0.0, strength)
            sums = kept.sum(tuple(range(w.ndim - 2)), keepdim=True) if w.ndim > 2 else kept
            clusters.append(sums / sums.max() - 1)
            synapses.append(strength / z - 1)
        zero = torch.zeros((), device=device)
        log_fc = factor([zero] * len(clusters), clusters, 0.8)
        given = [(log_fc + c).clamp(max=0) for c in clusters]
        log_fs = factor(given, synapses, 0.64)
        margins = []
        for g, s in zip(given, synapses, strict=True):
            own = torch.rand_like(s).log() - (log_fs + s).clamp(max=0)
            one = g.shape == s.shape
            margins.append(own - g if one else torch.maximum(torch.rand_like(g).log() - g, own))
        alive = torch.stack([(m < 0).sum() for m in margins]).sum()
        limit = 0.64 * sum(m.numel() for m in margins)
        threshold = (limit / alive).log().clamp(max=0) * 1.01
        return [m < threshold for m in margins]

    def waiting(run: Callable[[], object]) -> Callable[[], object]:
        def call() -> object:
            result = run()
            if device == "cuda":
                torch.cuda.synchronize()
            return result

        return call

    # For the sizes at hand; else a second network's, unlike the first's, are compiled as unknown.
    compiled = torch.compile(draw, dynamic=False)
    return {"PyTorch": waiting(draw), "torch.compile": waiting(compiled)}


def report(results: dict[str, dict], options: Options, versions: dict) -> None:
    """Prints the table and writes the JSON file."""
    names = [name for name in next(iter(results.values())) if name != "weights"]
    headings = ["times the copy", *results]
    rows = [
        [name, *(f"{result[name]['of_copy']:.1f}" for result in results.values())] for name in names
    ]
    rows.append(
        ["evojax, first call (s)"]
        + [f"{result['evojax']['first_call_seconds']:.1f}" for result in results.values()]
    )
    write(
        "synthesis",
        [headings, *rows],
        options,
        results,
        versions,
        title="One generation's synthesis",
    )


if __name__ == "__main__":
    launch(main, Options, __doc__)
