"""What the third paper's experiment measured, cell by cell, as JSON and as a table.

A cell is one lineage: a surviving share R of clusters and of synapses, tagging on or off, a number
of parents and a seed.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from evojax.evolution.record import Lineage, Record, members_of
from evojax.report import comparison, text
from evojax.report.comparison import deviation, shown_as_is
from evojax.report.tables import Column, Table

STORAGE = (4.0, 16.0, 64.0)
"""How much smaller than the ancestor's the storage sizes are that the table shows."""


class Cell(NamedTuple):
    """One lineage; what is a sequence has an entry for each generation, the ancestor's first.

    Attributes:
        share: surviving share of clusters and of synapses, R.
        tagging: whether parents are aligned by gene tags; None where there is only one.
        parents: of every offspring.
        seed: of the lineage.
        accuracy: mean over the networks that live on, a fraction of the test images.
        bytes_sparse: mean storage size.
        architectural_efficiency: the ancestor's synapses over the networks' mean.
        similarity: within the generation.
        cumulative_seconds: computing time up to the generation's end, compilation included.
    """

    share: float
    tagging: bool | None
    parents: int
    seed: int
    accuracy: tuple[float, ...]
    bytes_sparse: tuple[float, ...]
    architectural_efficiency: tuple[float, ...]
    similarity: tuple[float, ...]
    cumulative_seconds: tuple[float, ...]

    @property
    def terms(self) -> Terms:
        """All but the seed."""
        return Terms(self.share, self.tagging, self.parents)

    @property
    def storage_reduction(self) -> tuple[float, ...]:
        """The ancestor's storage size over the networks' own."""
        return tuple(self.bytes_sparse[0] / size for size in self.bytes_sparse)

    @property
    def relative_time(self) -> tuple[float, ...]:
        """Computing time in multiples of the ancestor's own."""
        return tuple(time / self.cumulative_seconds[0] for time in self.cumulative_seconds)


COLUMNS = Cell._fields[4:]


class Terms(NamedTuple):
    """What cells that differ only in their seed have in common."""

    share: float
    tagging: bool | None
    parents: int


Groups = Mapping[Terms, Sequence[Cell]]


def entry(terms: Terms, lineage: Lineage) -> dict[str, Any]:
    """A cell's part of the JSON: its terms, how it ended, where it ran, and its generations."""
    records = lineage["generations"]
    synapses = [statistics.fmean(_each(record, "synapses")) for record in records]
    accuracies = [_each(record, "accuracy") for record in records]
    return {
        **terms._asdict(),
        "seed": lineage["seed"],
        "status": lineage["status"],
        **{key: lineage["environment"].get(key) for key in ("jax", "device", "git")},
        "accuracy": list(map(statistics.fmean, accuracies)),
        "accuracy_min": list(map(min, accuracies)),
        "accuracy_max": list(map(max, accuracies)),
        "accuracies": accuracies,
        "bytes_sparse": [statistics.fmean(_each(record, "bytes_sparse")) for record in records],
        "synapses": synapses,
        "architectural_efficiency": [synapses[0] / max(count, 1) for count in synapses],
        "similarity": [record.get("similarity", 1.0) for record in records],
        "cumulative_seconds": list(accumulate(record["train_seconds"] for record in records)),
    }


def read(path: Path) -> tuple[Cell, ...]:
    """The cells of the experiment's JSON.

    Raises:
        ValueError: The file is missing or holds something else.
    """
    try:
        cells = tuple(map(_cell, json.loads(path.read_text(encoding="utf-8"))["cells"]))
        if not cells:
            raise ValueError("it has no cells")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the JSON that experiments/mnist_polyploid.py writes: {error!r}"
        ) from error
    return cells


def grouped(cells: Sequence[Cell]) -> Groups:
    """The cells by their terms: by share, then by parents, with tagging before without."""
    groups: dict[Terms, list[Cell]] = {}
    for cell in sorted(cells, key=lambda one: (one.share, one.parents, not one.tagging, one.seed)):
        groups.setdefault(cell.terms, []).append(cell)
    return groups


def spread(
    cells: Sequence[Cell], values: Callable[[Cell], Sequence[float]]
) -> tuple[list[float], list[float]]:
    """Means and standard deviations over the seeds, generation by generation.

    Of each generation those cells count that got there; a single one has a deviation of 0.
    """
    columns = [values(cell) for cell in cells]
    rows = [
        [column[index] for column in columns if index < len(column)]
        for index in range(max(map(len, columns)))
    ]
    return list(map(statistics.fmean, rows)), list(map(deviation, rows))


def table(cells: Sequence[Cell]) -> Table:
    """A row for cells that differ only in their seed: what the last generation is, and accuracy.

    Accuracies are means over the networks that live on and over the seeds, in per cent, with the
    standard deviation over the seeds: of the last generation, and of the first one whose storage
    size is 1/4, 1/16 and 1/64 of the ancestor's or less.
    """
    columns = [
        Column("R, %", "share"),
        Column("tagging", "tagging", shown_as_is),
        Column("parents", "parents", text.count),
        Column("seeds", "seeds", text.count),
        Column("generations", "generations", shown_as_is),
        Column("A-E of\nthe last", "architectural_efficiency", text.times),
        Column("accuracy of\nthe last, %", "accuracy", shown_as_is),
        *(
            Column(f"at {size:g}× less\nstorage", f"storage_{size:g}", shown_as_is)
            for size in STORAGE
        ),
        Column("similarity\nof the last, %", "similarity", shown_as_is),
    ]
    rows = [_row(terms, group) for terms, group in grouped(cells).items()]
    return Table("Accuracy by environment, tagging and parents", tuple(columns), tuple(rows))


def _row(terms: Terms, cells: Sequence[Cell]) -> tuple[Any, ...]:
    counts = [len(cell.accuracy) for cell in cells]
    least, most = min(counts), max(counts)
    runs = (comparison.Run(cell.seed, cell.storage_reduction, cell.accuracy) for cell in cells)
    method = comparison.Method("", tuple(runs))
    return (
        f"{100 * terms.share:g}",
        None if terms.tagging is None else "on" if terms.tagging else "off",
        terms.parents,
        len(cells),
        f"{least}" if least == most else f"{least}–{most}",
        statistics.fmean(cell.architectural_efficiency[-1] for cell in cells),
        _percent([cell.accuracy[-1] for cell in cells]),
        *(comparison.cell(method, size) for size in STORAGE),
        _percent([cell.similarity[-1] for cell in cells], 1),
    )


def _cell(entry: Mapping[str, Any]) -> Cell:
    tagging = entry["tagging"]
    if tagging is not None and not isinstance(tagging, bool):
        raise TypeError(f"tagging is {tagging!r}")
    columns = [tuple(map(float, entry[name])) for name in COLUMNS]
    if len(set(map(len, columns))) > 1 or not columns[0]:
        raise ValueError(f"seed {entry['seed']}: its columns are not of one length")
    return Cell(float(entry["share"]), tagging, int(entry["parents"]), int(entry["seed"]), *columns)


def _each(record: Record, name: str) -> list[float]:
    """A figure of every network that lives on."""
    return [member[name] for member in members_of(record)]


def _percent(fractions: Sequence[float], digits: int = 2) -> str:
    words = text.percent(statistics.fmean(fractions), digits)
    if len(fractions) > 1:
        words += f" ± {text.percent(deviation(fractions), digits)}"
    return words
