"""Channels that are constant but not 0: what they add to a sum is added as a constant."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax.deploy.interpreter import sliced
from evojax.deploy.liveness import QUICK, Liveness, ending, fact_of, spread
from evojax.deploy.rules.rule import Eqn, Fact, shape_of
from evojax.deploy.topology import Cut
from evojax.deploy.trace import bind


def constants(
    cut: Cut, found: Liveness, variables: list[Any], inputs: list[Any]
) -> dict[int, np.ndarray]:
    """What removed channels add to each sum that would miss them.

    Args:
        cut: what is removed.
        found: by which it was decided.
        variables: the masked network's, whole.
        inputs: leaves of the example input.

    Returns:
        By the operation's number in `Program.arithmetic`, an array of its output's shape, in which
        axes along which nothing differs have length 1.
    """
    topology = cut.topology
    numbers = {id(eqn): number for number, eqn in enumerate(topology.program.arithmetic)}
    folded = [
        (index, eqn)
        for index, eqn in enumerate(topology.program.jaxpr.eqns)
        if any(
            np.any(np.asarray(constant) & _removed(cut, eqn, sink.operand, sink.axis))
            for sink, constant in zip(topology.sinks[index], found.constant[index], strict=True)
        )
    ]
    if not folded:
        return {}

    @partial(jax.jit, compiler_options=QUICK)
    def added(variables: list[Any], inputs: list[Any]) -> list[jax.Array]:
        facts = spread(topology, variables, inputs)
        return [
            _added(cut, index, eqn, [fact_of(facts, atom) for atom in eqn.invars])
            for index, eqn in folded
        ]

    with jax.default_matmul_precision("highest"):
        arrays = added(variables, inputs)
    kept = {
        numbers[id(eqn)]: sliced(np.asarray(array), cut.kept(eqn.outvars[0]))
        for (_, eqn), array in zip(folded, arrays, strict=True)
    }
    # Where every output goes as well, nothing is added.
    return {number: _collapsed(array) for number, array in kept.items() if array.size}


def _removed(cut: Cut, eqn: Eqn, operand: int, axis: int) -> np.ndarray:
    atom = eqn.invars[operand]
    keep = cut.kept(atom)[axis]
    return np.zeros(shape_of(atom)[axis], bool) if keep is None else ~keep


def _added(cut: Cut, index: int, eqn: Eqn, facts: list[Fact]) -> jax.Array:
    """The operation on nothing but removed constants."""
    sinks = [ending(facts, sink) for sink in cut.topology.sinks[index]]
    operand = sinks[0][0]
    fact = facts[operand]
    gone = jnp.zeros(fact.value.shape, bool)
    for _, axis in sinks:
        along = [-1 if i == axis else 1 for i in range(gone.ndim)]
        gone |= _removed(cut, eqn, operand, axis).reshape(along)
    args = [each.value for each in facts]
    args[operand] = jnp.where(gone & ~fact.varies, fact.value, jnp.zeros_like(fact.value))
    return bind(eqn, args)[0]


def _collapsed(array: np.ndarray) -> np.ndarray:
    for axis in range(array.ndim):
        first = array[(slice(None),) * axis + (slice(0, 1),)]
        if np.allclose(array, first, rtol=0, atol=1e-6 * np.abs(array).max()):
            array = first
    return array
