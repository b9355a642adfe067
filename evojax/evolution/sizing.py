"""Offspring of a size that is given in advance."""

from __future__ import annotations

from collections.abc import Callable

from evojax.genetics import Draw
from evojax.learning.network import PyTree

TRIES = 6
NEAR = 1.005


def draw_to_size(
    draw: Callable[[float], tuple[Draw, PyTree]],
    efficiency: Callable[[PyTree], float],
    safe: float,
    size: float,
    share: float | None = None,
) -> tuple[Draw, PyTree, float]:
    """Draws an offspring that is just as small as asked.

    A draw is smaller than its budget: biases die with their channels, and a sweep may remove more.
    The budget is widened accordingly and the offspring drawn again, from the same random numbers, a
    few times; of the offspring that are small enough the largest is kept. Only a layer that keeps
    its `min_clusters` can make an offspring larger than asked.

    Args:
        draw: from the share of the parent's synapses to leave, in (0, 1], to the draw and the
            masks after the sweep.
        efficiency: the architectural efficiency of masks.
        safe: a share at which the budget alone makes an offspring small enough.
        size: the offspring's architectural efficiency, at least.
        share: the first one to try; by default the safe one.

    Returns:
        The offspring's draw, its masks, and the share that led there.
    """
    share = safe if share is None else share
    best, smallest, before = None, float("inf"), None
    for _ in range(TRIES):
        found = draw(share)
        small = efficiency(found[1])
        if size <= small < smallest:
            best, smallest = (*found, share), small
        settled = size <= small <= NEAR * size or small == before
        if settled or (small > size and share == 1.0):
            break
        before = small
        # Towards the size by the factor that the last draw was off, whichever way.
        share = min(1.0, share * small / size)
    return best if best is not None else (*draw(safe), safe)
