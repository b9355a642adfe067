"""What of a lineage.json is refused, and the questions it answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evojax.report import lineage as lineages

Make = Callable[..., dict[str, Any]]


def _without(lineage: dict[str, Any], *path: str | int) -> dict[str, Any]:
    changed = copy.deepcopy(lineage)
    owner: Any = changed
    for key in path[:-1]:
        owner = owner[key]
    del owner[path[-1]]
    return changed


def _with(lineage: dict[str, Any], value: object, *path: str | int) -> dict[str, Any]:
    changed = copy.deepcopy(lineage)
    owner: Any = changed
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    return changed


def test_a_written_lineage_is_read_back(run: Path, lineage: dict[str, Any]) -> None:
    assert lineages.load(run / "lineage.json") == lineage


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lineage\.json: there is no such file"):
        lineages.load(tmp_path / "lineage.json")


def test_a_folder_is_no_lineage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        lineages.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"schema": NaN}'])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lineage.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"lineage\.json: not valid JSON.*truncated or corrupt"):
        lineages.load(path)


def test_a_truncated_file_is_refused(run: Path) -> None:
    path = run / "lineage.json"
    path.write_text(path.read_text()[:-200])
    with pytest.raises(ValueError, match="truncated or corrupt"):
        lineages.load(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("schema",), "field 'schema' is missing"),
        (("status",), "field 'status' is missing"),
        (("dataset", "name"), "field 'dataset': field 'name' is missing"),
        (("generations", 2, "synapses"), r"generations\[2\]: field 'synapses' is missing"),
        (("generations", 0, "accuracy"), r"generations\[0\]: field 'accuracy'"),
        (
            ("generations", 1, "layers", 3, "clusters"),
            r"generations\[1\]: layers\[3\]: field 'clusters' is missing",
        ),
    ],
)
def test_a_missing_field_is_named(lineage: dict[str, Any], path: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=f"^file: {words}"):
        lineages.check(_without(lineage, *path), "file")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), 2, "field 'schema' is 2, expected 1"),
        (("schema",), True, "field 'schema' is True, expected 1"),
        (("seed",), "0", "field 'seed' is '0', expected a whole number"),
        (("generations",), [], "field 'generations' is .*at least one"),
        (("generations", 0), 3, r"generations\[0\]: expected an object, got int"),
        (("generations", 0, "accuracy"), 99.5, "field 'accuracy' is 99.5, expected a fraction"),
        (("generations", 0, "clusters"), 1.5, "field 'clusters' is 1.5, expected a whole number"),
        (("generations", 0, "synapses"), -1, "field 'synapses' is -1, .*at least 0"),
        (("generations", 0, "macs"), "many", "field 'macs' is 'many', expected a number"),
        (("generations", 3, "layers", 0, "name"), "other", r"\[3\]: field 'layers' names"),
    ],
)
def test_a_wrong_field_is_named(
    lineage: dict[str, Any], path: tuple, value: object, words: str
) -> None:
    with pytest.raises(ValueError, match=f"file: .*{words}|file: {words}"):
        lineages.check(_with(lineage, value, *path), "file")


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        lineages.check([])


def test_measures_must_stay_the_same(make: Make) -> None:
    mixed = make(3)
    record = mixed["generations"][2]
    record["precision"] = record["recall"] = record.pop("accuracy")
    with pytest.raises(ValueError, match=r"generations\[2\]: expected the ancestor's"):
        lineages.check(mixed)


def test_detection_has_two_measures(make: Make) -> None:
    lineages.check(detection := make(3, detection=True))
    assert lineages.measures(detection) == ("precision", "recall")


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
