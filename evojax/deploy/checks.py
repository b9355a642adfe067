"""Bad input, in words and before any work; and whether what came out computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from evojax.deploy.rules.rule import dtype_of
from evojax.deploy.trace import Apply, Program, trace
from evojax.genetics.trees import flatten

PyTree = Any


class InconsistentError(RuntimeError):
    """What was compacted computes something else: a defect of evojax, not of its input."""


def check_round_to(round_to: int) -> None:
    """Checks that widths can be multiples of it.

    Raises:
        ValueError: if it is no whole number of at least 1.
    """
    whole = isinstance(round_to, int | np.integer) and not isinstance(round_to, bool)
    if not whole or round_to < 1:
        raise ValueError(f"round_to must be a whole number of at least 1; got {round_to!r}")


def arrays(variables: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
    """The variables and the example input as arrays of JAX.

    Raises:
        ValueError: if a leaf is no array, such as a text, or the shape of one.
    """

    def converted(kind: str, tree: PyTree) -> PyTree:
        try:
            return jax.tree.map(jnp.asarray, tree)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected arrays of numbers in the {kind}: {error}") from error

    return converted("variables", variables), converted("example input", x)


def traced(apply: Apply, variables: PyTree, x: PyTree) -> Program:
    """The program, or in words why there is none.

    Raises:
        ValueError: if the example input is empty, or the function rejects it or the variables.
    """
    if any(0 in np.shape(leaf) for leaf in jax.tree.leaves(x)):
        raise ValueError(f"the example input is empty: {_shapes(x)}; give it at least one entry")
    try:
        program = trace(apply, variables, x)
    except Exception as error:
        raise ValueError(
            f"apply rejects {_culprit(error)}: {error}\nIt was called with variables "
            f"{_shapes(variables)} and the example input {_shapes(x)}."
        ) from error
    if not program.jaxpr.outvars:
        raise ValueError("apply returns no array: expected what the network gives out")
    return program


def _culprit(error: Exception) -> str:
    """Flax tells variables that do not fit from an input that does not, by its error's name."""
    if isinstance(error, KeyError | AttributeError) or type(error).__name__.startswith("Scope"):
        return "the variables, which are of another network"
    return "the example input, or the variables with it"


def _shapes(tree: PyTree) -> str:
    leaves, _ = flatten(tree)
    told = [f"{path} {jnp.shape(leaf)}".strip() for path, leaf in leaves.items()]
    return ", ".join(told[:6] + ["..."] * (len(told) > 6)) or "(none)"


def matched(variables: PyTree, masks: PyTree) -> tuple[list[Any], list[int | None]]:
    """Each variable's mask, and each mask's variable.

    Args:
        variables: as the function takes them.
        masks: PyTree of bool arrays, ``None`` where nothing is pruned, like the variables or like
            ``variables["params"]``; paths that it lacks are not pruned.

    Returns:
        The masks by leaf of the variables, and the leaf's number by leaf of the masks.

    Raises:
        ValueError: if a mask fits no variable; the message names its path.
    """
    paths, _ = flatten(variables)
    marks, _ = flatten(masks)
    leaves = {path: leaf for path, leaf in paths.items() if leaf is not None}
    inner = isinstance(variables, Mapping) and "params" in variables and not _has_params(masks)
    numbers = {path: number for number, path in enumerate(leaves)}
    fitted: list[Any] = [None] * len(leaves)
    places: list[int | None] = []
    for path, mask in marks.items():
        full = f"params/{path}".rstrip("/") if inner else path
        if mask is not None:
            _check_mask(full, mask, leaves)
            fitted[numbers[full]] = mask
        places.append(numbers.get(full))
    return fitted, places


def _has_params(masks: PyTree) -> bool:
    return isinstance(masks, Mapping) and "params" in masks


def _check_mask(path: str, mask: Any, leaves: Mapping[str, Any]) -> None:  # noqa: ANN401
    if path not in leaves:
        raise ValueError(
            f"the masks are of another network: {path} of shape {jnp.shape(mask)} is none of the "
            f"variables, which are {', '.join(list(leaves)[:8])}"
        )
    shape, found = jnp.shape(leaves[path]), np.asarray(mask)
    if found.shape != shape or found.dtype != bool:
        raise ValueError(
            f"the masks are of another network: expected bool of shape {shape} for {path}; got "
            f"{found.dtype} of shape {found.shape}"
        )


