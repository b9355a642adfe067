"""Compacted networks as Flax Linen modules of smaller widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from evojax.deploy import Compacted, InconsistentError
from evojax.deploy.checks import check_same
from evojax.models.alexnet import AlexNet
from evojax.models.detectnet import BRANCHES, INCEPTIONS, STEM, DetectNet
from evojax.models.lenet import LeNet
from evojax.models.resnet import ResNet

PyTree = Any


def narrow(module: nn.Module, compacted: Compacted, x: jax.Array) -> tuple[nn.Module, PyTree]:
    """The shipped network of smaller widths that a compacted one is.

    Args:
        module: the network before compaction: a `LeNet`, `AlexNet`, `ResNet` or
            `DetectNet`.
        compacted: what `evojax.compact` made of it.
        x: an example input, by which the two are compared.

    Returns:
        ``(module, variables)``: the module computes with the variables what the compacted network
        does, and can be trained on.

    Raises:
        ValueError: if it is another network, or widths alone cannot express what is left: shortcuts
            whose channels died unevenly, a layer left without channels, constants folded into an
            array that the module lacks.
    """
    variables = jax.tree.map(jnp.asarray, compacted.variables)
    params = variables["params"]
    match module:
        case LeNet() | AlexNet():
            *hidden, _ = sorted(name for name in params if not name.endswith("_norm"))
            changes: Mapping[str, Any] = {"widths": tuple(_width(params[name]) for name in hidden)}
        case ResNet():
            blocks = [
                params[f"stage{stage}_block{block}"]
                for stage in range(1, len(module.widths) + 1)
                for block in range(1, module.blocks + 1)
            ]
            changes = {
                "widths": tuple(_width(b["conv2"]) for b in blocks[:: module.blocks]),
                "inner": tuple(_width(block["conv1"]) for block in blocks),
            }
        case DetectNet():
            stem = [params[name] for name in STEM]
            inceptions = [[params[block][name] for name in BRANCHES] for block in INCEPTIONS]
            changes = {"widths": tuple(tuple(map(_width, block)) for block in [stem, *inceptions])}
        case _:
            raise ValueError(
                f"{type(module).__name__} is none of the networks that evojax ships: expected a "
                "LeNet, AlexNet, ResNet or DetectNet. The compacted function works without."
            )
    cannot = (
        f"no {type(module).__name__} of smaller widths computes what the compacted network "
        "does: use the compacted function and variables as they are"
    )
    if 0 in jax.tree.leaves(changes):
        raise ValueError(cannot)  # Flax initialises no layer without channels.
    narrowed = module.clone(**changes)
    try:
        check_same(
            lambda x: compacted.apply(variables, x),
            jax.jit(lambda x: narrowed.apply(variables, x)),
            x,
            "the narrower module",
        )
    except (InconsistentError, TypeError, ValueError, nn.module.errors.FlaxError) as error:
        raise ValueError(cannot) from error
    return narrowed, variables


def _width(layer: Mapping[str, Any]) -> int:
    return layer["kernel"].shape[-1]
