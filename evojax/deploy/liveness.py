"""What can influence the output: constants spread forwards, reads spread backwards.

Of every entry of every value it is found whether it depends on the input, and where not, what it
is; and whether any output reads it, through whatever is not certainly multiplied by 0. An entry
that goes missing from a sum is not missed if it is certainly 0, or if nobody reads the sum. One
pass each way reaches the fixed point, for a program has no loops: what is 0 is known before it is
asked who reads it, and removing what nobody misses changes nothing that somebody reads.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, Var

from evojax.deploy.rules import Fact, Sink
from evojax.deploy.rules.rule import Eqn, dtype_of
from evojax.deploy.topology import Topology, rule_of
from evojax.deploy.trace import bind

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""What runs once is compiled in a hurry."""

Facts = dict[Var, Fact]
Reads = dict[Var, jax.Array]


class Liveness(NamedTuple):
    """What was found.

    Attributes:
        needed: per operation and sink, which entries of the axis would be missed, bool.
        constant: likewise, which would not if the constant that they add were added instead.
        read: per operation, whether anything reads its outputs.
        vary: whether any output depends on the input.
        passes: per operation, whether any of its outputs depends on the input.
        zero: per operation, whether any entry of its outputs is certainly 0.
    """

    needed: list[list[jax.Array]]
    constant: list[list[jax.Array]]
    read: list[jax.Array]
    vary: jax.Array
    passes: list[jax.Array]
    zero: list[jax.Array]


def liveness(topology: Topology, variables: list[Any], inputs: list[Any]) -> Liveness:
    """Finds which channels would be missed.

    Args:
        topology: of the program.
        variables: its variables' leaves, pruned weights 0.
        inputs: leaves of the example input.
    """

    @partial(jax.jit, compiler_options=QUICK)
    def find(variables: list[Any], inputs: list[Any]) -> Liveness:
        facts = spread(topology, variables, inputs)
        needed, constant, read = _needed(topology, facts)
        outs = [fact_of(facts, atom) for atom in topology.program.jaxpr.outvars]
        passes, zero = (
            [
                jnp.any(jnp.array([False, *(jnp.any(marks(facts[var])) for var in eqn.outvars)]))
                for eqn in topology.program.jaxpr.eqns
            ]
            for marks in (lambda fact: fact.varies, lambda fact: fact.zero)
        )
        vary = jnp.any(jnp.stack([jnp.any(out.varies) for out in outs]))
        return Liveness(needed, constant, read, vary, passes, zero)

    return find(variables, inputs)


def missed(topology: Topology, found: Liveness, unfolded: Collection[int] = ()) -> np.ndarray:
    """Which of the variables' atoms have to stay, bool (prunable + 1,).

    Args:
        topology: of the program.
        found: what influences the output.
        unfolded: operations, by their number in `Program.arithmetic`, to which constants may not
            be added in place of channels.
    """
    atoms = topology.atoms
    needed = np.zeros(len(atoms), bool)
    strict = {id(topology.program.arithmetic[number]) for number in unfolded}
    for index, eqn in enumerate(topology.program.jaxpr.eqns):
        for sink, mark, constant in zip(
            topology.sinks[index], found.needed[index], found.constant[index], strict=True
        ):
            axis = topology.of(eqn.invars[sink.operand])[sink.axis]
            if axis is not None:
                stays = np.asarray(mark | constant if id(eqn) in strict else mark)
                needed[atoms.find(axis[stays])] = True
    needed[0] = True
    return needed[atoms.find(np.arange(topology.prunable + 1))]


def unread(topology: Topology, found: Liveness) -> dict[int, float]:
    """Operations that nobody reads, and what may stand in for them: a number that is finite.

    It is 0 for what is certainly 0, by which something else may be multiplied, and 1 for the rest,
    by which a 0 may be divided.

    Returns:
        The number by the operation's own in `Program.arithmetic`.
    """
    eqns = topology.program.jaxpr.eqns
    silent = {
        id(eqn): float(not zero)
        for eqn, read, zero in zip(eqns, found.read, found.zero, strict=True)
        if not read
    }
    arithmetic = enumerate(topology.program.arithmetic)
    return {number: silent[id(eqn)] for number, eqn in arithmetic if id(eqn) in silent}


