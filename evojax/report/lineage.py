"""Questions that a lineage, the record of a run, answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from evojax.evolution.record import Lineage, Record, scored


def measures(lineage: Lineage) -> tuple[str, ...]:
    """What the networks are judged by: ("accuracy",), or ("precision", "recall") in detection."""
    return scored(lineage["generations"][0])


def survivors(lineage: Lineage) -> tuple[str, ...]:
    """Names of the layers that count in the cluster efficiency: all but those of the outputs."""
    names = tuple(layer["name"] for layer in lineage["generations"][0]["layers"])
    return names[: -lineage.get("outputs", 1)] or names


def smallest_within(lineage: Lineage, drop: float = 0.03) -> Record:
    """The smallest network at most `drop` (a fraction) below its ancestor in every measure."""
    ancestor = lineage["generations"][0]
    names = measures(lineage)
    good = [
        record
        for record in lineage["generations"]
        if all(record[name] >= ancestor[name] - drop - 1e-9 for name in names)
    ]
    return max(good, key=lambda record: record["architectural_efficiency"])


def first_reaching(lineage: Lineage, efficiency: float) -> Record | None:
    """The first generation whose architectural efficiency is at least `efficiency`, or None.

    Both are compared in two decimals, as the papers print them: 143,978 / 1,151 counts as 125.09.
    """
    for record in lineage["generations"]:
        if round(record["architectural_efficiency"], 2) >= efficiency:
            return record
    return None


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings as ("outer.inner", "value") pairs of text."""
    for name, value in tree.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value, default=str)
