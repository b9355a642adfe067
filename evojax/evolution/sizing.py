"""Offspring of a size that is given in advance."""

from __future__ import annotations

from collections.abc import Callable

from evojax.genetics import Draw
from evojax.learning.network import PyTree

TRIES = 5
NEAR = 1.005


def draw_to_size(
    draw: Callable[[float], tuple[Draw, PyTree]],
    efficiency: Callable[[PyTree], float],
    share: float,
    size: float,
) -> tuple[Draw, PyTree, float]:
    """Draws an offspring that is just as small as asked.

    A draw is smaller than its budget: biases die with their channels, and a sweep may remove more.
    The budget is widened accordingly and the offspring drawn again, from the same random numbers, a
    few times; of the offspring that are small enough the largest is kept.

    Args:
        draw: from the share of the parent's synapses to leave, in (0, 1], to the draw and the
            masks after the sweep.
        efficiency: the architectural efficiency of masks.
        share: the first one to try.
        size: the offspring's architectural efficiency, at least.

    Returns:
        The offspring's draw, its masks, and the share that led there.
    """
    found = draw(share)
    best = (*found, share)
    smallest = small = efficiency(found[1])
    for _ in range(TRIES):
        if smallest <= NEAR * size or share == 1.0:
            break
        # Towards the size by the factor that the last draw was off, whichever way.
        share = min(1.0, share * small / size)
        found = draw(share)
        small = efficiency(found[1])
        if size <= small < smallest:
            best, smallest = (*found, share), small
    return best
