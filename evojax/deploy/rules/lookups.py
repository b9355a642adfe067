"""Lookups: embeddings, and slices at places that are computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from evojax.deploy.labels import Atoms, Axes, Axis
from evojax.deploy.rules.rule import Eqn, Fact, Joined, Kept, Rule, shape_of, smaller


def _passing(eqn: Eqn) -> dict[int, int]:
    """Operand axes that reach the output whole, and where: none is looked up along them."""
    shape = shape_of(eqn.invars[0])
    sizes = eqn.params["slice_sizes"]
    if eqn.primitive.name == "dynamic_slice":
        return {i: i for i, size in enumerate(sizes) if size == shape[i]}
    numbers = eqn.params["dimension_numbers"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    offsets = [i for i in range(len(shape)) if i not in gone]
    return {
        i: out
        for i, out in zip(offsets, numbers.offset_dims, strict=True)
        if sizes[i] == shape[i] and i not in numbers.start_index_map
    }


def _join(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    passing = _passing(eqn)
    for i, axis in enumerate(ins[0]):
        if i not in passing:
            atoms.whole(axis, f"{eqn.primitive.name} looks up entries along it")
    for axes in ins[1:]:
        for axis in axes:
            atoms.whole(axis)
    out: list[Axis] = [None] * len(shape_of(eqn.outvars[0]))
    for i, target in passing.items():
        out[target] = ins[0][i]
    return Joined([tuple(out)])


def _crossed(marks: jax.Array, along: list[int], shape: tuple[int, ...], to: list[int]) -> Any:  # noqa: ANN401
    """Marks anywhere else, at each place along some axes, in another shape."""
    others = tuple(i for i in range(marks.ndim) if i not in along)
    line = jnp.any(marks, others)
    # `any` leaves the axes in ascending order.
    order = sorted(range(len(along)), key=lambda i: along[i])
    return jax.lax.broadcast_in_dim(line, shape, [to[i] for i in order])


def _spread(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    """Nothing but a 0 throughout is sure to be found."""
    passing = _passing(eqn)
    out = shape_of(eqn.outvars[0])
    return [_crossed(~facts[0].zero, list(passing), out, list(passing.values()))]


def _reads(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    passing = _passing(eqn)
    shape = shape_of(eqn.invars[0])
    table = _crossed(reads[0], list(passing.values()), shape, list(passing))
    anywhere = jnp.any(reads[0])
    return [table, *(jnp.broadcast_to(anywhere, shape_of(x)) for x in eqn.invars[1:])]


def _shrink(eqn: Eqn, ins: list[Kept], outs: list[Kept]) -> dict[str, Any]:
    sizes = list(eqn.params["slice_sizes"])
    passing = _passing(eqn)
    left = smaller(shape_of(eqn.invars[0]), ins[0])
    return {"slice_sizes": tuple(left[i] if i in passing else n for i, n in enumerate(sizes))}


_LOOKUP = Rule(_join, _spread, _reads, _shrink)

LOOKUPS = {"gather": _LOOKUP, "dynamic_slice": _LOOKUP}
