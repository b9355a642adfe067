"""What a lineage.json must hold: schema 1, checked once where it is read.

A lineage is the dictionary of lineage.json: what was run ("experiment", "command", "config",
"seed", "environment", "dataset"), how it ended ("status") and one entry for each generation
("generations"), the first of them the ancestor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

SCHEMA = 1
Lineage = Mapping[str, Any]
Record = Mapping[str, Any]

MEASURES = ("accuracy", "precision", "recall")
_FITNESS = ("holdout_accuracy", "holdout_f1")
_TEXT = ("experiment", "command", "status")
_MAPPINGS = ("config", "environment", "dataset")
_RATIOS = ("architectural_efficiency", "cluster_efficiency", "cluster_efficiency_pooled")
_COUNTS = ("generation", "synapses", "clusters")
_MEMBER = ("synapses", "clusters", "bytes_sparse", "macs")
_OPTIONAL = (
    "loss", "epochs", "macs", "bytes_dense", "bytes_sparse", "train_seconds", "crc32",
)  # fmt: skip


def load(path: str | Path) -> dict[str, Any]:
    """The lineage in the file at `path`.

    Raises:
        ValueError: The file is missing, unreadable, no JSON, of another schema, or a field is
            missing or wrong; the message names the file and the field.
    """
    path = Path(path)
    try:
        lineage = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise ValueError(
            f"{path}: there is no such file; expected the lineage.json of a run's folder"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); it is truncated or corrupt") from error
    check(lineage, str(path))
    return lineage


def check(lineage: object, where: str = "lineage") -> None:
    """Checks that `lineage` is a lineage of schema 1 with all that a report needs.

    Raises:
        ValueError: It is not; the message starts with `where` and names the field.
    """
    if not isinstance(lineage, Mapping):
        raise ValueError(f"{where}: expected a JSON object, got {_kind(lineage)}")
    schema = _field(lineage, "schema", where)
    if schema != SCHEMA or isinstance(schema, bool):
        raise ValueError(
            f"{where}: field 'schema' is {schema!r}, expected {SCHEMA}; "
            "the file is not a lineage, or was written by another version"
        )
    for name in _TEXT:
        _expect(isinstance(_field(lineage, name, where), str), where, name, "text", lineage[name])
    for name in _MAPPINGS:
        value = _field(lineage, name, where)
        _expect(isinstance(value, Mapping), where, name, "an object", value)
    name = _field(lineage["dataset"], "name", f"{where}: field 'dataset'")
    _expect(isinstance(name, str), where, "dataset.name", "text", name)
    if lineage["dataset"].get("test") is not None:
        _number(lineage["dataset"], "test", f"{where}: field 'dataset'", whole=True)
    _check_boxes(lineage["dataset"], "examples", f"{where}: field 'dataset'")
    _number(lineage, "seed", where, whole=True, least=None)
    continued = lineage.get("continued", [])
    _expect(
        isinstance(continued, list) and all(isinstance(one, Mapping) for one in continued),
        where, "continued", "a list of objects", continued,
    )  # fmt: skip
    broken = lineage.get("broken")
    _expect(
        broken is None or isinstance(broken, Mapping) and isinstance(broken.get("status"), str),
        where, "broken", "an object with a status", broken,
    )  # fmt: skip
    generations = _field(lineage, "generations", where)
    _expect(_filled(generations), where, "generations", "a list of at least one", generations)
    for index, record in enumerate(generations):
        _check_record(record, f"{where}: generations[{index}]")
    _check_alike(generations, where)


def scored(record: Record) -> tuple[str, ...]:
    """The measures that one generation's record has."""
    return tuple(name for name in MEASURES if record.get(name) is not None)


def learnt_nothing(record: Record) -> bool:
    """Whether all measures are 0: offspring of such an ancestor cannot be worse."""
    return not any(record[name] for name in scored(record))


def members_of(record: Record) -> Sequence[Record]:
    """The records of the networks that lived on: the generation's own where it was only one."""
    return record.get("members") or [record]


def _check_record(record: object, where: str) -> None:
    if not isinstance(record, Mapping):
        raise ValueError(f"{where}: expected an object, got {_kind(record)}")
    for name in _COUNTS:
        _number(record, name, where, whole=True)
    for name in _RATIOS:
        _number(record, name, where)
    for name in _OPTIONAL:
        if record.get(name) is not None:
            _number(record, name, where, least=None)
    _check_measures(record, where)
    _check_boxes(record, "detections", where)
    _check_members(record, where)
    layers = _field(record, "layers", where)
    _expect(_filled(layers), where, "layers", "a list of at least one", layers)
    for index, layer in enumerate(layers):
        inner = f"{where}: layers[{index}]"
        if not isinstance(layer, Mapping):
            raise ValueError(f"{inner}: expected an object, got {_kind(layer)}")
        _expect(isinstance(_field(layer, "name", inner), str), inner, "name", "text", layer["name"])
        for name in ("synapses", "clusters"):
            _number(layer, name, inner, whole=True)
        if layer.get("cluster_efficiency") is not None:
            _number(layer, "cluster_efficiency", inner)


