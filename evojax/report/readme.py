"""Writes the results' tables of a README from results/EXPERIMENT/TAG/lineage.json.

    python -m evojax.report.readme README.md            # rewrite what stands between the markers
    python -m evojax.report.readme README.md --check    # exit 1 where the README is out of date

A table stands between `<!-- results: EXPERIMENT -->` and `<!-- end -->`, and is never typed; one
between `<!-- benchmark: FILE -->` and `<!-- end -->` is that of results/FILE.json. With a table of
lineages results/EXPERIMENT/accuracy.png is drawn (the comparison looks at text only: two versions
of matplotlib do not draw the same bytes).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evojax.evolution.record import Lineage, load
from evojax.files import replace
from evojax.report import figures, text
from evojax.report.lineage import first_reaching, measures
from evojax.report.paper import Published, published
from evojax.report.tables import Column, Table

MARKED = re.compile(r"(<!-- results: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
BENCHMARK = re.compile(r"(<!-- benchmark: ([\w/-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SEEDED = re.compile(r"(.+)-seed\d+")
# Efficiencies to report beyond the papers' own, and those where the papers have none.
BEYOND = {"mnist_lenet": (250.0,)}
ROUND = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
# The method first, what it is measured against after it; others follow by name.
ORDER = ("best", "literal", "synapse-driven", "magnitude", "random")

Groups = Mapping[str, Sequence[Lineage]]


def update(readme: str, results: Path) -> str:
    """The text of a README with the tables between its markers made anew.

    Raises:
        ValueError: A marker has no results or no end, or a lineage.json is wrong.
    """
    for kind, marked in (("results", MARKED), ("benchmark", BENCHMARK)):
        if readme.count(f"<!-- {kind}:") != len(marked.findall(readme)):
            raise ValueError(
                f"README: a '<!-- {kind}: NAME -->' line has no '<!-- end -->' after it"
            )

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{section(match[2], collect(results / match[2]))}{match[4]}"

    def measured(match: re.Match[str]) -> str:
        return f"{match[1]}{benchmark(results / f'{match[2]}.json')}{match[4]}"

    return BENCHMARK.sub(measured, MARKED.sub(fill, readme))


def benchmark(path: Path) -> str:
    """The table of a benchmark, as the benchmark wrote it, and where it was measured.

    Raises:
        ValueError: The file is missing or is not what a benchmark writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        headings, *rows = content["table"]
        environment = content["environment"]
        cores = "1 core" if environment["cpus"] == 1 else f"{environment['cpus']} cores"
        versions = f"jax {environment['jax']}, {environment['device']}, {cores}"
        if environment.get("processor"):
            versions += f", {environment['processor']}"
        lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a benchmark's JSON with a table: {error!r}") from error
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n`{content['command']}` ({versions})\n"


