"""Rearrangements: every entry of the output is an entry of an operand, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from evojax.deploy.labels import Atoms, Axes, Axis, end_to_end
from evojax.deploy.rules.reshape import join_reshape
from evojax.deploy.rules.rule import (
    Eqn,
    Fact,
    Joined,
    Kept,
    Rule,
    marked,
    pulled,
    shape_of,
    signal,
    smaller,
)
from evojax.deploy.trace import bind


def _join_broadcast(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """New axes are free: what is repeated along them can be repeated less often."""
    shape = shape_of(eqn.outvars[0])
    out: list[Axis] = [atoms.fresh(n) if isinstance(n, int) else None for n in shape]
    for source, target in enumerate(eqn.params["broadcast_dimensions"]):
        if shape_of(eqn.invars[0])[source] == shape[target]:
            out[target] = ins[0][source]
        else:
            atoms.whole(ins[0][source])
    return Joined([tuple(out)])


def _join_transpose(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    return Joined([tuple(ins[0][i] for i in eqn.params["permutation"])])


def _join_squeeze(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    gone = eqn.params["dimensions"]
    for i in gone:
        atoms.whole(ins[0][i])
    return Joined([tuple(axis for i, axis in enumerate(ins[0]) if i not in gone)])


def _join_rev(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    turned = eqn.params["dimensions"]
    out = [
        axis[::-1] if i in turned and axis is not None else axis for i, axis in enumerate(ins[0])
    ]
    return Joined([tuple(out)])


def _strides(eqn: Eqn) -> tuple[int, ...]:
    return eqn.params["strides"] or (1,) * len(shape_of(eqn.invars[0]))


def _join_slice(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    out: list[Axis] = []
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    for axis, start, limit, stride in zip(ins[0], starts, limits, _strides(eqn), strict=True):
        if stride != 1:
            atoms.whole(axis, "slice takes every second entry, or fewer")
        out.append(None if axis is None or stride != 1 else axis[start:limit])
    return Joined([tuple(out)])


def _shrink_slice(eqn: Eqn, ins: list[Kept], outs: list[Kept]) -> dict[str, Any]:
    """Starts and limits are counted in what is kept."""
    starts, limits = list(eqn.params["start_indices"]), list(eqn.params["limit_indices"])
    for i, keep in enumerate(ins[0]):
        if keep is not None:
            starts[i], limits[i] = int(keep[: starts[i]].sum()), int(keep[: limits[i]].sum())
    return {"start_indices": tuple(starts), "limit_indices": tuple(limits)}


def _join_pad(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """What is put before and after is free; an axis with gaps is kept whole."""
    out: list[Axis] = []
    for axis, (low, high, gap) in zip(ins[0], eqn.params["padding_config"], strict=True):
        if axis is None or gap:
            atoms.whole(axis, "pad puts gaps between its entries")
            out.append(None)
            continue
        left = axis[max(-low, 0) : len(axis) - max(-high, 0)]
        ends = [(atoms.fresh(max(n, 0)), max(n, 0)) for n in (low, high)]
        out.append(end_to_end([ends[0], (left, len(left)), ends[1]]))
    return Joined([tuple(out)])


def _entries(keep: np.ndarray | None, length: int) -> np.ndarray:
    return np.ones(length, bool) if keep is None else keep


def _shrink_pad(eqn: Eqn, ins: list[Kept], outs: list[Kept]) -> dict[str, Any]:
    config = list(eqn.params["padding_config"])
    sizes = (shape_of(eqn.invars[0]), shape_of(eqn.outvars[0]))
    for i, (low, high, gap) in enumerate(config):
        if ins[0][i] is None and outs[0][i] is None:
            continue
        before, after = _entries(ins[0][i], sizes[0][i]), _entries(outs[0][i], sizes[1][i])
        low = after[:low].sum() if low > 0 else -before[:-low].sum()
        end, start = len(after) - high, len(before) + high
        high = after[end:].sum() if high > 0 else -before[start:].sum()
        config[i] = (int(low), int(high), gap)
    return {"padding_config": tuple(config)}


def _join_concatenate(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    along = eqn.params["dimension"]
    out = list(ins[0])
    for axes in ins[1:]:
        for i, axis in enumerate(axes):
            if i != along:
                out[i] = atoms.join(out[i], axis)
    lengths = [shape_of(atom)[along] for atom in eqn.invars]
    parts = [(axes[along], n) for axes, n in zip(ins, lengths, strict=True)]
    out[along] = end_to_end(parts)
    return Joined([tuple(out)])


def _join_split(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    along = eqn.params["axis"]
    axis, outs, start = ins[0][along], [], 0
    for size in eqn.params["sizes"]:
        part = None if axis is None else axis[start : start + size]
        outs.append((*ins[0][:along], part, *ins[0][along + 1 :]))
        start += size
    return Joined(outs)


def _join_stack(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    out = list(ins[0])
    for axes in ins[1:]:
        out = [atoms.join(one, other) for one, other in zip(out, axes, strict=True)]
    out.insert(eqn.params["axis"], None)
    return Joined([tuple(out)])


def _join_unstack(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    along = eqn.params["axis"]
    atoms.whole(ins[0][along])
    return Joined([(*ins[0][:along], *ins[0][along + 1 :])] * len(eqn.outvars))


def _join_tile(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    pairs = zip(ins[0], eqn.params["reps"], strict=True)
    return Joined([tuple(axis if axis is None else np.tile(axis, (n, 1)) for axis, n in pairs)])


def _shrink_split(eqn: Eqn, ins: list[Kept], outs: list[Kept]) -> dict[str, Any]:
    along = eqn.params["axis"]
    parts = [
        size if kept[along] is None else int(np.sum(kept[along]))
        for size, kept in zip(eqn.params["sizes"], outs, strict=True)
    ]
    return {"sizes": tuple(parts)}


def _join_pass(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """Every operand comes out as it is."""
    return Joined(list(ins))


def _spread_pass(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    return [fact.varies for fact in facts]


def _reads_pass(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    return reads


def _spread(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    return [marked(out) for out in bind(eqn, [signal(fact.varies) for fact in facts])]


def _reads(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    operands = [signal(fact.varies) for fact in facts]

    def move(*args: jax.Array) -> Any:  # noqa: ANN401 (an array, or a list of them)
        outs = bind(eqn, args)
        return outs if eqn.primitive.multiple_results else outs[0]

    return pulled(move, operands, reads)


def _sized(name: str) -> Callable[[Eqn, list[Kept], list[Kept]], dict[str, Any]]:
    """Shrinks the parameter of this name, which is the output's shape."""
    return lambda eqn, ins, outs: {name: smaller(shape_of(eqn.outvars[0]), outs[0])}


_PASS = Rule(_join_pass, _spread_pass, _reads_pass)

MOVEMENT = {
    "optimization_barrier": _PASS,
    "device_put": _PASS,
    "broadcast_in_dim": Rule(_join_broadcast, _spread, _reads, _sized("shape")),
    "reshape": Rule(join_reshape, _spread, _reads, _sized("new_sizes")),
    "transpose": Rule(_join_transpose, _spread, _reads),
    "squeeze": Rule(_join_squeeze, _spread, _reads),
    "rev": Rule(_join_rev, _spread, _reads),
    "slice": Rule(_join_slice, _spread, _reads, _shrink_slice),
    "pad": Rule(_join_pad, _spread, _reads, _shrink_pad),
    "concatenate": Rule(_join_concatenate, _spread, _reads),
    "stack": Rule(_join_stack, _spread, _reads),
    "unstack": Rule(_join_unstack, _spread, _reads),
    "tile": Rule(_join_tile, _spread, _reads),
    "split": Rule(_join_split, _spread, _reads, _shrink_split),
}
