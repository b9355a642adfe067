"""What compaction did, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from evojax.deploy.rules.rule import Shape, shape_of, smaller
from evojax.deploy.topology import Cut


class Variable(NamedTuple):
    """What became of a variable; the last axis of a kernel is its layer's width.

    Attributes:
        path: its own.
        before: its shape.
        after: its new shape.
        kept: for every axis the places that stay, rising; ``None`` where all do.
    """

    path: str
    before: Shape
    after: Shape
    kept: tuple[tuple[int, ...] | None, ...]


class Whole(NamedTuple):
    """An axis of a variable that was kept whole, though channels may have died on it, and why."""

    path: str
    axis: int
    reason: str


class Added(NamedTuple):
    """What removed channels added to the output of an operation: it is part of the function now.

    Attributes:
        operation: name of its primitive.
        constant: (axes of the output), of length 1 where nothing differs.
    """

    operation: str
    constant: np.ndarray


class Report(NamedTuple):
    """What compaction did.

    Attributes:
        variables: their shapes before and after.
        living: entries that the masks leave alive, of all variables.
        kept_whole: axes that were not understood, or whose operation allows no removal.
        added: constants in place of removed channels, in the order of computation.
    """

    variables: tuple[Variable, ...]
    living: int
    kept_whole: tuple[Whole, ...]
    added: tuple[Added, ...] = ()

    @property
    def parameters_before(self) -> int:
        """Entries of all variables before."""
        return sum(math.prod(variable.before) for variable in self.variables)

    @property
    def parameters_after(self) -> int:
        """Entries of all variables after."""
        return sum(math.prod(variable.after) for variable in self.variables)

    def __str__(self) -> str:
        """A table."""
        longest = max((len(variable.path) for variable in self.variables), default=0)
        lines = [
            f"{variable.path:<{longest}}  {_times(variable.before)} -> {_times(variable.after)}"
            for variable in self.variables
        ]
        lines.append(
            f"{self.parameters_before:,} entries of variables, {self.living:,} of them alive "
            f"-> {self.parameters_after:,}"
        )
        lines += [
            f"kept whole: {path}, axis {axis}: {reason}" for path, axis, reason in self.kept_whole
        ]
        lines += [
            f"added in place of channels: {_times(constant.shape)} to a {operation}"
            for operation, constant in self.added
        ]
        return "\n".join(lines)


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def describe(cut: Cut, masks: Sequence[Any], constants: Mapping[int, np.ndarray]) -> Report:
    """The report of what is removed, with the masks by leaf of the variables."""
    program, atoms = cut.topology.program, cut.topology.atoms
    variables, whole = [], []
    living = 0
    for path, var, mask in zip(program.paths, program.variables, masks, strict=True):
        before = shape_of(var)
        kept = cut.kept(var)
        places = tuple(None if k is None else tuple(np.flatnonzero(k).tolist()) for k in kept)
        variables.append(Variable(path, before, smaller(before, kept), places))
        living += math.prod(before) if mask is None else int(np.asarray(mask).sum())
        for i, axis in enumerate(cut.topology.axes[var]):
            reason = None if axis is None else atoms.reason(axis)
            if reason is not None:
                whole.append(Whole(path, i, reason))
    added = [
        Added(program.arithmetic[number].primitive.name, constants[number])
        for number in sorted(constants)
    ]
    return Report(tuple(variables), living, tuple(whole), tuple(added))
