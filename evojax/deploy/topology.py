"""Which axes of which variables carry the same channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal, Var

from evojax.deploy.labels import WHOLE, Atoms, Axes, Axis
from evojax.deploy.rules import OPAQUE, RULES, Kept, Rule, Sink
from evojax.deploy.rules.rule import Eqn, shape_of
from evojax.deploy.trace import Program


class Topology(NamedTuple):
    """The channels of a program.

    Attributes:
        program: the program.
        atoms: which of them are one.
        axes: the axes of every value.
        sinks: per operation, the axes that end there.
        prunable: number of the atoms of variables; theirs are the first, after `WHOLE`.
    """

    program: Program
    atoms: Atoms
    axes: dict[Var, Axes]
    sinks: list[list[Sink]]
    prunable: int

    def of(self, atom: Var | Literal) -> Axes:
        """The axes of an operand; a literal is a scalar and has none."""
        if isinstance(atom, Literal):
            return (None,) * len(shape_of(atom))
        return self.axes[atom]


def rule_of(eqn: Eqn) -> Rule:
    """What is known of an operation's primitive."""
    return RULES.get(eqn.primitive.name, OPAQUE)


def topology(program: Program) -> Topology:
    """Follows channels from the variables through every operation.

    Axes of the input and of the output are kept whole, and so is what the operations ask for.
    """
    atoms = Atoms()
    axes = {
        var: tuple(atoms.fresh(length) for length in shape_of(var)) for var in program.variables
    }
    prunable = len(np.concatenate([[0], *(a.ravel() for each in axes.values() for a in each)])) - 1
    found = Topology(program, atoms, dict(axes), [], prunable)
    for var in program.jaxpr.constvars:
        found.axes[var] = tuple(atoms.fresh(length) for length in shape_of(var))
    for var in program.inputs:
        found.axes[var] = (None,) * len(shape_of(var))
    for eqn in program.jaxpr.eqns:
        joined = rule_of(eqn).join(atoms, eqn, [found.of(atom) for atom in eqn.invars])
        found.axes.update(zip(eqn.outvars, joined.outs, strict=True))
        found.sinks.append(joined.sinks)
    for out in program.jaxpr.outvars:
        for axis in found.of(out):
            atoms.whole(axis)
    used = {id(atom) for eqn in program.jaxpr.eqns for atom in eqn.invars}
    for var in program.variables:
        if id(var) not in used:
            for axis in axes[var]:
                atoms.whole(axis, "the function does not use it")
    return found


class Cut(NamedTuple):
    """What is removed.

    Attributes:
        topology: of what.
        removed: which representatives of atoms are removed, bool, by atom.
        constants: what removed channels add to a sum, by the operation's number among those of
            `Program.arithmetic`; lengths are those of the output, or 1.
        unread: what stands in for an operation that nobody reads, likewise by number, where all
            that it would be computed from is removed.
    """

    topology: Topology
    removed: np.ndarray
    constants: Mapping[int, np.ndarray]
    unread: Mapping[int, float]

    def kept(self, atom: Var | Literal) -> Kept:
        """Which entries of each axis of a value stay."""
        return tuple(self.kept_along(axis) for axis in self.topology.of(atom))

    def kept_along(self, axis: Axis) -> np.ndarray | None:
        """Which entries of an axis stay; ``None`` where all do."""
        if axis is None:
            return None
        gone = np.any(self.removed[self.topology.atoms.find(axis)], axis=1)
        return ~gone if gone.any() else None


def cut(
    topology: Topology,
    removed: np.ndarray,
    constants: Mapping[int, np.ndarray] | None = None,
    unread: Mapping[int, float] | None = None,
) -> Cut:
    """Removes atoms of variables.

    Args:
        topology: of the program.
        removed: which of the variables' atoms are removed, bool (prunable + 1,).
        constants: what removed channels add to sums.
        unread: what stands in for operations that nobody reads, see `Cut`.

    Raises:
        ValueError: if only part of what lives or dies together is removed, as where another shape
            of the input ties other channels together.
    """
    roots = topology.atoms.find(np.arange(len(removed)))
    gone = np.zeros(len(topology.atoms), bool)
    gone[roots[removed]] = True
    if gone[WHOLE] or np.any(gone[roots] != removed):
        raise ValueError(
            "for an input of this shape the function ties other channels together than for the "
            "example input: compact it with an example of this shape"
        )
    return Cut(topology, gone, constants or {}, unread or {})
