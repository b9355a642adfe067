"""Why a lineage ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evojax.evolution.record import members_of, scored
from evojax.evolution.settings import OF_OFFSPRING, Settings


def status_of(settings: Settings, lineage: dict[str, Any]) -> str | None:
    """Why the lineage ends here, or ``None`` if it goes on."""
    generations = lineage["generations"]
    if not generations:
        return None
    last = generations[-1]
    for measure in scored(last):
        # Rounded, for 97 % less 94 % is more than 3 points in floating point.
        drop = round(100 * (generations[0][measure] - last[measure]), 9)
        if drop > settings.max_drop:
            return (
                f"stopped: {measure} fell {drop:.2f} points below the ancestor's in generation "
                f"{last['generation']} (max_drop {settings.max_drop:g})"
            )
    if last["generation"] >= settings.generations:
        return f"finished: {last['generation']} generations"
    sized = settings.size_of(last["generation"]) is not None
    if len(generations) > 1 and not sized and _no_smaller(*generations[-2:]):
        return f"stopped: generation {last['generation']} is no smaller than its parent"
    broken = lineage.get("broken") or {}
    if broken.items() >= terms(settings, last["generation"] + 1).items():
        return broken["status"]  # Trained again it would break down again.
    return None


def _no_smaller(before: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether no network of a generation has fewer synapses than the largest of its parents."""
    parents = [one["synapses"] for one in members_of(before)]
    return all(
        one["synapses"] >= max(parents[place] for place in one.get("parents", [0]))
        for one in members_of(record)
    )


def terms(settings: Settings, number: int) -> dict[str, Any]:
    """What of the settings may change before a generation and decides how its training ends."""
    return {
        "generation": number,
        "epochs": settings.epochs_of(number),
        "size": settings.size_of(number),
        **({name: getattr(settings, name) for name in OF_OFFSPRING} if number == 2 else {}),
    }