def fact_of(facts: Facts, atom: Var | Literal) -> Fact:
    """What is known of an operand."""
    return (
        Fact(jnp.asarray(atom.val, dtype_of(atom)), None)
        if isinstance(atom, Literal)
        else facts[atom]
    )


def spread(topology: Topology, variables: list[Any], inputs: list[Any]) -> Facts:
    """Facts of every value, in the order of computation."""
    program = topology.program
    facts = {
        var: Fact(value, None)
        for var, value in zip(
            [*program.variables, *program.jaxpr.constvars],
            [*variables, *program.consts],
            strict=True,
        )
    }
    for var, value in zip(program.inputs, inputs, strict=True):
        facts[var] = Fact(value, jnp.ones(jnp.shape(value), bool))
    for eqn in program.jaxpr.eqns:
        known = [fact_of(facts, atom) for atom in eqn.invars]
        values = bind(eqn, [fact.value for fact in known])
        if all(fact.unknown is None for fact in known):
            facts.update(zip(eqn.outvars, (Fact(v, None) for v in values), strict=True))
        else:
            unknown = rule_of(eqn).spread(eqn, known)
            facts.update(zip(eqn.outvars, map(Fact, values, unknown), strict=True))
    return facts


Marks = list[list[jax.Array]]
"""Per operation and sink."""


def _needed(topology: Topology, facts: Facts) -> tuple[Marks, Marks, list[jax.Array]]:
    """Which entries would be missed, which add a constant, and which operations are read.

    Found from the outputs backwards.
    """
    reads: Reads = {}
    jaxpr = topology.program.jaxpr
    for out in jaxpr.outvars:
        _read(reads, out, jnp.ones(fact_of(facts, out).value.shape, bool))
    marks: list[list[tuple[jax.Array, jax.Array]]] = []
    anywhere: list[jax.Array] = []
    for eqn, sinks in zip(reversed(jaxpr.eqns), reversed(topology.sinks), strict=True):
        known = [fact_of(facts, atom) for atom in eqn.invars]
        if not any(var in reads for var in eqn.outvars):
            lengths = [known[sink.operand].value.shape[sink.axis] for sink in sinks]
            marks.append([(jnp.zeros(n, bool), jnp.zeros(n, bool)) for n in lengths])
            anywhere.append(jnp.array(False))
            continue
        outs = [reads.get(var, jnp.zeros(facts[var].value.shape, bool)) for var in eqn.outvars]
        anywhere.append(jnp.any(jnp.array([jnp.any(out) for out in outs])))
        operands = rule_of(eqn).reads(eqn, known, outs)
        for atom, read in zip(eqn.invars, operands, strict=True):
            _read(reads, atom, read)
        marks.append([_along(eqn, known, operands, sink) for sink in sinks])
    needed, constant = ([[pair[i] for pair in each] for each in marks[::-1]] for i in (0, 1))
    return needed, constant, anywhere[::-1]


def _read(reads: Reads, atom: Var | Literal, read: jax.Array) -> None:
    if not isinstance(atom, Literal):
        reads[atom] = reads[atom] | read if atom in reads else read


def _along(
    eqn: Eqn, facts: list[Fact], reads: list[jax.Array], sink: Sink
) -> tuple[jax.Array, jax.Array]:
    """Which entries along an axis would be missed, and which only as the constant they add."""
    rule = rule_of(eqn)
    operand, axis = ending(facts, sink)
    fact, counts = facts[operand], reads[operand]
    others = tuple(i for i in range(counts.ndim) if i != axis)
    if rule.sums:
        counts &= ~fact.zero
    # What meets nothing but weights is a constant to fold; a product of weights is weights.
    weighted = fact.unknown is not None and all(
        other.unknown is None for other in facts if other is not fact
    )
    missed = counts & fact.varies if rule.sums and weighted and rule.folds(eqn) else counts
    needed = jnp.any(missed, others)
    return needed, jnp.any(counts, others) & ~needed


def ending(facts: list[Fact], sink: Sink) -> tuple[int, int]:
    """The operand and axis to look at: in a product of weights and signals, the signals."""
    if sink.other is not None and facts[sink.operand].unknown is None:
        return 1 - sink.operand, sink.other
    return sink.operand, sink.axis
