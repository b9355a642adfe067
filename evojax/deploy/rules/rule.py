"""What a rule is, and what rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from evojax.deploy.labels import Atoms, Axes

Eqn = JaxprEqn
Shape = tuple[int, ...]
Kept = tuple[np.ndarray | None, ...]
"""Per axis of a value, which entries stay, bool; ``None`` where all do."""


class Fact(NamedTuple):
    """What is known of a value.

    Attributes:
        value: for the example input.
        unknown: bool, where it depends on the input; ``None`` if nowhere.
    """

    value: jax.Array
    unknown: jax.Array | None

    @property
    def varies(self) -> jax.Array:
        """Where it depends on the input."""
        if self.unknown is None:
            return jnp.zeros(self.value.shape, bool)
        return self.unknown

    @property
    def zero(self) -> jax.Array:
        """Where it is 0 for every input."""
        if not jnp.issubdtype(self.value.dtype, jnp.number) and self.value.dtype != bool:
            return jnp.zeros(self.value.shape, bool)
        return ~self.varies & (self.value == jnp.zeros((), self.value.dtype))


class Sink(NamedTuple):
    """An axis that ends in an operation: what is removed from it must not be missed there."""

    operand: int
    axis: int
    other: int | None = None
    """In a product, the axis of the other operand that ends with it."""


class Joined(NamedTuple):
    """What a rule says about axes: those of the outputs, and which of the operands' end here."""

    outs: list[Axes]
    sinks: list[Sink] = []


class Rule(NamedTuple):
    """What a kind of primitive does with channels.

    Attributes:
        join: ``(atoms, eqn, axes of operands) -> Joined``, ties together what lives or dies
            together.
        spread: ``(eqn, facts of operands) -> per output, where it depends on the input``, bool.
            Called only where some operand does.
        reads: ``(eqn, facts, where outputs are read) -> per operand, where it is read``, bool.
        shrink: ``(eqn, kept of operands, kept of outputs) -> parameters to change``.
        sums: whether sinks are sums, to which a 0 adds nothing.
        folds: ``(eqn) -> bool``, whether what a constant adds to such a sum is worth adding as one.
    """

    join: Callable[[Atoms, Eqn, list[Axes]], Joined]
    spread: Callable[[Eqn, list[Fact]], list[jax.Array]]
    reads: Callable[[Eqn, list[Fact], list[jax.Array]], list[jax.Array]]
    shrink: Callable[[Eqn, list[Kept], list[Kept]], dict[str, Any]] = lambda eqn, ins, outs: {}
    sums: bool = False
    folds: Callable[[Eqn], bool] = lambda eqn: True


def dtype_of(atom: Any) -> Any:  # noqa: ANN401 (Var or Literal)
    """The dtype of an operand or output."""
    return atom.aval.dtype


def shape_of(atom: Any) -> Shape:  # noqa: ANN401 (Var or Literal)
    """The shape of an operand or output."""
    return atom.aval.shape


def smaller(shape: Sequence[int], kept: Kept) -> Shape:
    """The shape of what is kept."""
    return tuple(
        size if keep is None else int(keep.sum()) for size, keep in zip(shape, kept, strict=True)
    )


def signal(marks: jax.Array) -> jax.Array:
    """Marks as numbers, which an operation can add up."""
    return marks.astype(jnp.float32)


def marked(numbers: jax.Array) -> jax.Array:
    """Where at least one mark came together."""
    return numbers > 0.5


def pulled(
    function: Callable[..., Any], operands: Sequence[jax.Array], reads: Sequence[jax.Array]
) -> list[jax.Array]:
    """Where operands of a (multi)linear function are read, by its transpose."""
    outs, pull = jax.vjp(function, *operands)
    cotangents = [signal(read) for read in reads]
    return [marked(x) for x in pull(cotangents if isinstance(outs, list) else cotangents[0])]


def everywhere(like: Sequence[Any], marks: Sequence[jax.Array]) -> list[jax.Array]:
    """True throughout each if any mark is set at all."""
    anywhere = jnp.any(jnp.stack([jnp.any(mark) for mark in marks]))
    return [jnp.broadcast_to(anywhere, shape_of(atom)) for atom in like]
