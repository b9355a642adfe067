"""Times of several networks side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

PyTree = Any
Forward = Callable[[PyTree], PyTree]

PAUSE = 0.05
"""Seconds."""


def take_turns(
    forwards: Sequence[Forward],
    x: PyTree,
    *,
    turns: int = 15,
    seconds: float = 0.1,
    pause: float = PAUSE,
) -> list[list[float]]:
    """Seconds from a call to its result, in every turn of everybody, after a warm-up.

    Each result is waited for, as other runtimes do: calls of JAX, put in line one after another,
    would overlap.

    Args:
        forwards: compiled functions of x.
        x: what each is called with.
        turns: how often each is timed.
        seconds: how long one turn of one of them is to last, about.
        pause: seconds before each turn.
    """
    repeats = []
    for forward in forwards:
        jax.block_until_ready(forward(x))
        start = time.perf_counter()
        jax.block_until_ready(forward(x))
        repeats.append(max(1, round(seconds / (time.perf_counter() - start))))

    def repeated(forward: Forward, number: int) -> None:
        for _ in range(number):
            jax.block_until_ready(forward(x))

    runs = [partial(repeated, *pair) for pair in zip(forwards, repeats, strict=True)]
    times = alternate(runs, turns, pause)
    return [
        [seconds / number for seconds in each] for each, number in zip(times, repeats, strict=True)
    ]


def alternate(
    runs: Sequence[Callable[[], object]], turns: int, pause: float = PAUSE
) -> list[list[float]]:
    """Seconds that each of several calls takes, in every turn.

    Before each turn is a pause, for other runtimes' threads spin on for a while after their work.
    """
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(turns):
        # Every second round backwards, so that nobody always follows the same one.
        for index in list(range(len(runs)))[:: 1 if turn % 2 else -1]:
            time.sleep(pause)
            start = time.perf_counter()
            runs[index]()
            times[index].append(time.perf_counter() - start)
    return times


def speedup(baseline: Sequence[float], times: Sequence[float]) -> float:
    """The median over the turns of the baseline's time by the other's."""
    return statistics.median(dense / own for dense, own in zip(baseline, times, strict=True))
