"""A generation of a finished or interrupted run, as a function and its variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax.evolution import checkpoints
from evojax.evolution.lineage import read_lineage
from evojax.evolution.record import members_of
from evojax.models.record import rebuilt

PyTree = Any


class Saved(NamedTuple):
    """A saved network.

    Attributes:
        apply: ``(variables, images) -> logits``, as it predicts.
        variables: with ``"params"`` and ``"batch_stats"``.
        masks: in the structure of the parameters, ``None`` where nothing is ever pruned.
        image: zeros (1, H, W, C), an example input.
        generation: its number.
        lineage: the run's record.
        member: its place in the population, the fittest first.
    """

    apply: Callable[..., Any]
    variables: PyTree
    masks: PyTree
    image: jax.Array
    generation: int
    lineage: Mapping[str, Any]
    member: int = 0


def saved(
    run: str | os.PathLike[str], generation: int | None = None, member: int | None = None
) -> Saved:
    """Reads a generation of a run of a network that evojax ships.

    Args:
        run: the run's folder.
        generation: its number; the last by default.
        member: its place in the population; the fittest by default, which is the first.

    Raises:
        ValueError: if the folder holds no run, no such generation or member, a damaged one, another
            network than the recorded one, or a network that evojax does not ship.
    """
    lineage = read_lineage(run)
    finished = len(lineage["generations"])
    number = finished if generation is None else generation
    if not 1 <= number <= finished:
        raise ValueError(f"--generation {number}: expected 1 to {finished}, which {run} has")
    model, shape = lineage.get("model"), lineage["dataset"].get("image_shape")
    if not model or not isinstance(model, Mapping) or shape is None:
        raise ValueError(
            f"{run} does not record its network: the run is older than that. Its own command once "
            f"more notes it, and trains nothing: {lineage['command']}"
        )
    module = rebuilt(model)
    members = members_of(lineage["generations"][number - 1])
    place = 0 if member is None else member
    if not 0 <= place < len(members):
        raise ValueError(
            f"member {place} of generation {number}: expected 0 to {len(members) - 1}, which {run} "
            "has"
        )
    found = checkpoints.restore(run, number, crc32=members[place].get("crc32"), member=place)
    network = jax.tree.map(jnp.asarray, found)
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    image = jnp.zeros((1, *shape))
    return Saved(module.apply, variables, network.masks, image, number, lineage, place)
