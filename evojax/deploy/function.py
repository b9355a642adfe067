"""The function of a compacted network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax.deploy.interpreter import evaluate
from evojax.deploy.rules.rule import shape_of, smaller
from evojax.deploy.topology import Cut, cut, topology
from evojax.deploy.trace import Apply, Program, trace

PyTree = Any


def function(
    apply: Apply,
    variables: PyTree,
    example: PyTree,
    removed: np.ndarray,
    constants: Mapping[int, np.ndarray],
    unread: Mapping[int, float],
) -> Apply:
    """The function over smaller variables.

    It traces the original at each new shape of the input, for shapes are written into programs,
    and computes with what is kept.

    Args:
        apply: the original.
        variables: the original's, of which only shapes matter.
        example: an input, of which only shapes matter.
        removed: which atoms of variables are removed.
        constants: what they add to sums.
        unread: what stands in for operations that nobody reads, see `Cut`.

    Raises:
        ValueError: if the input differs from the example in more than its first axis, if the
            function computes something else for it, or if variables are not the compacted ones.
    """
    whole, like = _shapes(variables), _shapes(example)
    first = cut(topology(trace(apply, whole, like)), removed, constants, unread)
    cuts: dict[Any, Cut] = {}

    def cut_for(variables: PyTree, x: PyTree) -> Cut:
        leaves, structure = jax.tree.flatten(x)
        types = tuple(map(_type, jax.tree.leaves(variables)))
        key = (structure, types, *((leaf.shape, *_type(leaf)) for leaf in leaves))
        if key not in cuts:
            _check_input(x, like)
            program = trace(apply, _of_types(whole, types), _shapes(x))
            _check_arithmetic(program, first.topology.program)
            cuts[key] = cut(topology(program), removed, constants, unread)
        return cuts[key]

    def compacted(variables: PyTree, x: PyTree) -> PyTree:
        variables, x = (jax.tree.map(jnp.asarray, tree) for tree in (variables, x))
        _check_variables(variables, whole, first)
        plan = cut_for(variables, x)
        outs = evaluate(plan, jax.tree.leaves(variables), jax.tree.leaves(x))
        return jax.tree.unflatten(plan.topology.program.output, outs)

    return compacted


def _type(leaf: Any) -> tuple[Any, bool]:  # noqa: ANN401 (an array, or its shape)
    """Its dtype, and whether it gives way to others', as Python's numbers do."""
    return leaf.dtype, bool(getattr(leaf, "weak_type", False))


def _shaped(leaf: Any, dtype: Any, weak: bool) -> jax.ShapeDtypeStruct:  # noqa: ANN401
    return jax.ShapeDtypeStruct(leaf.shape, dtype, weak_type=weak)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: _shaped(leaf, *_type(leaf)), tree)


def _structure(tree: PyTree) -> Any:  # noqa: ANN401
    return jax.tree.structure(tree)


def _of_types(tree: PyTree, types: tuple[tuple[Any, bool], ...]) -> PyTree:
    leaves, structure = jax.tree.flatten(tree)
    pairs = zip(leaves, types, strict=True)
    return jax.tree.unflatten(structure, [_shaped(leaf, *one) for leaf, one in pairs])


def _check_variables(variables: PyTree, whole: PyTree, plan: Cut) -> None:
    program = plan.topology.program
    expected = [smaller(shape_of(var), plan.kept(var)) for var in program.variables]
    found = [leaf.shape for leaf in jax.tree.leaves(variables)]
    if _structure(variables) == _structure(whole) and found == expected:
        return
    wrong = [
        f"{path}: expected {shape}, got {other}"
        for path, shape, other in zip(program.paths, expected, found, strict=False)
        if shape != other
    ]
    raise ValueError(
        "expected the variables that compact returned, or others of their structure and shapes; "
        f"{', '.join(wrong) or 'their structure differs'}"
    )


def _check_input(x: PyTree, like: PyTree) -> None:
    leaves, expected = jax.tree.leaves(x), jax.tree.leaves(like)
    same = _structure(x) == _structure(like) and all(
        leaf.ndim == other.ndim and leaf.shape[1:] == other.shape[1:]
        for leaf, other in zip(leaves, expected, strict=True)
    )
    if not same:
        raise ValueError(
            "the input must have the example's structure, and its shapes but for the first axis: "
            f"expected {[leaf.shape for leaf in expected]}, got {[leaf.shape for leaf in leaves]}"
        )


def _check_arithmetic(program: Program, first: Program) -> None:
    now, then = ([eqn.primitive.name for eqn in each.arithmetic] for each in (program, first))
    if now != then:
        raise ValueError(
            "for an input of this shape the function computes something else than for the example "
            "input: compact it with an example of this shape"
        )
