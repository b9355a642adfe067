"""Atoms: what of which axes lives or dies together.

Every entry along an axis of every value carries an atom, or several where axes were merged by a
reshape. Where an operation ties two axes together, their atoms are united, entry by entry. An atom
is removed as a whole: from each axis the entries go that carry a removed atom.
"""

from __future__ import annotations

import numpy as np

Axis = np.ndarray | None
"""Atoms along an axis of length n, int (n, factors); ``None`` for an axis that is kept whole."""

Axes = tuple[Axis, ...]
"""The axes of a value."""

WHOLE = 0
"""The atom of what is kept whole."""


class Atoms:
    """A union-find over atoms, in which being united with `WHOLE` means to be kept whole."""

    def __init__(self) -> None:
        self._parent = np.zeros(1, np.int64)
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, length: int) -> np.ndarray:
        """An axis whose entries live and die on their own, (length, 1)."""
        first = len(self._parent)
        new = np.arange(first, first + length)
        self._parent = np.concatenate([self._parent, new])
        return new[:, None]

    def find(self, atoms: np.ndarray) -> np.ndarray:
        """The representative of each atom, in the shape given."""
        roots = self._parent[atoms]
        while np.any(self._parent[roots] != roots):
            roots = self._parent[roots]
        self._parent[atoms] = roots
        return roots

    def whole(self, axis: Axis, reason: str | None = None) -> None:
        """Keeps an axis whole.

        Args:
            axis: the axis.
            reason: why, where that is worth telling the user.
        """
        if axis is None:
            return
        roots = np.unique(self.find(axis))
        if reason is not None:
            everyone = self.find(np.arange(len(self._parent)))
            for atom in np.flatnonzero(np.isin(everyone, roots[roots != WHOLE])):
                self._reasons.setdefault(int(atom), reason)
        self._parent[roots] = WHOLE

    def reason(self, axis: Axis) -> str | None:
        """Why an axis is kept whole, where that is worth telling."""
        if axis is None or not self._reasons:
            return None
        told = [self._reasons[int(atom)] for atom in axis.ravel() if int(atom) in self._reasons]
        return told[0] if told else None

    def join(self, one: Axis, other: Axis) -> Axis:
        """Ties two axes of one length together, entry by entry.

        Axes of several factors are matched factor by factor, by which of their entries are equal.
        What finds no match is united with what is left on the other side, the outermost first, and
        the rest is kept whole: coarser than need be, but never wrong.

        Returns:
            The axis that both are from now on.
        """
        told = self.reason(one) or self.reason(other)
        if one is None or other is None:
            self.whole(one, told)
            self.whole(other, told)
            return None
        ours, theirs = self._factors(one), self._factors(other)
        for pattern in ours.keys() & theirs.keys():
            self._unite(ours.pop(pattern), theirs.pop(pattern))
        if ours and theirs:
            self._unite(ours.pop(next(iter(ours))), theirs.pop(next(iter(theirs))))
        for rest in [*ours.values(), *theirs.values()]:
            self.whole(rest[:, None], told)
        return one

    def varying(self, axis: np.ndarray) -> list[np.ndarray]:
        """The factors of an axis, each of its length, that are not kept whole throughout."""
        return [factor for factor in self.find(axis).T if np.any(factor != WHOLE)]

    def _factors(self, axis: np.ndarray) -> dict[bytes, np.ndarray]:
        """Factors by which of their entries are equal."""
        factors: dict[bytes, np.ndarray] = {}
        for factor in self.varying(axis):
            _, first, inverse = np.unique(factor, return_index=True, return_inverse=True)
            pattern = first[inverse].tobytes()
            if pattern in factors:
                self._unite(factors[pattern], factor)
            factors[pattern] = factor
        return factors

    def _unite(self, one: np.ndarray, other: np.ndarray) -> None:
        pairs = np.unique(np.stack([self.find(one), self.find(other)], 1), axis=0)
        for a, b in pairs:
            a, b = sorted((self._root(a), self._root(b)))
            self._parent[b] = a

    def _root(self, atom: int) -> int:
        while self._parent[atom] != atom:
            atom = self._parent[atom]
        return atom


def stacked(factors: list[np.ndarray]) -> Axis:
    """The axis of these factors, each of its length; ``None`` where there are none."""
    return np.stack(factors, 1) if factors else None


def end_to_end(axes: list[tuple[Axis, int]]) -> Axis:
    """Axes of the given lengths one after the other."""
    if all(axis is None for axis, _ in axes):
        return None
    factors = max(axis.shape[1] for axis, _ in axes if axis is not None)
    padded = [np.full((length, factors), WHOLE) for _, length in axes]
    for target, (axis, _) in zip(padded, axes, strict=True):
        if axis is not None:
            target[:, : axis.shape[1]] = axis
    return np.concatenate(padded)
