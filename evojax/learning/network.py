"""What evolves (`Network`), and how the rest of evojax sees a model (`Model`)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

PyTree = Any
Shape = tuple[int, ...]


class Network(NamedTuple):
    """The one thing that evolves: three PyTrees.

    Attributes:
        params: float32 arrays; pruned weights are exactly 0.0.
        batch_stats: running statistics of normalisation layers; an empty dict where there are none.
        masks: bool arrays in the parameters' shapes, ``None`` where nothing is ever pruned.
    """

    params: PyTree
    batch_stats: PyTree
    masks: PyTree


class Layer(NamedTuple):
    """A layer with a kernel.

    Attributes:
        name: path of its module.
        positions: how often each of its synapses is used per image: output height times width.
    """

    name: str
    positions: int


class Model(NamedTuple):
    """A model as pure functions.

    Attributes:
        init: ``(key, image_shape) -> (params, batch_stats)``; image_shape is (H, W, C).
        forward: ``(params, batch_stats, images, train) -> (logits, batch_stats)``; images is
            (N, H, W, C) floating point, logits (N, classes) float32.
        layers: ``(image_shape) -> layers`` in the order of the forward pass; the last is the
            classifier.
    """

    init: Callable[[jax.Array, Shape], tuple[PyTree, PyTree]]
    forward: Callable[[PyTree, PyTree, jax.Array, bool], tuple[jax.Array, PyTree]]
    layers: Callable[[Shape], tuple[Layer, ...]]


def linen(module: nn.Module) -> Model:
    """Presents a Flax Linen classifier as a `Model`.

    A module whose ``__call__`` takes ``train`` is told whether it trains; its collection
    ``batch_stats`` is updated while it does.
    """
    apply: Callable[..., Any] = module.apply
    takes_train = "train" in inspect.signature(type(module).__call__).parameters

    def flags(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    @partial(jax.jit, static_argnums=1)
    def init(key: jax.Array, image_shape: Shape) -> tuple[PyTree, PyTree]:
        variables = module.init(key, jnp.zeros((1, *image_shape)), **flags(False))
        return variables["params"], variables.get("batch_stats", {})

    def forward(
        params: PyTree, batch_stats: PyTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, PyTree]:
        variables = {"params": params, "batch_stats": batch_stats}
        if train and jax.tree.leaves(batch_stats):
            logits, updated = apply(variables, images, **flags(True), mutable=["batch_stats"])
            return logits, updated["batch_stats"]
        return apply(variables, images, **flags(train)), batch_stats

    def layers(image_shape: Shape) -> tuple[Layer, ...]:
        found: dict[str, int] = {}

        def record(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:  # noqa: ANN401
            output = call(*args, **kwargs)
            if context.method_name == "__call__" and context.module.has_variable(
                "params", "kernel"
            ):
                name = "/".join(context.module.path)
                # A layer that is called twice uses its synapses at both outputs' positions.
                found[name] = found.get(name, 0) + math.prod(output.shape[1:-1])
            return output

        def trace(key: jax.Array) -> PyTree:
            with nn.intercept_methods(record):
                return module.init(key, jnp.zeros((1, *image_shape)), **flags(False))

        jax.eval_shape(trace, jax.random.key(0))
        return tuple(Layer(name, positions) for name, positions in found.items())

    return Model(init, forward, layers)
