"""What evolves (`Network`), and how the rest of evojax sees a model (`Model`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError

from evojax.learning.norms import norms_of
from evojax.learning.structure import Forward, Init, Layer, PyTree, Shape, evaluation, layers_of
from evojax.models.record import described


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


class Model(NamedTuple):
    """A model as pure functions.

    Attributes:
        init: ``(key, image_shape) -> (params, batch_stats)``; image_shape is (H, W, C).
        forward: ``(params, batch_stats, images, train) -> (logits, batch_stats)``; images is
            (N, H, W, C) floating point, logits (N, classes) float32.
        layers: ``(image_shape) -> layers`` in the order of the forward pass; the last is the
            classifier.
        norms: ``(image_shape) -> {path: kernel}``: every scale and offset of a normalisation by
            channel, with the path of the kernel whose outputs it normalises and with whose
            channels it dies; by default none.
        description: which network it is, as JSON holds it; empty where that is not known.
    """

    init: Init
    forward: Forward
    layers: Callable[[Shape], tuple[Layer, ...]]
    norms: Callable[[Shape], Mapping[str, str]] = lambda image_shape: {}
    description: Mapping[str, Any] = MappingProxyType({})

    def shapes(self, image_shape: Shape) -> tuple[PyTree, PyTree]:
        """Shapes and types of the parameters and of the running statistics.

        Args:
            image_shape: (H, W, C).
        """
        # Models compile `init`: it is traced only once.
        return jax.eval_shape(lambda key: self.init(key, image_shape), jax.random.key(0))

    def predict(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """Logits as the network predicts: what `evojax.compact` and `evojax.export` take.

        Args:
            variables: with ``"params"`` and ``"batch_stats"``.
            images: (N, H, W, C), normalised as in training.
        """
        return self.forward(variables["params"], variables["batch_stats"], images, False)[0]


def linen(module: nn.Module) -> Model:
    """Presents a Flax Linen classifier as a `Model`.

    A module whose ``__call__`` takes ``train`` is told whether it trains; its collection
    ``batch_stats`` is updated while it does.

    Raises:
        ValueError: if it is no instance of a Flax Linen module. From `Model.forward`, if the module
            draws random numbers (dropout): it gets no key. From `Model.init`, if it has a state of
            another kind.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"expected an instance of a Flax Linen module, LeNet(10) say; got {module}"
        )
    init = jax.jit(partial(_init, module), static_argnums=1)
    return modelled(init, partial(_forward, module), described(module))


def modelled(
    init: Init, forward: Forward, description: Mapping[str, Any] = MappingProxyType({})
) -> Model:
    """A model whose layers and normalisations are found in its program, traced once a shape."""
    program = cache(partial(evaluation, init, forward))
    return Model(
        init,
        forward,
        layers=lambda image_shape: layers_of(program(image_shape)),
        norms=lambda image_shape: norms_of(program(image_shape)),
        description=description,
    )


def _init(module: nn.Module, key: jax.Array, image_shape: Shape) -> tuple[PyTree, PyTree]:
    variables = module.init(key, jnp.zeros((1, *image_shape)), **_flags(module, False))
    known = {"params", "batch_stats", "intermediates"}
    if "params" not in variables or variables.keys() - known:
        raise ValueError(
            f"{type(module).__name__} has the collections {sorted(variables)}: expected "
            "params, and batch_stats if anything. Make it a model with parameters, and "
            "without a state of another kind."
        )
    return variables["params"], variables.get("batch_stats", {})


def _forward(
    module: nn.Module, params: PyTree, batch_stats: PyTree, images: jax.Array, train: bool
) -> tuple[jax.Array, PyTree]:
    variables = {"params": params, "batch_stats": batch_stats}
    mutable = ["batch_stats"] if train and jax.tree.leaves(batch_stats) else []
    try:
        logits, updated = module.apply(variables, images, **_flags(module, train), mutable=mutable)
    except InvalidRngError as error:
        raise ValueError(
            f"{type(module).__name__} draws random numbers while it trains (dropout?), which "
            "evojax does not support: take it out, or make it do nothing"
        ) from error
    return float32(logits), updated["batch_stats"] if mutable else batch_stats


def _flags(module: nn.Module, train: bool) -> dict[str, Any]:
    takes_train = "train" in inspect.signature(type(module).__call__).parameters
    return {"train": train} if takes_train else {}


def float32(logits: PyTree) -> PyTree:
    """Logits in the type in which losses are computed."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), logits)
