"""Networks as a run's record names them, so that a saved run can be read without its script."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from evojax.models.alexnet import AlexNet
from evojax.models.detectnet import DetectNet
from evojax.models.lenet import LeNet
from evojax.models.resnet import ResNet

SHIPPED: dict[str, Callable[..., nn.Module]] = {
    f"{cls.__module__}.{cls.__name__}": cls for cls in (AlexNet, DetectNet, LeNet, ResNet)
}


class UnknownNetwork(ValueError):
    """A recorded network that evojax cannot make again: it ships none of that name."""


def described(module: nn.Module) -> dict[str, Any]:
    """A module's class and, of a shipped one, its attributes, as JSON holds them."""
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    if SHIPPED.get(name) is not type(module):
        return {"class": name}
    values = {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name")
    }
    if values.get("dtype") is not None:
        values["dtype"] = jnp.dtype(values["dtype"]).name
    return json.loads(json.dumps({"class": name, **values}))


def rebuilt(description: Mapping[str, Any]) -> nn.Module:
    """The module that `described` described.

    Raises:
        UnknownNetwork: if it is no network that evojax ships.
        ValueError: if the description is damaged.
    """
    attributes = {name: _hashable(value) for name, value in description.items()}
    name = attributes.pop("class", None)
    if name not in SHIPPED:
        raise UnknownNetwork(
            f"the network is {name}: expected one that evojax ships ({', '.join(SHIPPED)}). In "
            "Python, evojax.compact and evojax.export take any network's function, and "
            "evojax.evolution.checkpoints.restore reads its variables."
        )
    try:
        return SHIPPED[name](**attributes)
    except TypeError as error:
        raise ValueError(f"the network {name} has other attributes: {error}") from error


def _hashable(value: Any) -> Any:  # noqa: ANN401 (as JSON holds it)
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