def cut_off(program: Program, passes: Sequence[Any]) -> str:
    """In words, where the signal ends in a network whose outputs do not depend on the input."""
    origins: dict[Var, list[str]] = dict(
        zip(program.variables, ([path] for path in program.paths), strict=True)
    )
    varies = dict.fromkeys(program.inputs, True)
    ends: list[str] = []
    for eqn, passed in zip(program.jaxpr.eqns, passes, strict=True):
        operands = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
        names = [name for var in operands for name in origins.get(var, [])]
        alive = any(varies.get(var, False) for var in operands)
        if alive and not passed:
            ends += names or [eqn.primitive.name]
        for out in eqn.outvars:
            varies[out] = bool(passed)
            origins[out] = [] if alive else names
    where = ", ".join(dict.fromkeys(ends)) or "apply does not use its input"
    return f"every path from input to output is dead, so nothing would be left; cut at: {where}"


def check_same(
    original: Callable[[PyTree], PyTree],
    other: Callable[[PyTree], PyTree],
    x: PyTree,
    what: str = "the compacted network",
) -> None:
    """Compares two networks, on the example input and on random ones.

    Rounding is that of the coarsest type that the original computes with: logits in float32 may
    come from layers in bfloat16.

    Args:
        original: the function to be the same as; it is compiled.
        other: any callable, which takes and gives arrays as the original does.
        x: an example input.
        what: the other's name.

    Raises:
        InconsistentError: if an output differs by more than rounding.
    """
    original = jax.jit(original)
    with jax.default_matmul_precision("highest"):
        eps = max(map(_eps, _dtypes(original.trace(x).jaxpr.jaxpr)), default=0.0)
        for example in (x, random_like(x)):
            expected, found = (jax.tree.leaves(run(example)) for run in (original, other))
            for one, another in zip(expected, found, strict=True):
                check_close(np.asarray(one), np.asarray(another), what, eps)


def _dtypes(jaxpr: Jaxpr) -> Iterator[Any]:
    """Of all that a program computes, inner programs included."""
    for eqn in jaxpr.eqns:
        yield from (dtype_of(var) for var in eqn.outvars)
        for inner in jax.tree.leaves(eqn.params):
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield from _dtypes(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def _eps(dtype: Any) -> float:  # noqa: ANN401 (NumPy's or JAX's)
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.inexact) else 0.0


def check_close(one: np.ndarray, other: np.ndarray, what: str, eps: float = 0.0) -> None:
    """Compares an output with that of the network it is to be the same as.

    Args:
        one: the original's.
        other: the network's.
        what: the network's name.
        eps: of the coarsest type computed with, if it is coarser than the output's.

    Raises:
        InconsistentError: if it differs by more than rounding.
    """
    exact = not jnp.issubdtype(one.dtype, jnp.inexact)
    if one.shape == other.shape and one.dtype == other.dtype:
        if exact and np.array_equal(one, other):
            return
        if not exact and _close(one, other, max(eps, _eps(one.dtype))):
            return
    raise InconsistentError(
        f"{what} does not compute what the original does: a defect of evojax. "
        f"Please report it with the network. Outputs: {one.dtype} of shape {one.shape} and "
        f"{other.dtype} of shape {other.shape}."
    )


def _close(one: np.ndarray, other: np.ndarray, eps: float) -> bool:
    tolerance = eps**0.5
    kind = np.complex128 if np.iscomplexobj(one) else np.float64
    one, other = one.astype(kind), other.astype(kind)
    finite = np.abs(one[np.isfinite(one)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(other, one, rtol=0, atol=tolerance * scale, equal_nan=True))


def random_like(x: PyTree) -> PyTree:
    """Standard normal numbers for floating-point leaves, other integers of those that are there."""
    generator = np.random.default_rng(0)

    def draw(leaf: jax.Array) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            numbers = generator.standard_normal(leaf.shape)
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                numbers = numbers + 1j * generator.standard_normal(leaf.shape)
            return jnp.asarray(numbers, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.size:
            return jnp.asarray(generator.choice(np.ravel(leaf), leaf.shape), leaf.dtype)
        return leaf

    return jax.tree.map(draw, x)
