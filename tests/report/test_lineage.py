"""The questions that a lineage answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evojax.report import lineage as lineages

Make = Callable[..., dict[str, Any]]


def test_detection_has_two_measures(make: Make) -> None:
    assert lineages.measures(make(3, detection=True)) == ("precision", "recall")


def test_the_smallest_network_near_its_ancestor(make: Make) -> None:
    lineage = make(4)
    for record, accuracy in zip(lineage["generations"], (0.99, 0.90, 0.96, 0.95), strict=True):
        record["accuracy"] = accuracy
    # Exactly three points below counts, whatever floating point makes of it.
    assert lineages.smallest_within(lineage, 0.03)["generation"] == 3
    assert lineages.smallest_within(lineage, 0.01)["generation"] == 1
    assert lineages.smallest_within(lineage, 0.05)["generation"] == 4


def test_efficiencies_are_compared_as_the_papers_print_them(make: Make) -> None:
    lineage = make(3)
    lineage["generations"][2]["architectural_efficiency"] = 143978 / 1151  # 125.0895
    found = lineages.first_reaching(lineage, 125.09)
    assert found is not None and found["generation"] == 3
    assert lineages.first_reaching(lineage, 125.10) is None


def test_settings_are_flattened() -> None:
    tree = {"seed": 0, "recipe": {"name": "adamw", "rates": [0.1, 0.2]}, "holdout": None}
    assert list(lineages.flat(tree)) == [
        ("seed", "0"),
        ("recipe.name", "adamw"),
        ("recipe.rates", "[0.1, 0.2]"),
        ("holdout", "null"),
    ]
