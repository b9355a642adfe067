"""What a network costs, counted from its program: nothing is compiled, and nothing is run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from evojax.deploy.checks import matched, traced
from evojax.deploy.rules.elementwise import ELEMENTWISE
from evojax.deploy.rules.rule import Eqn, shape_of
from evojax.deploy.trace import REARRANGING, Apply, Program, bind
from evojax.genetics.census import sparse_bytes

PyTree = Any

PRODUCTS = ("dot_general", "conv_general_dilated")
UNCOUNTED = ("ragged_dot", "ragged_dot_general", "scaled_matmul")
MOVING = {*REARRANGING, "slice", "split", "rev", "concatenate"}
SCALING = {"mul", "div", "neg", "convert_element_type"}
"""Operations through which what is 0 stays 0."""
IN_PLACE = {*REARRANGING, *ELEMENTWISE}
"""Operations that need no memory of their own where an operand of theirs is used no more."""


class Product(NamedTuple):
    """A matrix product or convolution.

    Attributes:
        path: of the variable whose weights are multiplied; ``None`` between two signals.
        macs: multiply-accumulates.
    """

    path: str | None
    macs: int


class Cost(NamedTuple):
    """What one call of a network costs, for the whole batch it was counted for.

    Attributes:
        parameters: living entries of the variables, or of ``variables["params"]`` if there is one.
        macs: multiply-accumulates of matrix products and convolutions.
        products: each of them, in the order of computation.
        activation_bytes: of the input and of all values that follow from it, those left out that
            are computed in place.
        peak_activation_bytes: the most that is held at once of them, when operations run in the
            order of the program and element by element in place.
        bytes_dense: of all variables.
        bytes_sparse: likewise, each array with masks as the smallest of itself, its living entries
            and a bitmask, and its living entries and their indices.
        uncounted: operations with products inside whose number of turns is not known, and products
            of other kinds.
    """

    parameters: int
    macs: int
    products: tuple[Product, ...]
    activation_bytes: int
    peak_activation_bytes: int
    bytes_dense: int
    bytes_sparse: int
    uncounted: tuple[str, ...]

    @property
    def macs_by_path(self) -> dict[str, int]:
        """Multiply-accumulates of each variable, in the order in which they are first used."""
        macs: dict[str, int] = {}
        for path, count in self.products:
            if path is not None:
                macs[path] = macs.get(path, 0) + count
        return macs


class Weight(NamedTuple):
    """A variable, or one rearranged, and which of its entries are alive, bool."""

    path: str
    alive: np.ndarray


def cost(apply: Apply, variables: PyTree, x: PyTree, masks: PyTree = None) -> Cost:
    """Counts what ``apply(variables, x)`` costs.

    A pruned weight costs no multiplication, as if hardware could pass over it; what a compacted
    network costs is counted from the function and variables of `Compacted`, without masks. Places
    outside the image count as any others; the zeros between the places of a transposed convolution
    do not.

    Args:
        apply: ``(variables, x) -> outputs``, any function that JAX can trace.
        variables: PyTree of arrays, or of their shapes.
        x: the input, of which only shapes matter: give it a batch of one.
        masks: as for `compact`; by default everything is alive.

    Raises:
        ValueError: if the function rejects the variables or the input, or masks do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(variables, x):
        ...     return jnp.maximum(x @ variables["hidden"], 0) @ variables["out"]
        >>> variables = {"hidden": jnp.ones((3, 8)), "out": jnp.ones((8, 2))}
        >>> found = cost(apply, variables, jnp.ones((1, 3)))
        >>> found.parameters, found.macs, found.bytes_dense, found.peak_activation_bytes
        (40, 40, 160, 44)
    """
    marks, _ = matched(variables, masks)
    program = traced(apply, variables, x)
    weights = {
        var: Weight(path, _alive(var, mask))
        for path, var, mask in zip(program.paths, program.variables, marks, strict=True)
    }
    products, uncounted = _products(program.jaxpr, dict.fromkeys(program.jaxpr.constvars) | weights)
    total, peak = _activations(program)
    masked = [mask is not None for mask in marks]
    return Cost(
        parameters=sum(int(w.alive.sum()) for w in _parameters(weights, variables)),
        macs=sum(product.macs for product in products),
        products=tuple(products),
        activation_bytes=total,
        peak_activation_bytes=peak,
        bytes_dense=sum(_bytes(var) for var in weights),
        bytes_sparse=sum(map(_sparse, weights, weights.values(), masked)),
        uncounted=tuple(dict.fromkeys(uncounted)),
    )


def weighed(program: Program) -> list[tuple[Eqn, Product]]:
    """The matrix products and convolutions of a program, each with what it multiplies."""
    weights: dict[Any, Weight | None] = dict.fromkeys(program.jaxpr.constvars)
    for path, var in zip(program.paths, program.variables, strict=True):
        weights[var] = Weight(path, _alive(var, None))
    found = []
    for eqn in program.jaxpr.eqns:
        if eqn.primitive.name in PRODUCTS:
            found.append((eqn, _product(eqn, weights)))
        else:
            _follow(eqn, weights)
    return found


def _alive(var: Var, mask: Any) -> np.ndarray:  # noqa: ANN401
    return np.broadcast_to(True, shape_of(var)) if mask is None else np.asarray(mask)


def _parameters(weights: Mapping[Var, Weight], variables: PyTree) -> list[Weight]:
    inner = isinstance(variables, Mapping) and "params" in variables
    return [w for w in weights.values() if not inner or f"{w.path}/".startswith("params/")]


def _itemsize(atom: Any) -> int:  # noqa: ANN401 (Var, whose type has no dtype)
    return atom.aval.dtype.itemsize


def _bytes(atom: Var) -> int:
    return math.prod(shape_of(atom)) * _itemsize(atom)


def _sparse(var: Var, weight: Weight, masked: bool) -> int:
    if not masked:
        return _bytes(var)
    return sparse_bytes(weight.alive.size, int(weight.alive.sum()), _itemsize(var))


def _products(jaxpr: Jaxpr, weights: dict[Any, Weight | None]) -> tuple[list[Product], list[str]]:
    """Products, and the names of operations that cannot be counted.

    Args:
        jaxpr: the program.
        weights: what is known of its values; what is rearranged of it is added.
    """
    products: list[Product] = []
    uncounted: list[str] = []
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in PRODUCTS:
            products.append(_product(eqn, weights))
        else:
            _follow(eqn, weights)
        if name in UNCOUNTED:
            uncounted.append(name)
        for inner in _inside(eqn):
            some, others = _products(inner, {})
            turns = eqn.params["length"] if name == "scan" else 0
            products += [product._replace(macs=turns * product.macs) for product in some if turns]
            uncounted += others + ([name] if some and not turns else [])
    return products, uncounted


def _inside(eqn: Eqn) -> Iterator[Jaxpr]:
    for param in eqn.params.values():
        for inner in param if isinstance(param, tuple | list) else [param]:
            if isinstance(inner, ClosedJaxpr):
                yield inner.jaxpr
            elif isinstance(inner, Jaxpr):
                yield inner


def _follow(eqn: Eqn, weights: dict[Any, Weight | None]) -> None:
    """Follows a variable's living entries to where they are put, scaled or not.

    What is put together of several variables goes by the first one's path.

    Args:
        eqn: the operation.
        weights: what does not depend on the input, ``None`` where it is not a variable's entries.
    """
    if any(not isinstance(atom, Literal) and atom not in weights for atom in eqn.invars):
        return
    known = [None if isinstance(atom, Literal) else weights[atom] for atom in eqn.invars]
    found = [weight for weight in known if weight is not None]
    weights |= dict.fromkeys(eqn.outvars)
    name = eqn.primitive.name
    if name in MOVING and found and len(found) == len(known):
        moved = bind(eqn, [weight.alive for weight in found])
        for var, alive in zip(eqn.outvars, moved, strict=True):
            weights[var] = Weight(found[0].path, np.asarray(alive))
    elif name in SCALING and len(found) == 1 and (name != "div" or known[0] is not None):
        (var,) = eqn.outvars
        weights[var] = found[0] if found[0].alive.shape == shape_of(var) else None


def _product(eqn: Eqn, weights: Mapping[Any, Weight | None]) -> Product:
    known = [None if isinstance(atom, Literal) else weights.get(atom) for atom in eqn.invars]
    # The right operand is looked at first: a convolution's weights are always there.
    operand = 0 if known[1] is None and known[0] is not None and _is_dot(eqn) else 1
    weight = known[operand]
    alive = math.prod(shape_of(eqn.invars[operand])) if weight is None else int(weight.alive.sum())
    turns = _uses_in_dot(eqn, operand) if _is_dot(eqn) else _uses_in_convolution(eqn)
    return Product(None if weight is None else weight.path, alive * turns)


def _is_dot(eqn: Eqn) -> bool:
    return eqn.primitive.name == "dot_general"


def _uses_in_dot(eqn: Eqn, operand: int) -> int:
    """How often each entry of an operand is multiplied: once for what the other has of its own."""
    contracted, paired = eqn.params["dimension_numbers"]
    shared = {*contracted[1 - operand], *paired[1 - operand]}
    other = shape_of(eqn.invars[1 - operand])
    return math.prod(size for axis, size in enumerate(other) if axis not in shared)


def _uses_in_convolution(eqn: Eqn) -> int:
    """How often each weight is multiplied: once for every place of every image.

    A transposed convolution's places are those of its input, the zeros between them left out.
    """
    numbers = eqn.params["dimension_numbers"]
    transposed = any(step > 1 for step in eqn.params["lhs_dilation"])
    atom, spec = (
        (eqn.invars[0], numbers.lhs_spec) if transposed else (eqn.outvars[0], numbers.out_spec)
    )
    shape = shape_of(atom)
    return shape[spec[0]] * math.prod(shape[axis] for axis in spec[2:])


def _activations(program: Program) -> tuple[int, int]:
    """Bytes of all values that follow from the input, and the most of them at once."""
    jaxpr = program.jaxpr
    last = {
        atom: number
        for number, eqn in enumerate(jaxpr.eqns)
        for atom in eqn.invars
        if not isinstance(atom, Literal)
    }
    last |= {atom: len(jaxpr.eqns) for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    held = {var: _bytes(var) for var in program.inputs}
    total = peak = sum(held.values())
    for number, eqn in enumerate(jaxpr.eqns):
        operands = {atom for atom in eqn.invars if not isinstance(atom, Literal) and atom in held}
        if not operands:
            continue  # It follows from variables alone, and is no activation.
        before = sum(held.values())
        outs = {var: _bytes(var) for var in eqn.outvars}
        for var in operands:
            if last[var] == number:
                del held[var]
        held |= {var: size for var, size in outs.items() if var in last}
        if eqn.primitive.name in IN_PLACE:
            peak = max(peak, sum(held.values()))
        else:
            total += sum(outs.values())
            peak = max(peak, before + sum(outs.values()))
    return total, peak
