"""Primitives that no rule understands: they are computed whole, and what comes out is sliced."""

from __future__ import annotations

import jax

from evojax.deploy.labels import Atoms, Axes
from evojax.deploy.rules.rule import Eqn, Fact, Joined, Rule, everywhere, shape_of


def _join(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    for axes in ins:
        for axis in axes:
            atoms.whole(axis, f"{eqn.primitive.name} is not understood")
    return Joined([tuple(atoms.fresh(n) for n in shape_of(out)) for out in eqn.outvars])


def _spread(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    return everywhere(eqn.outvars, [fact.varies for fact in facts])


def _reads(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    return everywhere(eqn.invars, reads)


OPAQUE = Rule(_join, _spread, _reads)
