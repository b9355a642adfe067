"""The tables' rows and numbers, and that their four forms say the same."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from evojax.report import tables, text
from evojax.report.paper import PUBLISHED

Make = Callable[..., dict[str, Any]]


def _printed(table: tables.Table, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table.rich())
    return out.getvalue()


def test_a_row_for_each_generation(lineage: dict[str, Any]) -> None:
    table = tables.generations(lineage)
    rows = table.cells()
    assert len(rows) == 13
    assert rows[0] == [
        "1", "1.00×", "99.50", "143,978", "7,200", "1.00×", "1.00×", "10.7 M", "0:00:12"
    ]  # fmt: skip
    heads = [column.title.replace("\n", " ") for column in table.headings()]
    assert heads == [
        "Gen.", "A-E", "Accuracy %", "Synapses", "Clusters", "C-E", "pooled", "MACs",
        "Training h:m:s",
    ]  # fmt: skip


def test_headings_that_are_no_words_are_explained_on_a_terminal(lineage: dict[str, Any]) -> None:
    table = tables.generations(lineage)
    printed = " ".join(_printed(table).split())
    for words in ("pooled: all clusters, ancestor over offspring", "MACs: multiply-accumulates of"):
        assert words in printed
        assert words not in table.markdown() and words not in table.csv()


def test_detection_has_precision_and_recall(make: Make) -> None:
    table = tables.generations(make(2, detection=True, ancestor=0.7803))
    titles = [column.name for column in table.headings()]
    assert titles[2:4] == ["precision", "recall"]
    assert table.cells()[0][2:4] == ["78.03", "62.03"]


def test_what_a_run_did_not_measure_is_a_dash(lineage: dict[str, Any]) -> None:
    for record in lineage["generations"]:
        del record["macs"]
        record["train_seconds"] = None
    assert tables.generations(lineage).cells()[0][-2:] == ["—", "—"]


def test_csv_has_raw_values_and_every_layer(lineage: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.generations(lineage).csv())))
    last, record = rows[-1], lineage["generations"][-1]
    assert len(rows) == 13
    assert float(last["architectural_efficiency"]) == record["architectural_efficiency"]
    assert float(last["accuracy"]) == record["accuracy"]
    assert int(last["bytes_sparse"]) == record["bytes_sparse"]
    assert int(last["synapses:conv2"]) == record["layers"][1]["synapses"]
    assert int(last["clusters:dense2"]) == record["layers"][4]["clusters"]


def test_csv_has_all_measures_of_a_detector(make: Make) -> None:
    detector = make(2, detection=True)
    for record in detector["generations"]:
        record |= {"whole_recall": 0.5, "average_precision": {"easy": 0.75, "hard": 0.25}}
    table = tables.generations(detector)
    first, _ = csv.DictReader(io.StringIO(table.csv()))
    assert (first["whole_recall"], first["average_precision.easy"]) == ("0.5", "0.75")
    assert first["average_precision.hard"] == "0.25" and "train_recall" not in first
    assert "whole_recall" not in table.markdown()


def test_layers_end_in_the_mean_without_the_classifier(lineage: dict[str, Any]) -> None:
    table = tables.layers(lineage)
    rows = {row[0]: row for row in table.rows}
    efficiencies = [rows[name][3] for name in ("conv1", "conv2", "conv3", "dense1")]
    whole = rows["Whole network"]
    assert whole[3] == pytest.approx(sum(efficiencies) / 4)
    assert rows["dense2 (classifier)"][3] is None
    assert rows["conv2"][1] == 1024 and rows["conv2"][4] == 25632
    assert whole[4] == 143978
    assert whole[6] == lineage["generations"][-1]["architectural_efficiency"]
    assert table.totals


def test_the_papers_cluster_efficiencies_stand_beside(lineage: dict[str, Any]) -> None:
    table = tables.layers(lineage, PUBLISHED["mnist_lenet"])
    assert [row[-1] for row in table.rows] == [3.6, 12.96, 8.83, 13.47, None, 9.71]
    assert "paper: generation 13" in table.title


@pytest.mark.parametrize(("name", "mean"), [("cifar_resnet56", 2.25), ("kitti_detectnet", 8.16)])
def test_where_the_papers_print_only_the_mean_it_stands_alone(
    lineage: dict[str, Any], name: str, mean: float
) -> None:
    table = tables.layers(lineage, PUBLISHED[name])
    assert [row[-1] for row in table.rows] == [None] * 5 + [mean]
    assert f"paper: generation {PUBLISHED[name].clusters.generation}" in table.title


def test_a_paper_with_other_layers_does_not(lineage: dict[str, Any]) -> None:
    assert tables.layers(lineage, PUBLISHED["cifar_alexnet"]) == tables.layers(lineage)


def test_a_layer_that_died_out_has_no_efficiency(make: Make) -> None:
    lineage = make(2)
    lineage["generations"][1]["layers"][0] |= {"synapses": 0, "clusters": 0}
    assert tables.layers(lineage).cells()[0][1:] == ["32", "0", "—", "832", "0", "—"]


def test_one_layer_counts_although_it_is_the_last(make: Make) -> None:
    lineage = make(2, {"dense": 640}, {"dense": 640})
    rows = tables.layers(lineage).rows
    assert rows[0][0] == "dense" and rows[0][3] == rows[-1][3]


def test_the_comparison_takes_the_first_generation_that_is_as_small(make: Make) -> None:
    lineage = make(5)
    for record, ratio in zip(lineage["generations"], (1, 4, 6, 13, 32.22), strict=True):
        record["architectural_efficiency"] = float(ratio)
    rows = tables.comparison(lineage, PUBLISHED["mnist_lenet"]).cells()
    assert [row[0] for row in rows] == [
        "1.00×", "5.20×", "12.09×", "32.23×", "62.74×", "125.09×"
    ]  # fmt: skip
    assert rows[1] == ["5.20×", "99.41", "6.00×", "99.50", "3"]
    assert rows[2][2:] == ["13.00×", "99.50", "4"]
    assert rows[3][2:] == ["—", "—", "—"]
    assert rows[-1] == ["125.09×", "97.75", "—", "—", "—"]


def test_markdown_has_a_row_for_each_row_and_escapes() -> None:
    columns = (tables.Column("Layer", "layer"), tables.Column("A\nB", "n", text.count))
    lines = tables.Table("t", columns, (("a|b <c>", 1234), ("d", None))).markdown().splitlines()
    assert lines == [
        "| Layer | A B |",
        "| --- | ---: |",
        "| a\\|b &lt;c> | 1,234 |",
        "| d | — |",
    ]


def test_no_figure_is_cut_short_on_a_terminal_of_80_columns(
    lineage: dict[str, Any], make: Make
) -> None:
    paper = PUBLISHED["mnist_lenet"]
    lineage["generations"][-1]["train_seconds"] = 45_840.0
    detector = make(11, detection=True)
    large = {"synapses": 5_971_397, "clusters": 2_629_056, "macs": 18_600_000_000}
    detector["generations"][-1] |= {**large, "train_seconds": 45_840.0}
    for table in (
        tables.generations(lineage),
        tables.generations(detector),
        tables.layers(lineage, paper),
        tables.comparison(lineage, paper),
    ):
        printed = _printed(table)
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= 80
        for row in table.cells():
            assert all(cell in printed for cell in row[1:])


def test_names_are_no_markup() -> None:
    table = tables.Table("[red]t", (tables.Column("[b]x", "x"),), (("[link=a]y",),))
    printed = _printed(table)
    assert "[red]t" in printed and "[b]x" in printed and "[link=a]y" in printed


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.percent(0.9947), "99.47"),
        (text.percent(0.9947, 1), "99.5"),
        (text.percent(None), "—"),
        (text.times(125.0895), "125.09×"),
        (text.times(float("inf")), "—"),
        (text.short_times(5.2), "5.20×"),
        (text.short_times(32.23), "32.2×"),
        (text.short_times(1251.4), "1,251×"),
        (text.fold(125.09), "125-fold"),
        (text.fold(5.2), "5.2-fold"),
        (text.fold(99.96), "100-fold"),
        (text.size(575912), "576 kB"),
        (text.size(999), "999 B"),
        (text.size(999_700), "1.00 MB"),
        (text.operations(10_700_000), "10.7 M"),
        (text.operations(950), "950"),
        (text.duration(4.24), "4.2 s"),
        (text.duration(59.97), "1 min 00 s"),
        (text.duration(185), "3 min 05 s"),
        (text.duration(7620), "2 h 07 min"),
        (text.clock(59.6), "0:01:00"),
        (text.clock(7628), "2:07:08"),
        (text.decimal(0.123456), "0.1235"),
    ],
)
def test_numbers_as_a_reader_likes_them(shown: str, expected: str) -> None:
    assert shown == expected


def test_large_counts_beside_a_papers_are_not_cut_short(lineage: dict[str, Any]) -> None:
    """AlexNet's dense layers have 16,777,216 synapses each, and as many clusters."""
    first, last = lineage["generations"][0], lineage["generations"][-1]
    for layer in first["layers"]:
        layer |= {"clusters": 16_777_216, "synapses": 16_777_216}
    for layer in last["layers"]:
        layer |= {"clusters": 10_122_537, "synapses": 10_122_537}
    last |= {"architectural_efficiency": 1.66, "cluster_efficiency": 1.66}
    theirs = dataclasses.replace(PUBLISHED["cifar_alexnet"].clusters, layers=(2.01, 3.1, 3.5, 1.51))
    paper = dataclasses.replace(PUBLISHED["cifar_alexnet"], clusters=theirs)
    table = tables.layers(lineage, paper)
    printed = _printed(table).split()
    assert {cell for row in table.cells() for cell in row[1:]} <= set(printed)
