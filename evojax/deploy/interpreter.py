"""A program with channels removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax.deploy import trace
from evojax.deploy.rules import OPAQUE, Kept
from evojax.deploy.rules.rule import Eqn, dtype_of, shape_of, smaller
from evojax.deploy.topology import Cut, rule_of
from evojax.deploy.trace import bind


def sliced(value: Any, kept: Kept) -> Any:  # noqa: ANN401 (NumPy or JAX array)
    """What is kept of an array."""
    if all(keep is None for keep in kept):
        return value
    if isinstance(value, jax.core.Tracer):
        places = [np.arange(n) if k is None else k for n, k in zip(value.shape, kept, strict=True)]
        return value[np.ix_(*places)]
    # By NumPy, which has nothing to compile for each shape.
    host = np.asarray(value)
    for axis, keep in enumerate(kept):
        if keep is not None:
            host = np.compress(keep, host, axis)
    return host if isinstance(value, np.ndarray) else jnp.asarray(host)


def evaluate(cut: Cut, variables: Sequence[Any], inputs: Sequence[Any]) -> list[jax.Array]:
    """The outputs, computed with what is kept.

    Args:
        cut: the program and what is removed.
        variables: what is kept of its variables' leaves.
        inputs: leaves of its input.
    """
    program = cut.topology.program
    arithmetic = program.arithmetic
    added = {id(arithmetic[number]): array for number, array in cut.constants.items()}
    unread = {id(arithmetic[number]): value for number, value in cut.unread.items()}

    def operate(eqn: Eqn, args: list[Any]) -> list[Any]:
        outs = _operate(cut, eqn, args, unread.get(id(eqn)))
        if id(eqn) in added:
            constant = jnp.asarray(added[id(eqn)], outs[0].dtype)
            outs[0] = outs[0] + jnp.broadcast_to(constant, outs[0].shape)
        return outs

    pairs = zip(program.jaxpr.constvars, program.consts, strict=True)
    consts = [sliced(const, cut.kept(var)) for var, const in pairs]
    return trace.evaluate(program.jaxpr, consts, [*variables, *inputs], operate)


def _operate(cut: Cut, eqn: Eqn, args: list[Any], unread: float | None) -> list[Any]:
    ins, outs = ([cut.kept(atom) for atom in atoms] for atoms in (eqn.invars, eqn.outvars))
    if all(keep is None for kept in (*ins, *outs) for keep in kept):
        return bind(eqn, args)
    if rule_of(eqn) is OPAQUE:  # As iota: places are those before anything was removed.
        return [sliced(out, kept) for out, kept in zip(bind(eqn, args), outs, strict=True)]
    shapes = [smaller(shape_of(out), kept) for out, kept in zip(eqn.outvars, outs, strict=True)]
    emptied = any(0 in jnp.shape(arg) for arg in args)
    nothing = all(0 in shape for shape in shapes) or (
        emptied and (rule_of(eqn).sums or unread is not None)
    )
    if nothing:  # Not every backend computes with arrays of no entries; a sum of nothing is 0.
        return [
            jnp.full(shape, unread or 0, dtype_of(out))
            for shape, out in zip(shapes, eqn.outvars, strict=True)
        ]
    return bind(eqn, args, **rule_of(eqn).shrink(eqn, ins, outs))
