"""Flax NNX modules as models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx

from evojax.deploy import cost
from evojax.genetics.trees import flatten
from evojax.learning.network import Layer, Model, Shape

PyTree = Any


def nnx(make: Callable[[flax_nnx.Rngs], flax_nnx.Module]) -> Model:
    """Presents a Flax NNX classifier as a `Model`.

    Its parameters are `nnx.Param`, its running statistics `nnx.BatchStat`; indices of lists become
    text in their paths. Layers are found by tracing. Scales and offsets of normalisations are never
    pruned: what a dead channel leaves behind is a constant, which `evojax.compact` folds.

    Args:
        make: ``(rngs) -> module``, whose ``__call__`` takes images alone. It is told whether it
            trains by `nnx.Module.train` and `nnx.Module.eval`.

    Raises:
        ValueError: if the module has variables of other kinds, such as a dropout's random state, or
            no parameters.
    """

    def split(module: flax_nnx.Module) -> tuple[Any, ...]:
        parts: Any = flax_nnx.split  # Its stub takes the ellipsis for a type.
        graph, params, stats, rest = parts(module, flax_nnx.Param, flax_nnx.BatchStat, ...)
        if jax.tree.leaves(rest) or not jax.tree.leaves(params):
            kinds = sorted({type(v).__name__ for _, v in flax_nnx.to_flat_state(rest)})
            raise ValueError(
                f"{type(module).__name__} has {', '.join(kinds) or 'no parameters'}: expected "
                "nnx.Param, and nnx.BatchStat if anything. Take out what draws random numbers "
                "while it trains (dropout?), and states of another kind."
            )
        return graph, params, stats

    graph, *blank = split(flax_nnx.eval_shape(lambda: make(flax_nnx.Rngs(0))))

    @partial(jax.jit, static_argnums=1)
    def init(key: jax.Array, image_shape: Shape) -> tuple[PyTree, PyTree]:
        _, params, stats = split(make(flax_nnx.Rngs(key)))
        return _named(flax_nnx.to_pure_dict(params)), _named(flax_nnx.to_pure_dict(stats))

    def forward(
        params: PyTree, batch_stats: PyTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, PyTree]:
        filled = [_filled(s, tree) for s, tree in zip(blank, (params, batch_stats), strict=True)]
        module = flax_nnx.merge(graph, *filled)
        module.train() if train else module.eval()
        logits = module(images)
        stats = flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.BatchStat))
        return logits.astype(jnp.float32), _named(stats)

    def layers(image_shape: Shape) -> tuple[Layer, ...]:
        params, stats = jax.eval_shape(lambda key: init(key, image_shape), jax.random.key(0))

        def apply(params: PyTree, images: jax.Array) -> jax.Array:
            stats_now = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), stats)
            return forward(params, stats_now, images, False)[0]

        shapes, _ = flatten(params)
        macs = cost(apply, params, jnp.zeros((1, *image_shape))).macs_by_path
        return tuple(
            Layer(path.removesuffix("/kernel"), count // math.prod(shapes[path].shape))
            for path, count in macs.items()
            if path.endswith("/kernel")
        )

    return Model(init, forward, layers)


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
