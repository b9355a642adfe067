"""The papers' tables, from a lineage: one model of rows, shown on a terminal, in Markdown or CSV.

A `Table` holds raw values; each `Column` knows how a person reads them. So the terminal, the
README, the page and the CSV cannot disagree.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from evojax.evolution.record import Lineage, Record
from evojax.report import text
from evojax.report.lineage import first_reaching, measures, survivors
from evojax.report.paper import Published

_TERMINAL = 80  # characters, of the usual one


@dataclass(frozen=True)
class Column:
    """One column: its heading, its name in a CSV file, and how its values are shown.

    A line break in the heading is one on a terminal, where width is scarce, and a space elsewhere.
    `shown` is False for what only the CSV file carries.
    """

    title: str
    name: str
    show: Callable[[Any], str] = str
    shown: bool = True

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers, which are set flush right."""
        return self.show is not str


@dataclass(frozen=True)
class Table:
    """A title, columns, and rows of raw values (None where there is none).

    `totals`: the last row sums up those above it. `note`: explains the headings on a terminal; the
    page has a list of terms.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    totals: bool = False
    note: str = ""

    def headings(self) -> tuple[Column, ...]:
        """The columns a person sees."""
        return tuple(column for column in self.columns if column.shown)

    def cells(self) -> list[list[str]]:
        """The rows as a person sees them."""
        return [
            [
                text.NOTHING if value is None else column.show(value)
                for column, value in zip(self.columns, row, strict=True)
                if column.shown
            ]
            for row in self.rows
        ]

    def as_lists(self) -> list[list[str]]:
        """The headings, each on one line, and the rows as a person sees them: what JSON holds."""
        return [[column.title.replace("\n", " ") for column in self.headings()], *self.cells()]

    def rich(self) -> RichTable:
        """A rich renderable: `rich.print(table.rich())`.

        Columns that would not fit into 80 characters stand closer together.
        """
        cells, headings = self.cells(), self.headings()
        # Where there is no room, names are folded, but no figure is ever cut short.
        widths = [
            max(map(len, [*column.title.split("\n"), *(row[index] for row in cells)]))
            if column.numeric
            else 9
            for index, column in enumerate(headings)
        ]
        wide = 2 + sum(widths) + 2 * (len(widths) - 1)
        table = RichTable(
            title=Text(self.title),
            title_justify="left",
            title_style="bold",
            caption=Text(self.note) if self.note else None,
            caption_justify="left",
            box=box.SIMPLE,
            pad_edge=False,
            collapse_padding=True,
            padding=(0, 1 if wide <= _TERMINAL else 0),
        )
        for column, width in zip(headings, widths, strict=True):
            table.add_column(
                Text(column.title),
                justify="right" if column.numeric else "left",
                min_width=width,
                overflow="fold",
            )
        for index, row in enumerate(cells):
            table.add_row(*map(Text, row), end_section=self.totals and index == len(cells) - 2)
        return table

    def markdown(self) -> str:
        """A GitHub-flavoured Markdown table, without the title."""
        heads = [column.title for column in self.headings()]
        rules = ["---:" if column.numeric else "---" for column in self.headings()]
        return "\n".join(map(_markdown_row, [heads, rules, *self.cells()])) + "\n"

    def csv(self) -> str:
        """All columns, raw values, a header line; what is missing is empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(column.name for column in self.columns)
        writer.writerows(self.rows)
        return out.getvalue()


def generations(lineage: Lineage) -> Table:
    """A row for each generation: Gen., A-E, accuracy, synapses, clusters, C-E and what it cost.

    C-E is the papers' E, the unweighted mean over the layers, classifier left out; "pooled" is the
    ratio of the totals. The CSV also has the loss, sizes, a detector's other measures and every
    layer's counts.
    """
    columns = (
        Column("Gen.", "generation", text.count),
        Column("A-E", "architectural_efficiency", text.times),
        *(Column(f"{name.capitalize()}\n%", name, text.percent) for name in measures(lineage)),
        Column("Synapses", "synapses", text.count),
        Column("Clusters", "clusters", text.count),
        Column("C-E", "cluster_efficiency", text.times),
        Column("pooled", "cluster_efficiency_pooled", text.times),
        Column("MACs", "macs", text.operations),
        Column("Training\nh:m:s", "train_seconds", text.clock),
        Column("Loss", "loss", text.decimal, shown=False),
        Column("Epochs", "epochs", text.count, shown=False),
        Column("Dense", "bytes_dense", text.size, shown=False),
        Column("Sparse", "bytes_sparse", text.size, shown=False),
        *(Column(name, name, text.percent, shown=False) for name in _further(lineage)),
    )
    names = [layer["name"] for layer in lineage["generations"][0]["layers"]]
    hidden = [
        Column(f"{name} {kind}", f"{kind}:{name}", text.count, shown=False)
        for name in names
        for kind in ("synapses", "clusters")
    ]
    rows = tuple(
        (
            *(_measured(record, column.name) for column in columns),
            *(layer[kind] for layer in record["layers"] for kind in ("synapses", "clusters")),
        )
        for record in lineage["generations"]
    )
    note = (
        "C-E: mean over the layers; pooled: all clusters, ancestor over offspring. "
        "MACs: multiply-accumulates of an image, those with pruned weights left out."
    )
    return Table("Generations", (*columns, *hidden), rows, note=note)


