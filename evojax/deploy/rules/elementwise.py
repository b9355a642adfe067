"""Element by element: the axes of operands and outputs are one."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from evojax.deploy.labels import Atoms, Axes, Axis
from evojax.deploy.rules.rule import Eqn, Fact, Joined, Rule, shape_of

NAMES = [
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj",
    "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "eq", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "imag", "integer_pow",
    "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "name", "ne",
    "neg", "nextafter", "not", "or", "population_count", "pow", "pvary",
    "real", "reduce_precision", "rem", "round", "rsqrt", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan",
    "tanh", "xor",
]  # fmt: skip


def tie(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Axes:
    """The one set of axes of operands that are combined element by element.

    A scalar has none. An axis of length 1 that meets a longer one is kept.
    """
    shape = shape_of(eqn.outvars[0])
    together: list[Axis] = []
    for position, length in enumerate(shape):
        meeting: list[Axis] = []
        for atom, axes in zip(eqn.invars, ins, strict=True):
            if not axes:
                continue
            if shape_of(atom)[position] == length:
                meeting.append(axes[position])
            else:
                atoms.whole(axes[position])
        axis = meeting[0] if meeting else None
        for other in meeting[1:]:
            axis = atoms.join(axis, other)
        together.append(axis)
    return tuple(together)


def spread_out(marks: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Marks of an operand in the shape of the output."""
    return jnp.broadcast_to(marks, shape)


def gathered(marks: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Marks of the output where an operand of this shape is concerned."""
    if not shape:
        return jnp.any(marks)
    axes = tuple(i for i, size in enumerate(shape) if size != marks.shape[i])
    return jnp.any(marks, axes, keepdims=True) if axes else marks


def _join(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    return Joined([tie(atoms, eqn, ins)] * len(eqn.outvars))


def _spread(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    shape = shape_of(eqn.outvars[0])
    varies = jnp.zeros(shape, bool)
    for fact in facts:
        varies |= spread_out(fact.varies, shape)
    return [varies] * len(eqn.outvars)


def _reads(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    read = reads[0]
    for other in reads[1:]:
        read |= other
    return [gathered(read, shape_of(atom)) for atom in eqn.invars]


def _factors_zero(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    """Where each factor is 0 whatever the input; 0 / 0 is not asked for."""
    shape = shape_of(eqn.outvars[0])
    zeros = [spread_out(fact.zero, shape) for fact in facts]
    return zeros if eqn.primitive.name == "mul" else [zeros[0], jnp.zeros(shape, bool)]


def _spread_product(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    one, other = _factors_zero(eqn, facts)
    return [_spread(eqn, facts)[0] & ~one & ~other]


def _reads_product(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    one, other = _factors_zero(eqn, facts)
    where = (reads[0] & ~other, reads[0] & ~one)
    return [gathered(x, shape_of(atom)) for x, atom in zip(where, eqn.invars, strict=True)]


def _spread_choice(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    """What is chosen, where the choice is known; where it is not, what does not depend on it."""
    which, *cases = facts
    shape = shape_of(eqn.outvars[0])
    chosen = jax.lax.select_n(which.value, *(case.varies for case in cases))
    open_to = ~cases[0].varies
    for case in cases[1:]:
        open_to &= ~case.varies & (case.value == cases[0].value)
    return [jnp.where(spread_out(which.varies, shape), ~open_to, chosen)]


def _reads_choice(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    which, *cases = facts
    shape = shape_of(eqn.outvars[0])
    picked, varies = spread_out(which.value, shape), spread_out(which.varies, shape)
    read = [reads[0] & (varies | (picked.astype(int) == i)) for i in range(len(cases))]
    return [gathered(reads[0], which.value.shape), *read]


_PLAIN = Rule(_join, _spread, _reads)
_PRODUCT = Rule(_join, _spread_product, _reads_product)

ELEMENTWISE = {
    **dict.fromkeys(NAMES, _PLAIN),
    "mul": _PRODUCT,
    "div": _PRODUCT,
    "select_n": Rule(_join, _spread_choice, _reads_choice),
}
