"""What evolves (`Network`), and how the rest of evojax sees a model (`Model`)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError

from evojax.models.record import described

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


class _Call(NamedTuple):
    """A module's call within a forward pass that is traced.

    Attributes:
        path: of the module.
        norm: whether it is a normalisation.
        source: path of the layer whose output it takes, if one's.
        positions: height times width of its output.
    """

    path: str
    norm: bool
    source: str | None
    positions: int


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

    init: Callable[[jax.Array, Shape], tuple[PyTree, PyTree]]
    forward: Callable[[PyTree, PyTree, jax.Array, bool], tuple[jax.Array, PyTree]]
    layers: Callable[[Shape], tuple[Layer, ...]]
    norms: Callable[[Shape], Mapping[str, str]] = lambda image_shape: {}
    description: Mapping[str, Any] = MappingProxyType({})

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
    ``batch_stats`` is updated while it does. A `nn.BatchNorm` that is called on the very output of
    a layer with a kernel normalises that layer's channels.

    Raises:
        ValueError: from `forward`, if the module draws random numbers (dropout): it gets no key.
    """

    def apply(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            return module.apply(*arguments, **options)
        except InvalidRngError as error:
            raise ValueError(
                f"{type(module).__name__} draws random numbers while it trains (dropout?), which "
                "evojax does not support: take it out, or make it do nothing"
            ) from error

    takes_train = "train" in inspect.signature(type(module).__call__).parameters

    def flags(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    @partial(jax.jit, static_argnums=1)
    def init(key: jax.Array, image_shape: Shape) -> tuple[PyTree, PyTree]:
        variables = module.init(key, jnp.zeros((1, *image_shape)), **flags(False))
        known = {"params", "batch_stats", "intermediates"}
        if "params" not in variables or variables.keys() - known:
            raise ValueError(
                f"{type(module).__name__} has the collections {sorted(variables)}: expected "
                "params, and batch_stats if anything. Make it a model with parameters, and "
                "without a state of another kind."
            )
        return variables["params"], variables.get("batch_stats", {})

    def forward(
        params: PyTree, batch_stats: PyTree, images: jax.Array, train: bool
    ) -> tuple[jax.Array, PyTree]:
        variables = {"params": params, "batch_stats": batch_stats}
        if train and jax.tree.leaves(batch_stats):
            logits, updated = apply(variables, images, **flags(True), mutable=["batch_stats"])
            return logits, updated["batch_stats"]
        return apply(variables, images, **flags(train)), batch_stats

    def calls(image_shape: Shape) -> list[_Call]:
        """The layers with a kernel and the normalisations, as the forward pass calls them."""
        made: list[_Call] = []

        def trace(key: jax.Array) -> PyTree:
            outputs: list[tuple[jax.Array, str]] = []

            def record(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:  # noqa: ANN401
                output = call(*args, **kwargs)
                inner = context.module
                path, norm = "/".join(inner.path), isinstance(inner, nn.BatchNorm)
                if context.method_name != "__call__":
                    return output
                if norm:
                    taken = args[0] if args else kwargs.get("x")
                    sources = [source for value, source in outputs if value is taken]
                    made.append(_Call(path, norm, sources[0] if sources else None, 0))
                elif inner.has_variable("params", "kernel"):
                    outputs.append((output, path))
                    made.append(_Call(path, norm, None, math.prod(output.shape[1:-1])))
                return output

            with nn.intercept_methods(record):
                return module.init(key, jnp.zeros((1, *image_shape)), **flags(False))

        jax.eval_shape(trace, jax.random.key(0))
        return made

    def layers(image_shape: Shape) -> tuple[Layer, ...]:
        found: dict[str, int] = {}
        for call in calls(image_shape):
            if not call.norm:
                # A layer that is called twice uses its synapses at both outputs' positions.
                found[call.path] = found.get(call.path, 0) + call.positions
        return tuple(Layer(name, positions) for name, positions in found.items())

    def norms(image_shape: Shape) -> dict[str, str]:
        sources: dict[str, set[str | None]] = {}
        for call in calls(image_shape):
            if call.norm:
                sources.setdefault(call.path, set()).add(call.source)
        return {
            f"{path}/{name}": f"{source}/kernel"
            for path, (source, *others) in sources.items()
            for name in ("scale", "bias")
            if source and not others
        }

    return Model(init, forward, layers, norms, described(module))
