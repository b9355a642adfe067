"""Training recipes as data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

PyTree = Any


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        optimizer: Adam with decoupled weight decay, or SGD with Nesterov momentum.
        learning_rate: the largest one, of a dense network.
        sparse_rate: the learning rate of a network of which a share d is alive is larger by the
            factor d^-sparse_rate: with fewer synapses a neuron, each has further to move.
        schedule: what follows the warm-up.
        warmup: share of the training in which the learning rate rises linearly from 0.
        weight_decay: decoupled, on parameters of two or more axes.
        l1: decoupled likewise: each step ends with soft thresholding by the learning rate times
            this (proximal gradient descent), so that what is not needed is weak, and known to be,
            before it is pruned.
        momentum: of SGD; Adam's first moment.
        label_smoothing: in [0, 1).
        batch_size: images per step; a training set smaller than that is one batch.
        shift: augmentation: each image moves by up to so many pixels in each direction, and zeros
            move in.
        crop: likewise, but the image's own reflection moves in: one of the two at most.
        flip: augmentation: each image is mirrored left to right with probability 1/2.
        cutout: augmentation: a square of this side takes the images' mean colour; 0 is none.
        compute_dtype: of activations and matrix products; parameters stay float32. auto is bfloat16
            on accelerators and float32 on CPUs.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    sparse_rate: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.0
    l1: float = 0.0
    momentum: float = 0.9
    label_smoothing: float = 0.0
    batch_size: int = 128
    shift: int = 0
    crop: int = 0
    flip: bool = False
    cutout: int = 0
    compute_dtype: Literal["float32", "bfloat16", "auto"] = "float32"

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: naming the field, its value and what is allowed.
        """
        require_types(self)
        require(self.optimizer in ("adamw", "sgd"), "optimizer", self.optimizer, "adamw or sgd")
        require(
            self.schedule in ("cosine", "constant"), "schedule", self.schedule, "cosine or constant"
        )
        require(
            self.compute_dtype in ("float32", "bfloat16", "auto"),
            "compute_dtype",
            self.compute_dtype,
            "float32, bfloat16 or auto",
        )
        require(
            0 < self.learning_rate < float("inf"), "learning_rate", self.learning_rate, "positive"
        )
        require(0 <= self.sparse_rate <= 1, "sparse_rate", self.sparse_rate, "in [0, 1]")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "in [0, 1)")
        require(
            0 <= self.weight_decay < float("inf"), "weight_decay", self.weight_decay, "at least 0"
        )
        require(0 <= self.l1 < float("inf"), "l1", self.l1, "at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        for field in ("shift", "crop", "cutout"):
            require(getattr(self, field) >= 0, field, getattr(self, field), "at least 0")
        require(
            not (self.shift and self.crop),
            "crop",
            self.crop,
            f"0 where shift is positive ({self.shift}), as at most one of both moves the images",
        )


def compute_dtype(recipe: Recipe) -> jnp.dtype:
    """What to compute in on the default device."""
    name = recipe.compute_dtype
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


def require_types(settings: Any) -> None:  # noqa: ANN401
    """Checks that what a frozen dataclass declares as bool, int or float is just that, as in JSON.

    A text is true, whatever it says, and NumPy's numbers cannot be recorded.

    Raises:
        ValueError: naming the field, its value and what is expected.
    """
    kinds: dict[Any, tuple[Any, str]] = {
        "bool": (bool, "True or False"),
        "int": (int, "a whole number"),
        "float": ((int, float), "a number"),
        "float | None": ((int, float, type(None)), "a number or None"),
    }
    for field in fields(settings):
        if field.type in kinds:
            kind, expected = kinds[field.type]
            value = getattr(settings, field.name)
            right = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
            require(right, field.name, value, f"{expected}, as Python has it")


def require(holds: bool, field: str, value: object, expected: str) -> None:
    """Checks a field of a frozen dataclass.

    Raises:
        ValueError: if `holds` is false, naming the field, its value and what is expected.
    """
    if not holds:
        raise ValueError(f"{field} must be {expected}; got {value!r}")


def learning_rate(
    recipe: Recipe, progress: jax.Array, density: jax.Array | float = 1.0
) -> jax.Array:
    """The learning rate at a point of the training.

    Args:
        recipe: the recipe.
        progress: share of the training's steps that are done, in [0, 1].
        density: share of the network that is alive, in (0, 1].
    """
    warm = jnp.where(recipe.warmup > 0, progress / max(recipe.warmup, 1e-9), 1.0)
    rest = (progress - recipe.warmup) / (1.0 - recipe.warmup)
    decay = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(rest, 0.0, 1.0)))
    after = decay if recipe.schedule == "cosine" else 1.0
    largest = recipe.learning_rate * jnp.power(density, -recipe.sparse_rate)
    return largest * jnp.minimum(warm, after)


def optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """The recipe's optimizer, whose `update` takes `progress` and `density`.

    `progress` is the share of the training done: a schedule of it instead of the step lets one
    compiled epoch serve trainings of any length. `density` is the share of the network alive.
    """
    if recipe.optimizer == "adamw":
        direction = optax.scale_by_adam(b1=recipe.momentum)
    else:
        direction = optax.trace(decay=recipe.momentum, nesterov=True)
    return optax.chain(
        direction,
        optax.add_decayed_weights(
            recipe.weight_decay, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
        ),
        _scale_by_progress(recipe),
    )


def _scale_by_progress(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    def init(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: PyTree,
        state: optax.EmptyState,
        params: PyTree | None = None,
        *,
        progress: jax.Array,
        density: jax.Array | float = 1.0,
        **extra: object,
    ) -> tuple[PyTree, optax.EmptyState]:
        del extra
        rate = learning_rate(recipe, progress, density)
        updates = jax.tree.map(lambda u: -rate * u, updates)
        if recipe.l1:
            updates = jax.tree.map(
                lambda u, p: _shrunk(p + u, rate * recipe.l1) - p if p.ndim > 1 else u,
                updates, params,
            )  # fmt: skip
        return updates, state

    return optax.GradientTransformationExtraArgs(init, update)


def _shrunk(weights: jax.Array, by: jax.Array) -> jax.Array:
    """Soft thresholding: towards 0 by so much, never across."""
    return jnp.sign(weights) * jnp.maximum(jnp.abs(weights) - by, 0.0)
