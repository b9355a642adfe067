"""What a compacted network is left with, layer by layer."""

from __future__ import annotations

import math

from evojax.deploy import Cost, Report
from evojax.report import text
from evojax.report.tables import Column, Table


def widths(report: Report, dense: Cost, masked: Cost, compacted: Cost) -> Table:
    """A row for each layer with a kernel: its width, its arrays' entries and what it multiplies.

    The last row sums up all variables, normalisation among them. MACs are an image's.

    Args:
        report: of the compaction.
        dense: what the network costs without masks.
        masked: with them, if pruned weights cost nothing.
        compacted: what is left.
    """
    columns = (
        Column("Layer", "layer"),
        Column("Width\nbefore", "width_before", text.count),
        Column("after", "width_after", text.count),
        Column("Entries\nbefore", "entries_before", text.count),
        Column("after", "entries_after", text.count),
        Column("MACs\ndense", "macs_dense", text.operations),
        Column("masked", "macs_masked", text.operations),
        Column("compacted", "macs_compacted", text.operations),
    )
    products = [cost.macs_by_path for cost in (dense, masked, compacted)]
    rows = []
    for variable in report.variables:
        if variable.path in products[0]:
            inside = variable.path.rpartition("/")[0]
            members = [v for v in report.variables if v.path.rpartition("/")[0] == inside]
            rows.append((
                inside.removeprefix("params/") or variable.path,
                variable.before[-1],
                variable.after[-1],
                sum(math.prod(member.before) for member in members),
                sum(math.prod(member.after) for member in members),
                *(macs.get(variable.path, 0) for macs in products),
            ))  # fmt: skip
    entries = (report.parameters_before, report.parameters_after)
    totals = (dense.macs, masked.macs, compacted.macs)
    rows.append(("Whole network", None, None, *entries, *totals))
    return Table("Layers, compacted", columns, tuple(rows), totals=True)
