"""What a lineage.json has, and what of it is refused."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evojax.evolution.lineage import surroundings
from evojax.evolution.record import check, load, members_of

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


@pytest.fixture
def file(tmp_path: Path, lineage: dict[str, Any]) -> Path:
    path = tmp_path / "lineage.json"
    path.write_text(json.dumps(lineage))
    return path


@pytest.mark.parametrize("detection", [False, True])
def test_a_written_lineage_is_read_back(tmp_path: Path, make: Make, detection: bool) -> None:
    path, lineage = tmp_path / "lineage.json", make(3, detection=detection)
    path.write_text(json.dumps(lineage))
    assert load(path) == lineage


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lineage\.json: there is no such file"):
        load(tmp_path / "lineage.json")


def test_a_folder_is_no_lineage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"schema": NaN}']
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lineage.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"lineage\.json: not valid JSON.*truncated or corrupt"):
        load(path)


def test_a_truncated_file_is_refused(file: Path) -> None:
    file.write_text(file.read_text()[:-200])
    with pytest.raises(ValueError, match="truncated or corrupt"):
        load(file)


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
        check(_without(lineage, *path), "file")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), 2, "field 'schema' is 2, expected 1"),
        (("continued",), "x", "field 'continued' is 'x', expected a list of objects"),
        (("broken",), {"generation": 2}, "field 'broken' is .*expected an object with a status"),
        (("generations", 0, "crc32"), "x", "field 'crc32' is 'x', expected a number"),
        (("generations", 0, "synapses"), 10**400, r"field 'synapses' is 1000"),
        (("schema",), True, "field 'schema' is True, expected 1"),
        (("seed",), "0", "field 'seed' is '0', expected a whole number"),
        (("generations",), [], "field 'generations' is .*at least one"),
        (("dataset", "examples"), ["000012"], "field 'examples' is .*expected an object"),
        (
            ("dataset", "examples"),
            {"000012": [[1, 2, 3]]},
            "examples: field '000012' .*a list of",
        ),
        (
            ("generations", 2, "detections"),
            {"000012": 4},
            r"detections: field '000012' is 4",
        ),
        (("generations", 0), 3, r"generations\[0\]: expected an object, got int"),
        (("generations", 0, "accuracy"), 99.5, "field 'accuracy' is 99.5, expected a fraction"),
        (("generations", 0, "clusters"), 1.5, "field 'clusters' is 1.5, expected a whole number"),
        (("generations", 0, "synapses"), -1, "field 'synapses' is -1, .*at least 0"),
        (("generations", 1, "generation"), 3, r"\[1\]: field 'generation' is 3, expected 2"),
        (("generations", 0, "macs"), "many", "field 'macs' is 'many', expected a number"),
        (("generations", 3, "layers", 0, "name"), "other", r"\[3\]: field 'layers' names"),
    ],
)
def test_a_wrong_field_is_named(
    lineage: dict[str, Any], path: tuple, value: object, words: str
) -> None:
    with pytest.raises(ValueError, match=f"file: .*{words}|file: {words}"):
        check(_with(lineage, value, *path), "file")


MEMBER = {
    "accuracy": 0.9, "holdout_accuracy": None, "synapses": 5, "clusters": 2, "bytes_sparse": 25,
    "macs": 5, "parents": [0, 1], "train_seconds": 1.0, "crc32": 7,
}  # fmt: skip


def with_members(lineage: dict[str, Any], **changes: object) -> dict[str, Any]:
    """Two generations, of one network and of two, of which the second is changed."""
    first, second = copy.deepcopy(lineage["generations"][:2])
    first |= {"similarity": 1.0, "members": [MEMBER | {"parents": []}]}
    members = [MEMBER | {"parents": [0]}, MEMBER | {"parents": [0]} | changes]
    second |= {"similarity": 0.5, "members": members}
    return lineage | {"generations": [first, second]}


def test_a_population_is_read(lineage: dict[str, Any]) -> None:
    check(with_members(lineage))
    assert [len(members_of(one)) for one in with_members(lineage)["generations"]] == [1, 2]
    assert members_of(lineage["generations"][0]) == [lineage["generations"][0]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": None}, "field 'accuracy' .or 'precision' and 'recall'. is missing"),
        ({"accuracy": 3}, "field 'accuracy' is 3, expected a fraction from 0 to 1"),
        ({"holdout_accuracy": -1}, "field 'holdout_accuracy' is -1"),
        ({"holdout_f1": 2}, "field 'holdout_f1' is 2"),
        ({"macs": 1.5}, "field 'macs' is 1.5, expected a whole number"),
        ({"crc32": "x"}, "field 'crc32' is 'x', expected a whole number"),
        ({"parents": 0}, "field 'parents' is 0, expected a list of whole numbers"),
        ({"parents": [True]}, r"field 'parents' is \[True\], expected a list of whole numbers"),
        ({"parents": [1]}, r"field 'parents' is \[1\], expected places among the 1 of the"),
        ({"parents": []}, r"field 'parents' is \[\], expected places among the 1 of the"),
    ],
)
def test_a_wrong_field_of_a_member_is_named(
    lineage: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=rf"file: generations\[1\]: members\[1\]: {words}"):
        check(with_members(lineage, **changes), "file")


def test_wrong_populations_are_named(lineage: dict[str, Any]) -> None:
    for value, words in (([], "a list of at least one"), ([3], "expected an object, got int")):
        with pytest.raises(ValueError, match=rf"generations\[0\]: .*members.*{words}"):
            check(_with(lineage, value, "generations", 0, "members"))
    with pytest.raises(ValueError, match="field 'similarity' is 2, expected a fraction"):
        check(_with(lineage, 2, "generations", 0, "similarity"))


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        check([])


def test_measures_must_stay_the_same(make: Make) -> None:
    mixed = make(3)
    record = mixed["generations"][2]
    record["precision"] = record["recall"] = record.pop("accuracy")
    with pytest.raises(ValueError, match=r"generations\[2\]: expected the ancestor's"):
        check(mixed)


def test_cores_are_those_that_the_process_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert surroundings()["cpus"] == 1
    assert surroundings()["processor"] != ""
