"""Reshapes: axes that are merged, as before a dense layer, and split, as into heads."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from evojax.deploy.labels import Atoms, Axes, Axis, stacked
from evojax.deploy.rules.rule import Eqn, Joined, Shape, shape_of


def join_reshape(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """Axes keep their atoms, merged or split, as far as the new axes can tell them apart."""
    old, new = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    out: list[Axis] = [None] * len(new)
    for sources, targets in blocks(old, new):
        axes = [ins[0][i] for i in sources]
        if len(sources) == len(targets) == 1:
            out[targets[0]] = axes[0]
        elif all(axis is None for axis in axes):
            continue
        elif not targets:
            for axis in axes:
                atoms.whole(axis)
        else:
            split = _rearranged(
                atoms, axes, tuple(old[i] for i in sources), tuple(new[i] for i in targets)
            )
            for i, axis in zip(targets, split, strict=True):
                out[i] = axis
    return Joined([tuple(out)])


def blocks(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of axes of two shapes that hold the same entries, as short as can be.

    Example:
        >>> list(blocks((2, 4, 4, 8), (2, 128)))
        [([0], [0]), ([1, 2, 3], [1])]
    """
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new) and old[i] == new[j]:
            sources, targets = [i], [j]
        elif i < len(old) and old[i] == 1:
            sources, targets = [i], []
        elif j < len(new) and new[j] == 1:
            sources, targets = [], [j]
        else:
            sources, targets = [i], [j]
            while (ours := math.prod(old[k] for k in sources)) != (
                theirs := math.prod(new[k] for k in targets)
            ):
                if ours < theirs:
                    sources.append(sources[-1] + 1)
                else:
                    targets.append(targets[-1] + 1)
        yield sources, targets
        i, j = i + len(sources), j + len(targets)


def _rearranged(atoms: Atoms, axes: list[Axis], old: Shape, new: Shape) -> list[Axis]:
    """The axes of one block after the reshape."""
    factors: list[list[np.ndarray]] = [[] for _ in new]
    for position, axis in enumerate(axes):
        for factor in [] if axis is None else atoms.varying(axis):
            along = [1] * len(old)
            along[position] = -1
            view = np.broadcast_to(factor.reshape(along), old).reshape(new)
            target = _distinguishing(view)
            lines = np.moveaxis(view, target, 0).reshape(new[target], -1)
            line = lines[:, :1]
            # What the new axis cannot tell apart lives or dies together.
            atoms.join(np.repeat(line, lines.shape[1], 0), lines.reshape(-1, 1))
            factors[target].append(line[:, 0])
    return [stacked(found) for found in factors]


def _distinguishing(view: np.ndarray) -> int:
    """The axis along which entries differ.

    Where they differ along more than one, what was one axis is split. Of two new axes the first
    goes on telling channels apart, as whole heads of attention; of more the last, as the channels
    of an image that a dense layer made.
    """
    found = [axis for axis in range(view.ndim) if np.any(view != np.take(view, [0], axis))]
    if not found:
        return 0
    return found[0] if len(found) == 2 else found[-1]