def _check_measures(record: Mapping[str, Any], where: str) -> None:
    given = scored(record)
    if given not in (("accuracy",), ("precision", "recall")):
        raise ValueError(f"{where}: field 'accuracy' (or 'precision' and 'recall') is missing")
    for name in given:
        value = _number(record, name, where)
        _expect(value <= 1, where, name, "a fraction from 0 to 1", value)


def _check_boxes(owner: Mapping[str, Any], name: str, where: str) -> None:
    """Where a detector's pictures are shown: the boxes in each, by the image's name."""
    images = owner.get(name)
    if images is None:
        return
    _expect(isinstance(images, Mapping), where, name, "an object", images)
    for image, boxes in images.items():
        right = isinstance(boxes, list) and all(map(_is_box, boxes))
        _expect(right, f"{where}: {name}", image, "a list of boxes, four numbers each", boxes)


def _is_box(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 4 and all(type(n) in (int, float) for n in value)
    )


def _check_members(record: Mapping[str, Any], where: str) -> None:
    """Where several networks live on: how alike they are, and what each is."""
    if record.get("similarity") is not None:
        value = _number(record, "similarity", where)
        _expect(value <= 1, where, "similarity", "a fraction from 0 to 1", value)
    members = record.get("members")
    if members is None:
        return
    _expect(_filled(members), where, "members", "a list of at least one", members)
    for index, member in enumerate(members):
        inner = f"{where}: members[{index}]"
        if not isinstance(member, Mapping):
            raise ValueError(f"{inner}: expected an object, got {_kind(member)}")
        for name in _MEMBER:
            _number(member, name, inner, whole=True)
        _number(member, "train_seconds", inner)
        if member.get("crc32") is not None:
            _number(member, "crc32", inner, whole=True)
        _check_measures(member, inner)
        for name in _FITNESS:
            if member.get(name) is not None:
                value = _number(member, name, inner)
                _expect(value <= 1, inner, name, "a fraction from 0 to 1", value)
        parents = _field(member, "parents", inner)
        right = isinstance(parents, list) and all(type(one) is int and one >= 0 for one in parents)
        _expect(right, inner, "parents", "a list of whole numbers of at least 0", parents)


def _check_alike(generations: Sequence[Record], where: str) -> None:
    """Generations are numbered 1, 2, 3 and so on, with the ancestor's layers and measures."""
    ancestor = generations[0]
    for index, record in enumerate(generations):
        place = f"{where}: generations[{index}]"
        _expect(
            record["generation"] == index + 1, place, "generation", str(index + 1),
            record["generation"],
        )  # fmt: skip
        _check_parents(generations[max(index - 1, 0)], record, place)
        names = [[layer["name"] for layer in one["layers"]] for one in (ancestor, record)]
        if names[0] != names[1]:
            raise ValueError(
                f"{place}: field 'layers' names {names[1]}, expected the ancestor's {names[0]}"
            )
        if scored(record) != scored(ancestor):
            raise ValueError(f"{place}: expected the ancestor's {scored(ancestor)}")


def _check_parents(before: Record, record: Record, where: str) -> None:
    number = len(members_of(before))
    for index, member in enumerate(record.get("members") or []):
        right = all(parent < number for parent in member["parents"])
        right &= bool(member["parents"]) or record["generation"] == 1
        expected = f"places among the {number} of the generation before"
        _expect(right, f"{where}: members[{index}]", "parents", expected, member["parents"])


def _number(
    owner: Mapping[str, Any], name: str, where: str, *, whole: bool = False, least: float | None = 0
) -> float:
    value = _field(owner, name, where)
    kind = "a whole number" if whole else "a number"
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    _expect(right and -1e300 < value < 1e300, where, name, kind, value)
    _expect(least is None or value >= least, where, name, f"{kind} of at least {least}", value)
    return value


def _field(owner: Mapping[str, Any], name: str, where: str) -> Any:  # noqa: ANN401
    if name not in owner:
        raise ValueError(f"{where}: field '{name}' is missing")
    return owner[name]


def _expect(right: bool, where: str, name: str, expected: str, value: object) -> None:
    if not right:
        raise ValueError(f"{where}: field '{name}' is {value!r:.60}, expected {expected}")


def _filled(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0


def _kind(value: object) -> str:
    return type(value).__name__


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
