"""Sums, maxima and the like, over whole axes, over windows and along an axis."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from evojax.deploy.labels import Atoms, Axes
from evojax.deploy.rules.elementwise import tie
from evojax.deploy.rules.rule import (
    Eqn,
    Fact,
    Joined,
    Rule,
    Sink,
    marked,
    pulled,
    shape_of,
    signal,
)


def _join_over(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    axes = eqn.params["axes"]
    left = tuple(axis for i, axis in enumerate(ins[0]) if i not in axes)
    return Joined([left], [Sink(0, axis) for axis in axes])


def _join_where(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """The place of an extreme counts places: none of them may go."""
    for axis in eqn.params["axes"]:
        atoms.whole(ins[0][axis], f"{eqn.primitive.name} counts places along it")
    return Joined(_join_over(atoms, eqn, ins).outs)


def _spread_over(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    return [jnp.any(facts[0].varies, tuple(eqn.params["axes"]))]


def _reads_over(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    read = jnp.expand_dims(reads[0], tuple(eqn.params["axes"]))
    return [jnp.broadcast_to(read, facts[0].value.shape)]


def _join_windows(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    """Axes along which every window is one entry pass; the others are kept whole."""
    out = []
    for i, axis in enumerate(ins[0]):
        sizes = [
            eqn.params[name][i]
            for name in ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
        ]
        passes = all(size == 1 for size in sizes) and tuple(eqn.params["padding"][i]) == (0, 0)
        if not passes:
            atoms.whole(axis, f"{eqn.primitive.name} goes along it")
        out.append(axis if passes else None)
    return Joined([tuple(out)])


def _sum_windows(eqn: Eqn, x: jax.Array) -> jax.Array:
    p = eqn.params
    return lax.reduce_window(
        x, 0.0, lax.add, p["window_dimensions"], p["window_strides"], p["padding"],
        p["base_dilation"], p["window_dilation"],
    )  # fmt: skip


def _spread_windows(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    return [marked(_sum_windows(eqn, signal(facts[0].varies)))]


def _reads_windows(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    return pulled(lambda x: _sum_windows(eqn, x), [signal(facts[0].varies)], reads)


def _along(eqn: Eqn) -> int:
    return eqn.params["axis"] if "axis" in eqn.params else eqn.params["dimension"]


def _join_along(atoms: Atoms, eqn: Eqn, ins: list[Axes]) -> Joined:
    axes = tie(atoms, eqn, ins)
    atoms.whole(axes[_along(eqn)], f"{eqn.primitive.name} goes along it")
    return Joined([axes] * len(eqn.outvars))


def _spread_along(eqn: Eqn, facts: list[Fact]) -> list[jax.Array]:
    return [_whole_lines(eqn, [fact.varies for fact in facts])] * len(eqn.outvars)


def _reads_along(eqn: Eqn, facts: list[Fact], reads: list[jax.Array]) -> list[jax.Array]:
    return [_whole_lines(eqn, reads)] * len(eqn.invars)


def _whole_lines(eqn: Eqn, marks: list[jax.Array]) -> jax.Array:
    """Lines along the axis that have a mark anywhere."""
    somewhere = jnp.any(jnp.stack(marks), 0)
    return jnp.broadcast_to(
        jnp.any(somewhere, _along(eqn), keepdims=True), shape_of(eqn.outvars[0])
    )


_OVER = Rule(_join_over, _spread_over, _reads_over)
_WHERE = Rule(_join_where, _spread_over, _reads_over)
_WINDOWS = Rule(_join_windows, _spread_windows, _reads_windows)
_ALONG = Rule(_join_along, _spread_along, _reads_along)

REDUCTIONS = {
    "reduce_sum": _OVER._replace(sums=True),
    **dict.fromkeys(
        [f"reduce_{name}" for name in ("max", "min", "prod", "and", "or", "xor")], _OVER
    ),
    **dict.fromkeys(["argmax", "argmin"], _WHERE),
    **dict.fromkeys([f"reduce_window_{name}" for name in ("sum", "max", "min")], _WINDOWS),
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort"], _ALONG),
}
