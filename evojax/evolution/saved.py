"""A generation of a finished or interrupted run, as a function and its variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax.evolution import checkpoints
from evojax.evolution.lineage import read_lineage
from evojax.evolution.record import members_of
from evojax.models.record import UnknownNetwork, rebuilt

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
        generation: its number; the last whose network is there by default.
        member: its place in the population; the fittest by default, which is the first.

    Raises:
        ValueError: if the folder holds no run, no such generation or member, a damaged one, or
            another network than the recorded one.
        UnknownNetwork: (a ValueError) if all that is right, but evojax does not ship the network.
    """
    lineage = read_lineage(run)
    number = _number(run, generation, len(lineage["generations"]))
    model, shape = lineage.get("model"), lineage["dataset"].get("image_shape")
    if not model or not isinstance(model, Mapping) or shape is None:
        raise UnknownNetwork(
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


def _number(run: str | os.PathLike[str], generation: int | None, finished: int) -> int:
    """The generation asked for, of those that are recorded and whose network is there."""
    there = [number for number in checkpoints.present(run) if 1 <= number <= finished]
    if not there:
        raise ValueError(
            f"{run} holds no network: none of its {finished} generations is in "
            f"{os.path.join(run, 'generations')}. Put that folder back from a copy."
        )
    if generation is not None and generation not in there:
        raise ValueError(
            f"--generation {generation}: expected one whose network is in {run}: {_listed(there)}"
        )
    return there[-1] if generation is None else generation


def _listed(numbers: Sequence[int]) -> str:
    """``1 to 5`` where none is missing, else all of them."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
