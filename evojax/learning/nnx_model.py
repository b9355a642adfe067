"""Flax NNX modules as models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
from flax import nnx as flax_nnx

from evojax.learning.network import Model, float32, modelled
from evojax.learning.structure import PyTree, Shape


def nnx(make: Callable[[flax_nnx.Rngs], flax_nnx.Module]) -> Model:
    """Presents a Flax NNX classifier as a `Model`.

    Its parameters are `nnx.Param`, its running statistics `nnx.BatchStat`; indices of lists become
    text in their paths.

    Args:
        make: ``(rngs) -> module``, whose ``__call__`` takes images alone. It is told whether it
            trains by `nnx.Module.train` and `nnx.Module.eval`.

    Raises:
        ValueError: if `make` is a module already, or makes one with variables of other kinds, such
            as a dropout's random state, or without parameters.
    """
    if isinstance(make, flax_nnx.Module):
        raise ValueError(
            f"expected what makes a module, (rngs) -> module, such as its class; got the module "
            f"{type(make).__name__} itself"
        )
    blank = _split(flax_nnx.eval_shape(lambda: make(flax_nnx.Rngs(0))))
    init = jax.jit(partial(_init, make), static_argnums=1)
    return modelled(init, partial(_forward, blank))


class _Parts(NamedTuple):
    """A module's graph and states, of arrays or of their shapes."""

    graph: Any
    params: Any
    stats: Any


def _split(module: flax_nnx.Module) -> _Parts:
    parts: Any = flax_nnx.split  # Its stub takes the ellipsis for a type.
    graph, params, stats, rest = parts(module, flax_nnx.Param, flax_nnx.BatchStat, ...)
    if jax.tree.leaves(rest) or not jax.tree.leaves(params):
        kinds = sorted({type(v).__name__ for _, v in flax_nnx.to_flat_state(rest)})
        raise ValueError(
            f"{type(module).__name__} has {', '.join(kinds) or 'no parameters'}: expected "
            "nnx.Param, and nnx.BatchStat if anything. Take out what draws random numbers "
            "while it trains (dropout?), and states of another kind."
        )
    return _Parts(graph, params, stats)


def _init(
    make: Callable[[flax_nnx.Rngs], flax_nnx.Module], key: jax.Array, image_shape: Shape
) -> tuple[PyTree, PyTree]:
    parts = _split(make(flax_nnx.Rngs(key)))
    params, stats = (flax_nnx.to_pure_dict(state) for state in (parts.params, parts.stats))
    return _named(params), _named(stats)


def _forward(
    blank: _Parts, params: PyTree, batch_stats: PyTree, images: jax.Array, train: bool
) -> tuple[jax.Array, PyTree]:
    states = _filled(blank.params, params), _filled(blank.stats, batch_stats)
    module = flax_nnx.merge(blank.graph, *states)
    module.train() if train else module.eval()
    logits = module(images)
    stats = flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.BatchStat))
    return float32(logits), _named(stats)


def _named(tree: PyTree) -> PyTree:
    """With names in place of a list's indices, as paths and files have them."""
    if not isinstance(tree, Mapping):
        return tree
    return {str(name): _named(value) for name, value in tree.items()}


def _filled(state: Any, tree: PyTree) -> Any:  # noqa: ANN401
    """A copy of the state with the arrays of a tree in its structure."""

    def like(original: PyTree, tree: PyTree) -> PyTree:
        if not isinstance(original, Mapping):
            return tree
        return {name: like(value, tree[str(name)]) for name, value in original.items()}

    copy = jax.tree.map(lambda leaf: leaf, state)
    flax_nnx.replace_by_pure_dict(copy, like(flax_nnx.to_pure_dict(state), tree))
    return copy
