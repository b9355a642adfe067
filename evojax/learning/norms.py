"""Which kernel's outputs each normalisation normalises, found in a model's program."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from jax.extend.core import JaxprEqn, Literal, Var

from evojax.deploy.rules.rule import shape_of
from evojax.deploy.trace import REARRANGING, Program
from evojax.learning.structure import PARAMS, STATS

Value = tuple[Any, int]
"""A value of the program, a `Var` or `Literal`, and the one of its axes that is followed."""


def norms_of(program: Program) -> dict[str, str]:
    """Scales and offsets of normalisations by channel, each with the kernel that it belongs to.

    A normalisation is a module with a running statistic ``mean`` and parameters ``scale`` or
    ``bias``, all of them vectors. It belongs to the kernel from whose outputs the mean is
    subtracted, with nothing in between but the layer's own bias and changes of shape or dtype. One
    that normalises anything else (a sum, an activation) or several kernels' outputs is left out.

    Args:
        program: of the model (`evojax.learning.structure.evaluation`).
    """
    graph = _graph(program)
    shapes = {path: shape_of(var) for var, path in graph.paths.items()}
    found: dict[str, str] = {}
    for var, path in graph.paths.items():
        module, name = path[: -len("mean")].removeprefix(STATS), path.rpartition("/")[2]
        if not path.startswith(STATS) or name != "mean" or len(shapes[path]) != 1:
            continue
        kernels = {_kernel(graph, value) for value in _subtracted_from(graph, (var, 0))}
        kernel = kernels.pop() if len(kernels) == 1 else None
        if kernel is None or shapes[kernel][-1:] != shapes[path]:
            continue
        for follower in (f"{module}scale", f"{module}bias"):
            if shapes.get(PARAMS + follower) == shapes[path]:
                found[follower] = kernel.removeprefix(PARAMS)
    return found


class _Graph(NamedTuple):
    """A program's values.

    Attributes:
        paths: of the variables.
        made: by which operation each other value is made.
        read: which operations read each value.
    """

    paths: dict[Var, str]
    made: dict[Var, JaxprEqn]
    read: dict[Var, list[JaxprEqn]]


def _graph(program: Program) -> _Graph:
    eqns = program.jaxpr.eqns
    read: dict[Var, list[JaxprEqn]] = {}
    for eqn in eqns:
        for atom in eqn.invars:
            if not isinstance(atom, Literal):
                read.setdefault(atom, []).append(eqn)
    paths = dict(zip(program.variables, program.paths, strict=True))
    return _Graph(paths, {out: eqn for eqn in eqns for out in eqn.outvars}, read)


def _subtracted_from(graph: _Graph, mean: Value) -> list[Value | None]:
    """From what a mean is subtracted; ``None`` stands for any other use of it."""
    var, axis = mean
    found: list[Value | None] = []
    for eqn in graph.read.get(var, []):
        after = [out for out in range(len(shape_of(eqn.outvars[0]))) if _before(eqn, out) == axis]
        if after:
            found += _subtracted_from(graph, (eqn.outvars[0], after[-1]))
        else:
            minuend = eqn.primitive.name == "sub" and eqn.invars[1] is var
            found.append((eqn.invars[0], axis) if minuend else None)
    return found


def _kernel(graph: _Graph, value: Value | None) -> str | None:
    """The path of the kernel of whose outputs, channel by channel, a value consists."""
    var, axis = _origin(graph, value) if value else (None, 0)
    eqn = graph.made.get(var) if var else None
    if eqn is None:
        return None
    if eqn.primitive.name == "add":
        one, other = ((term, axis) for term in eqn.invars)
        return _with_bias(graph, one, other) or _with_bias(graph, other, one)
    weights = _weights(eqn, axis)
    if weights is None:
        return None
    var, last = _origin(graph, weights)
    path = graph.paths.get(var, "") if var and last == len(shape_of(var)) - 1 else ""
    return path if path.startswith(PARAMS) else None


def _with_bias(graph: _Graph, value: Value, bias: Value) -> str | None:
    """As `_kernel`, of a sum with another parameter of the kernel's module."""
    var, _ = _origin(graph, bias)
    offset = graph.paths.get(var) if var else None
    kernel = _kernel(graph, value) if offset else None
    return kernel if kernel and offset and _module(kernel) == _module(offset) else None


def _module(path: str) -> str:
    return path.rpartition("/")[0]


def _origin(graph: _Graph, value: Value) -> tuple[Var | None, int]:
    """What was rearranged to this value, along the axis that is followed; ``None`` of a literal."""
    var, axis = value
    if isinstance(var, Literal):
        return None, axis
    while (eqn := graph.made.get(var)) is not None:
        before = _before(eqn, axis)
        if before is None:
            break
        var, axis = eqn.invars[0], before
    return var, axis


def _before(eqn: JaxprEqn, axis: int) -> int | None:
    """The operand's axis that lies along an axis of the output, if nothing but shapes change."""
    name, params = eqn.primitive.name, eqn.params
    if name not in {*REARRANGING, "convert_element_type"} or len(eqn.invars) != 1:
        return None
    before, after = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    match name:
        case "transpose":
            old = [params["permutation"][axis]]
        case "broadcast_in_dim":
            old = [i for i, new in enumerate(params["broadcast_dimensions"]) if new == axis]
        case "squeeze":
            old = [[i for i in range(len(before)) if i not in params["dimensions"]][axis]]
        case "reshape":
            # As much must lie before it; where axes of length 1 leave a choice, the last one.
            steps = math.prod(after[:axis])
            old = [i for i in range(len(before)) if math.prod(before[:i]) == steps][::-1]
        case _:
            old = [axis]
    return next((i for i in old if before[i] == after[axis]), None)


def _weights(eqn: JaxprEqn, axis: int) -> Value | None:
    """The operand of a product that gives an axis of the output, and the axis there."""
    numbers: Any = eqn.params.get("dimension_numbers")
    match eqn.primitive.name:
        case "conv_general_dilated" if axis == numbers.out_spec[1]:
            return eqn.invars[1], numbers.rhs_spec[0]
        case "dot_general":
            sides = zip(eqn.invars, *numbers, strict=True)
            free = [
                (operand, own)
                for operand, summed, paired in sides
                for own in range(len(shape_of(operand)))
                if own not in (*summed, *paired)
            ]
            place = axis - len(numbers[1][0])
            return free[place] if place >= 0 else None
    return None
