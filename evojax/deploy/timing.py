"""Times of several networks side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

PyTree = Any
Forward = Callable[[PyTree], PyTree]


def take_turns(
    forwards: Sequence[Forward], x: PyTree, *, turns: int = 15, seconds: float = 0.1
) -> list[list[float]]:
    """Seconds a call, in every turn of everybody, after a warm-up.

    Args:
        forwards: compiled functions of x.
        x: what each is called with.
        turns: how often each is timed.
        seconds: how long one turn of one of them is to last, about.
    """
    repeats = []
    for forward in forwards:
        jax.block_until_ready(forward(x))
        start = time.perf_counter()
        jax.block_until_ready(forward(x))
        repeats.append(max(1, round(seconds / (time.perf_counter() - start))))
    times: list[list[float]] = [[] for _ in forwards]
    for turn in range(turns):
        # Every second round backwards, so that nobody always follows the same one.
        for index in list(range(len(forwards)))[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            for _ in range(repeats[index]):
                out = forwards[index](x)
            jax.block_until_ready(out)
            times[index].append((time.perf_counter() - start) / repeats[index])
    return times


def speedup(baseline: Sequence[float], times: Sequence[float]) -> float:
    """The median over the turns of the baseline's time by the other's."""
    return statistics.median(dense / own for dense, own in zip(baseline, times, strict=True))