def collect(folder: Path) -> Groups:
    """All lineages below `folder` by tag; TAG-seed0, TAG-seed1 ... are one tag, TAG.

    Raises:
        ValueError: There is none, or one is wrong or of another experiment than the folder's name.
    """
    groups: dict[str, list[Lineage]] = {}
    for path in sorted(folder.glob("*/lineage.json")):
        lineage = load(path)
        if lineage["experiment"] != folder.name:
            raise ValueError(
                f"{path}: field 'experiment' is {lineage['experiment']!r}, expected {folder.name!r}"
            )
        tag = path.parent.name
        seeded = SEEDED.fullmatch(tag)
        groups.setdefault(seeded[1] if seeded else tag, []).append(lineage)
    if not groups:
        raise ValueError(f"{folder}: expected TAG/lineage.json files, found none")
    rank = {tag: place for place, tag in enumerate(ORDER)}
    return dict(sorted(groups.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def table(groups: Groups, paper: Published | None, beyond: Sequence[float] = ()) -> Table:
    """A row for each of the paper's efficiencies, a column for the paper and for every tag.

    A cell is the accuracy of the first generation whose efficiency is at least the row's, and that
    generation's own efficiency; over several seeds the mean and the range.
    """
    names = measures(next(iter(groups.values()))[0])
    columns = [Column("A-E", "architectural_efficiency", text.times)]
    columns += [Column("paper", "paper", _shown)] if paper else []
    columns += [Column(tag, tag, _shown) for tag in groups]
    rows = []
    for ratio in _ratios(groups, paper, beyond):
        row: list[float | str | None] = [ratio]
        row += [_published(paper, ratio, names)] if paper else []
        row += [_reached(group, ratio, names) for group in groups.values()]
        rows.append(tuple(row))
    return Table("Results", tuple(columns), tuple(rows))


def section(experiment: str, groups: Groups) -> str:
    """What stands between the markers of `experiment`: picture, table, how to read it."""
    paper = published(experiment)
    names = " / ".join(measures(next(iter(groups.values()))[0]))
    seeds = ", ".join(
        f"{tag} {len(group)} seed{'s' * (len(group) > 1)}" for tag, group in groups.items()
    )
    some = any(len(group) > 1 for group in groups.values())
    ranges = " Over several seeds: the mean, and in brackets the range." if some else ""
    source = f" Paper: {paper.source}." if paper else ""
    return (
        f"![{experiment}: {names} against architectural efficiency]"
        f"(results/{experiment}/accuracy.png)\n\n"
        f"{table(groups, paper, BEYOND.get(experiment, ())).markdown()}\n"
        f"Test {names} in per cent of the first generation whose architectural efficiency (A-E) "
        f"is at least the row's, and that generation's own A-E.{ranges} Runs: {seeds}.{source}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m evojax.report.readme",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("readme", type=Path, help="the README; results/ is expected beside it")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if outdated")
    options = parser.parse_args(arguments)
    try:
        return _run(options.readme, options.check)
    except (OSError, ValueError) as error:
        print(f"evojax.report.readme: {error}", file=sys.stderr)
        return 2


def _run(readme: Path, check: bool) -> int:
    results = readme.parent / "results"
    before = readme.read_text(encoding="utf-8")
    after = update(before, results)
    if check:
        if before != after:
            command = f"python -m evojax.report.readme {readme}"
            print(f"{readme} is out of date; run: {command}", file=sys.stderr)
        return int(before != after)
    for _, experiment, _, _ in MARKED.findall(before):
        picture = figures.accuracy(collect(results / experiment), published(experiment))
        replace(results / experiment / f"{picture.name}.png", picture.png)
    replace(readme, after.encode())
    return 0


def _ratios(groups: Groups, paper: Published | None, beyond: Sequence[float]) -> list[float]:
    if paper:
        return [point.architectural_efficiency for point in paper.points] + list(beyond)
    runs = [lineage for group in groups.values() for lineage in group]
    return [ratio for ratio in ROUND if any(first_reaching(run, ratio) for run in runs)]


def _published(paper: Published, ratio: float, names: Sequence[str]) -> str | None:
    for point in paper.points:
        if point.architectural_efficiency == ratio:
            return " / ".join(text.percent(getattr(point, name)) for name in names)
    return None


def _reached(group: Sequence[Lineage], ratio: float, names: Sequence[str]) -> str | None:
    """What the seeds of a tag reach at `ratio`, None where none gets that far."""
    found = [record for run in group if (record := first_reaching(run, ratio)) is not None]
    if not found:
        return None
    scores = " / ".join(_spread([100 * record[name] for record in found]) for name in names)
    sizes = [record["architectural_efficiency"] for record in found]
    least, most = text.short_times(min(sizes)), text.short_times(max(sizes))
    at = least if least == most else f"{least.rstrip('×')}–{most}"
    missing = f", {len(found)} of {len(group)} seeds" if len(found) < len(group) else ""
    return f"{scores} at {at}{missing}"


def _spread(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.2f}–{max(values):.2f})"


def _shown(cell: str) -> str:
    """Not `str` itself: these are figures, set flush right."""
    return cell


if __name__ == "__main__":
    sys.exit(main())
