"""A function as a flat list of primitive operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from evojax.genetics.trees import path_name

PyTree = Any
Apply = Callable[[PyTree, PyTree], PyTree]
Operate = Callable[[JaxprEqn, list[Any]], Sequence[Any]]
"""(operation, arguments) -> its outputs."""

LONGEST = 128
"""Steps of a scan that are written out one by one. Longer ones stay as they are, kept whole."""

INLINED = {
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint",
    "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin",
}  # fmt: skip

REARRANGING = {"broadcast_in_dim", "reshape", "squeeze", "transpose", "copy", "copy_p"}


class Program(NamedTuple):
    """What a function computes, primitive by primitive.

    Attributes:
        jaxpr: without calls; its inputs are the leaves of the variables, then those of the input.
        consts: of the jaxpr's constvars.
        paths: of the variables' leaves.
        output: structure of what the function returns.
    """

    jaxpr: Jaxpr
    consts: list[Any]
    paths: tuple[str, ...]
    output: Any

    @property
    def variables(self) -> list[Var]:
        """The jaxpr's inputs that are variables."""
        return self.jaxpr.invars[: len(self.paths)]

    @property
    def inputs(self) -> list[Var]:
        """The jaxpr's other inputs."""
        return self.jaxpr.invars[len(self.paths) :]

    @property
    def arithmetic(self) -> list[JaxprEqn]:
        """The operations but for those that come and go as a batch has one entry or several."""
        return [eqn for eqn in self.jaxpr.eqns if eqn.primitive.name not in REARRANGING]


def trace(apply: Apply, variables: PyTree, x: PyTree) -> Program:
    """Traces ``apply(variables, x)``, of which only shapes and dtypes matter.

    Calls are replaced by what they call: jit, remat, and functions with derivatives of their own,
    which lose them. Scans of up to `LONGEST` steps are written out; while and cond stay.

    Raises:
        whatever apply raises.
    """
    output: list[Any] = []

    def leaves_of(variables: PyTree, x: PyTree) -> list[jax.Array]:
        leaves, structure = jax.tree.flatten(apply(variables, x))
        output.append(structure)
        return leaves

    called = jax.make_jaxpr(leaves_of)(variables, x)
    inputs = [var.aval for var in called.jaxpr.invars]
    flat = jax.make_jaxpr(lambda *args: evaluate(called.jaxpr, called.consts, args, _expand))(
        *[jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in inputs]
    )
    named = jax.tree_util.tree_flatten_with_path(variables)[0]
    paths = tuple(path_name(path) for path, _ in named)
    return Program(flat.jaxpr, flat.consts, paths, output[-1])


def bind(eqn: JaxprEqn, args: Sequence[Any], **changed: Any) -> list[Any]:  # noqa: ANN401
    """The outputs of an operation for these arguments, with some of its parameters changed."""
    functions, params = _bind_params(eqn, {**eqn.params, **changed})
    out = eqn.primitive.bind(*functions, *args, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], operate: Operate
) -> list[Any]:
    """The outputs of a program, each of whose operations is done by `operate`."""
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def value(atom: Var | Literal) -> Any:  # noqa: ANN401
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        outs = operate(eqn, [value(atom) for atom in eqn.invars])
        values.update(zip(eqn.outvars, outs, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _bind_params(eqn: JaxprEqn, params: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    prepared = eqn.primitive.get_bind_params(params)
    # Newer versions of JAX give the functions among the parameters.
    return prepared if isinstance(prepared, tuple) else ([], prepared)


def _expand(eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if name == "scan" and 0 < eqn.params["length"] <= LONGEST:
        return _unroll(eqn, args)
    inner = _inner(eqn) if name in INLINED else None
    if inner is None or len(inner.jaxpr.invars) != len(args):
        return bind(eqn, args)
    return evaluate(inner.jaxpr, inner.consts, args, _expand)


def _inner(eqn: JaxprEqn) -> ClosedJaxpr | None:
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = eqn.params.get(name)
        if isinstance(inner, ClosedJaxpr):
            return inner
        if isinstance(inner, Jaxpr):
            return ClosedJaxpr(inner, [])
    return None


def _same_shape(one: Any, other: Any) -> bool:  # noqa: ANN401 (Var or Literal)
    return one.aval.shape == other.aval.shape


def _unroll(eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    """A scan, step by step."""
    params = eqn.params
    body, length = params["jaxpr"], params["length"]
    # Told by their shapes, for versions of JAX differ in how they say it: what is stacked over the
    # steps has one more axis outside than inside; constants come first, then what is carried.
    carries = sum(map(_same_shape, eqn.outvars, body.jaxpr.outvars))
    unstacked = sum(map(_same_shape, eqn.invars, body.jaxpr.invars))
    consts, carry = args[: unstacked - carries], args[unstacked - carries : unstacked]
    stacked = args[unstacked:]
    steps: list[list[Any]] = []
    for step in reversed(range(length)) if params["reverse"] else range(length):
        slices = [lax.index_in_dim(xs, step, keepdims=False) for xs in stacked]
        outs = evaluate(body.jaxpr, body.consts, [*consts, *carry, *slices], _expand)
        carry = outs[:carries]
        steps.append([jnp.expand_dims(y, 0) for y in outs[carries:]])
    if params["reverse"]:
        steps.reverse()
    return [*carry, *(lax.concatenate(ys, 0) for ys in zip(*steps, strict=True))]
