"""Which channels go, whatever the number of inputs that the network is called with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from evojax.deploy.folding import constants
from evojax.deploy.liveness import Liveness, liveness, missed, unread
from evojax.deploy.topology import Cut, Topology, cut, topology
from evojax.deploy.trace import Apply, Program, trace

PyTree = Any


class View(NamedTuple):
    """A network as it is for inputs of one size.

    Attributes:
        topology: of its program.
        x: an input of this size.
    """

    topology: Topology
    x: PyTree

    def liveness(self, variables: list[Any]) -> Liveness:
        """What can influence the output."""
        return liveness(self.topology, variables, jax.tree.leaves(self.x))

    def constants(
        self, removed: np.ndarray, found: Liveness, variables: list[Any]
    ) -> dict[int, np.ndarray]:
        """What removed channels add to sums."""
        whole = cut(self.topology, removed)
        return constants(whole, found, variables, jax.tree.leaves(self.x))


def views(apply: Apply, variables: PyTree, x: PyTree, program: Program) -> list[View]:
    """The network for the example, and for one of another length of the first axis.

    What a channel adds may depend on that length, as in a sum over it, and so may which channels
    are tied together. Where the function takes no other length there is one view.

    Args:
        apply: the function.
        variables: its variables.
        x: the example.
        program: its trace for the example.
    """
    seen = [View(topology(program), x)]
    names = [eqn.primitive.name for eqn in program.arithmetic]
    for other in _resized(x):
        try:
            again = trace(apply, variables, other)
        except Exception:  # Whatever apply raises: it is not made for this length.
            continue
        if [eqn.primitive.name for eqn in again.arithmetic] == names:
            return [*seen, View(topology(again), other)]
    return seen


def _resized(x: PyTree) -> list[PyTree]:
    """Inputs with another first axis; leaves in which it is not that of the first stay."""
    lengths = [leaf.shape[0] for leaf in jax.tree.leaves(x) if leaf.ndim]
    if not lengths:
        return []

    def times(leaf: jax.Array, number: int) -> jax.Array:
        if not leaf.ndim or leaf.shape[0] != lengths[0]:
            return leaf
        return leaf[:1] if number == 0 else jnp.concatenate([leaf] * number)

    numbers = (3, 2) if lengths[0] == 1 else (0, 2)
    return [jax.tree.map(lambda leaf, n=n: times(leaf, n), x) for n in numbers]


class Removal(NamedTuple):
    """What is decided.

    Attributes:
        cut: of the example's view.
        removed: which of the variables' atoms go, bool (prunable + 1,).
        constants: what they add to sums, see `Cut`.
        unread: what stands in for operations that nobody reads, see `Cut`.
    """

    cut: Cut
    removed: np.ndarray
    constants: Mapping[int, np.ndarray]
    unread: Mapping[int, float]


def removal(seen: Sequence[View], found: Liveness, variables: list[Any], round_to: int) -> Removal:
    """Decides what goes: what is missed for no size of the input.

    A channel whose constant differs between sizes stays where it is read.

    Args:
        seen: the network for inputs of several sizes.
        found: what influences the output, in the first view.
        variables: leaves, pruned weights 0.
        round_to: widths are kept at multiples of it.
    """
    first, *others = seen
    kept: set[int] = set()
    # The others are looked into, which takes time, only where they might differ.
    looked = [found]
    if any(differ(first.topology.program, view.topology.program) for view in others):
        looked += [view.liveness(variables) for view in others]
    while True:
        gone = [~missed(v.topology, each, kept) for v, each in zip(seen, looked, strict=False)]
        removed = rounded(seen, closed(seen, np.all(gone, axis=0)), round_to)
        added = first.constants(removed, found, variables)
        if added and len(looked) < len(seen):
            looked += [view.liveness(variables) for view in others]
        differing: set[int] = set()
        for view, each in zip(others, looked[1:], strict=False):
            differing |= _differing(added, view.constants(removed, each, variables))
        if differing <= kept:
            whole = cut(first.topology, removed)
            return Removal(whole, removed, added, unread(first.topology, found))
        kept |= differing


def differ(one: Program, other: Program) -> bool:
    """Whether numbers that come from neither variables nor input differ between two sizes."""
    consts = zip(one.consts, other.consts, strict=False)
    return (
        _made(one) != _made(other)
        or len(one.consts) != len(other.consts)
        or not all(this is that or _equal(this, that) for this, that in consts)
    )


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 (NumPy or JAX arrays)
    keys = any(jnp.issubdtype(each.dtype, jax.dtypes.extended) for each in (one, other))
    return not keys and np.array_equal(one, other)


def _made(program: Program) -> list[str]:
    """Numbers that are written into a program, and how it makes others of them."""
    known: set[Any] = set(program.jaxpr.constvars)
    told = []
    for eqn in program.jaxpr.eqns:
        literals = [atom.val for atom in eqn.invars if isinstance(atom, Literal)]
        if all(isinstance(atom, Literal) or atom in known for atom in eqn.invars):
            known.update(eqn.outvars)
            told.append(f"{eqn.primitive} {eqn.params} {literals}")
        elif literals:
            told.append(str(literals))
    return told


def _differing(one: Mapping[int, np.ndarray], other: Mapping[int, np.ndarray]) -> set[int]:
    """Operations for which what is added is not the same."""
    return {
        number
        for number in one.keys() | other.keys()
        if number not in one
        or number not in other
        or one[number].shape != other[number].shape
        or not np.allclose(
            one[number], other[number], rtol=0, atol=1e-5 * np.abs(one[number]).max(initial=0)
        )
    }


def closed(seen: Collection[View], removed: np.ndarray) -> np.ndarray:
    """Without what some view ties to what stays.

    Args:
        seen: the network for inputs of several sizes.
        removed: which of the variables' atoms go, bool (prunable + 1,).
    """
    removed, before = removed.copy(), None
    while before is None or np.any(before != removed):
        before = removed.copy()
        for view in seen:
            roots = view.topology.atoms.find(np.arange(len(removed)))
            removed &= ~np.isin(roots, roots[~removed])
    return removed


def rounded(seen: Sequence[View], removed: np.ndarray, round_to: int) -> np.ndarray:
    """Leaves in place some of what could go, so that widths are multiples of `round_to`.

    Args:
        seen: the network for inputs of several sizes.
        removed: which of the variables' atoms could go, bool (prunable + 1,).
        round_to: at least 1.

    Returns:
        Which of them go.
    """
    channels = seen[0].topology
    roots = channels.atoms.find(np.arange(len(removed)))
    axes = [
        axis[:, 0]
        for var in channels.program.variables
        for axis in channels.axes[var]
        if axis is not None
    ]
    settled = round_to == 1
    while not settled:
        settled = True
        for axis in axes:
            gone = axis[removed[axis]]
            if len(gone) and (len(axis) - len(gone)) % round_to:
                removed[roots == roots[gone[0]]] = False
                removed = closed(seen, removed)
                settled = False
    return removed