def _further(lineage: Lineage) -> list[str]:
    """A detector's measures beside the papers'; those of several levels are ``name.level``."""
    first = lineage["generations"][0]
    plain = ("whole_precision", "whole_recall", "train_precision", "train_recall")
    levels = [f"average_precision.{level}" for level in first.get("average_precision", {})]
    return [name for name in plain if name in first] + levels


def _measured(record: Record, name: str) -> float | None:
    outer, _, inner = name.partition(".")
    return record.get(outer, {}).get(inner) if inner else record.get(outer)


def layers(lineage: Lineage, paper: Published | None = None) -> Table:
    """A row for each layer: clusters and synapses of the first and the last generation, C-E, A-E.

    The last row is the whole network: its C-E is E, the unweighted mean of the layers above
    without the classifier; its counts of clusters leave the classifier out too, its synapses
    do not. With `paper`, the papers' C-E stand beside (Tables 2 and 3 of 2016); of networks of
    which they print only E, that alone (Tables V and VI of 2017).
    """
    first, last = lineage["generations"][0], lineage["generations"][-1]
    begin, end = f"\ngen. {first['generation']}", f"\ngen. {last['generation']}"
    counted = survivors(lineage)
    theirs = _paper_efficiencies(paper, len(counted), len(first["layers"]))
    columns = [
        Column("Layer", "layer"),
        Column(f"Clusters{begin}", "clusters_first", text.count),
        Column(f"Clusters{end}", "clusters_last", text.count),
        Column("C-E", "cluster_efficiency", text.times),
        Column(f"Synapses{begin}", "synapses_first", text.count),
        Column(f"Synapses{end}", "synapses_last", text.count),
        Column("A-E", "architectural_efficiency", text.times),
    ]
    if theirs and paper:
        columns.append(Column("Paper\nC-E", "paper", text.times))
    output = "classifier" if measures(lineage) == ("accuracy",) else "output"
    rows = []
    for index, (before, after) in enumerate(zip(first["layers"], last["layers"], strict=True)):
        counts = before["name"] in counted
        efficiency = _ratio(before["clusters"], after["clusters"]) if counts else None
        name = before["name"] if counts else f"{before['name']} ({output})"
        row = [name, before["clusters"], after["clusters"], efficiency]
        row += [before["synapses"], after["synapses"]]
        row += [_ratio(before["synapses"], after["synapses"])]
        rows.append((*row, *theirs[index : index + 1]))
    whole = [
        "Whole network",
        first["clusters"],
        last["clusters"],
        last["cluster_efficiency"],
    ]
    whole += [first["synapses"], last["synapses"], last["architectural_efficiency"]]
    rows.append((*whole, *theirs[-1:]))
    title = "Layers, first and last generation"
    title += f" (paper: generation {paper.clusters.generation})" if theirs and paper else ""
    return Table(title, tuple(columns), tuple(rows), totals=True)


def comparison(lineage: Lineage, paper: Published) -> Table:
    """A row for each published generation, beside the first of ours that is at least as small.

    A dash where the run did not get that far.
    """
    names = [name for name in measures(lineage) if getattr(paper.points[0], name) is not None]
    columns = [Column("Paper\nA-E", "paper_architectural_efficiency", text.times)]
    columns += [Column(f"Paper\n{name} %", f"paper_{name}", text.percent) for name in names] + [
        Column("Here\nA-E", "architectural_efficiency", text.times)
    ]
    columns += [Column(f"Here\n{name} %", name, text.percent) for name in names]
    columns += [Column("Here\ngen.", "generation", text.count)]
    rows = []
    for point in paper.points:
        record = first_reaching(lineage, point.architectural_efficiency) or {}
        ours = [record.get(key) for key in ("architectural_efficiency", *names, "generation")]
        theirs = [point.architectural_efficiency, *(getattr(point, name) for name in names)]
        rows.append((*theirs, *ours))
    return Table("Beside the paper", tuple(columns), tuple(rows))


def _paper_efficiencies(
    paper: Published | None, counted: int, layers: int
) -> tuple[float | None, ...]:
    """The paper's C-E of each layer, None where it prints none, then E; empty of another network.

    Args:
        paper: what was published, if anything was.
        counted: how many layers count in the cluster efficiency, the first ones.
        layers: how many there are.
    """
    if paper is None or len(paper.clusters.layers) not in (0, counted):
        return ()
    theirs = paper.clusters.layers
    return (*theirs, *[None] * (layers - len(theirs)), paper.clusters.mean)


def _ratio(ancestor: int, offspring: int) -> float | None:
    return ancestor / offspring if offspring else None


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(cell: str) -> str:
    for character, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        cell = cell.replace(character, instead)
    return cell
