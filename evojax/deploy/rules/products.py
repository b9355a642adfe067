"""Matrix products and convolutions: sums over channels of products of two operands."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax.deploy.labels import Atoms, Axes, Axis
from evojax.deploy.rules.rule import (
    Eqn,
    Fact,
    Joined,
    Kept,
    Rule,
    Sink,
    marked,
    pulled,
    shape_of,
    signal,
)
from evojax.deploy.trace import bind


def _join_dot(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """Output axes: batch, then what is left of the left operand, then of the right one."""
    (contracted, paired) = eqn.params["dimension_numbers"]
    left, right = ins
    for one, other in zip(*contracted, strict=True):
        atoms.join(left[one], right[other])
    out = [atoms.join(left[one], right[other]) for one, other in zip(*paired, strict=True)]
    for axes, ended, batched in zip(ins, contracted, paired, strict=True):
        out += [axis for i, axis in enumerate(axes) if i not in (*ended, *batched)]
    return Joined([tuple(out)], [Sink(0, *axes) for axes in zip(*contracted, strict=True)])


def _join_conv(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """Channels pass as in a matrix product; places are kept whole."""
    numbers = eqn.params["dimension_numbers"]
    image, kernel = ins
    (n, c, *places), (o, i, *window) = numbers.lhs_spec, numbers.rhs_spec
    for axis in [*(image[p] for p in places), *(kernel[w] for w in window)]:
        atoms.whole(axis)
    groups = eqn.params["feature_group_count"]
    sinks: list[Sink] = []
    if eqn.params["batch_group_count"] != 1:
        for axis in (image[n], image[c], kernel[i], kernel[o]):
            atoms.whole(axis, "a convolution in groups of the batch is not understood")
    elif groups == 1:
        atoms.join(image[c], kernel[i])
        sinks.append(Sink(0, c, i))
    else:
        _join_groups(atoms, image[c], kernel[i], kernel[o], groups)
    out: list[Axis] = [None] * len(image)
    out[numbers.out_spec[0]], out[numbers.out_spec[1]] = image[n], kernel[o]
    return Joined([tuple(out)], sinks)


def _join_groups(atoms: Atoms, image: Axis, inner: Axis, outer: Axis, groups: int) -> None:
    """A group lives or dies as a whole, with its inputs and outputs."""
    several = inner is not None and len(inner) > 1
    why = "groups of a convolution stay of one size, so only whole groups go"
    atoms.whole(inner, why if several else None)
    if image is None or outer is None:
        atoms.whole(image)
        atoms.whole(outer)
        return
    group = atoms.fresh(groups)
    for axis in (image, outer):
        atoms.join(axis, np.repeat(group, len(axis) // groups, axis=0))


def _shrink_conv(eqn: Eqn, ins: list[Kept], outs: list[Kept]) -> dict[str, Any]:
    """As many groups as there are inputs left."""
    spec = eqn.params["dimension_numbers"].lhs_spec
    kept, groups = ins[0][spec[1]], eqn.params["feature_group_count"]
    if groups == 1 or kept is None:
        return {}
    size = len(kept) // groups
    return {"feature_group_count": int(kept.sum()) // size}


def _has_no_border(eqn: Eqn) -> bool:
    """Without padding a constant image stays constant; with it, its border would be an array."""
    return all(tuple(pad) == (0, 0) for pad in eqn.params["padding"])


def _product(eqn: Eqn, left: jax.Array, right: jax.Array) -> jax.Array:
    return bind(eqn, [left, right], preferred_element_type=jnp.dtype("float32"))[0]


def _spread(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    """A product depends on the input if a factor does and the other is not 0."""
    left, right = facts
    total = jnp.zeros(shape_of(eqn.outvars[0]), jnp.float32)
    if left.unknown is not None:
        total += _product(eqn, signal(left.unknown), signal(~right.zero))
    if right.unknown is not None:
        total += _product(eqn, signal(~left.zero), signal(right.unknown))
    return [marked(total)]


def _reads(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    """A factor is read where the other is not 0 and their product is read."""
    living = [signal(~fact.zero) for fact in facts]
    return pulled(lambda left, right: _product(eqn, left, right), living, reads)


PRODUCTS = {
    "dot_general": Rule(_join_dot, _spread, _reads, sums=True),
    "conv_general_dilated": Rule(_join_conv, _spread, _reads, _shrink_conv, True, _has_no_border),
}
