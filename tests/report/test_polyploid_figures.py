"""The third paper's figures: what is drawn, and that it can be read."""

from __future__ import annotations

import json
from itertools import combinations

import pytest

from evojax.report import polyploid
from evojax.report.cells import Cell, Terms, entry, grouped, read, spread, table
from evojax.report.polyploid import pictures
from evojax.report.style import LIGHT, png

WHAT = "LeNet on mnist, 5,999 training images"


def cell(share, tagging, parents, seed, generations=8):
    steps = range(generations)
    left = [share ** (2 * step) for step in steps]
    return Cell(
        share, tagging, parents, seed,
        accuracy=tuple(max(0.1, 0.99 - 0.003 / x - 0.001 * seed) for x in left),
        bytes_sparse=tuple(576_000 * x for x in left),
        architectural_efficiency=tuple(1 / x for x in left),
        similarity=tuple((0.5 + 0.1 * bool(tagging)) ** (step * (1 - share)) for step in steps),
        cumulative_seconds=tuple(20.0 + 40 * step for step in steps),
    )  # fmt: skip


def cells(shares, kinds, seeds=2):
    return [cell(share, *kind, seed) for share in shares for kind in kinds for seed in range(seeds)]


BOTH = ((True, 5), (False, 5))
FEW = cells((0.5, 0.65, 0.8, 0.95), BOTH)
MANY = cells(
    [0.5 + 0.05 * step for step in range(10)], (*BOTH, (True, 2), (False, 2), (None, 1)), 3
)
ONE = cells((0.8,), ((True, 5), (True, 2), (None, 1)), 3)


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(polyploid, "png", lambda figure: figures.append(figure) or png(figure))

    def draw(cells):
        figures.clear()
        return dict(zip((p.name for p in pictures(cells, WHAT)), figures, strict=True))

    return draw


def test_the_right_series(drawn):
    figures = drawn(FEW)
    assert list(figures) == ["generations", "time", "storage", "similarity"]
    for name in ("generations", "time"):
        axes = figures[name].axes
        assert len(axes) == 4
        for place, panel in enumerate(axes):
            lines = [line for line in panel.lines if len(line.get_xdata()) == 8]
            look = ("D", "-") if place < 2 else ("o", "--")
            assert {(line.get_marker(), line.get_linestyle()) for line in lines} == {look}
            assert len({line.get_color() for line in lines}) == len(lines) == 4
            assert len(panel.collections) == 4  # Bands.
    smallest = figures["generations"].axes[1].lines[0]
    assert list(smallest.get_xdata()) == list(range(1, 9))
    assert smallest.get_ydata()[:2] == pytest.approx([576_000, 144_000])
    assert list(figures["time"].axes[0].lines[0].get_xdata())[:3] == [1, 3, 5]
    marks = [line for line in figures["storage"].axes[0].lines if len(line.get_xdata()) == 8]
    assert len(marks) == len(FEW)
    assert {line.get_linestyle() for line in marks} == {"None"}
    assert {line.get_marker() for line in marks} == {"D", "o"}


def test_numbers_of_parents_are_compared_at_equal_share(drawn):
    figures = drawn(MANY)
    assert list(figures)[-1] == "parents"
    assert len(figures["parents"].axes) == 10
    for axes in figures["parents"].axes:
        lines = [line for line in axes.lines if len(line.get_xdata()) == 8]
        assert len(lines) == 5
        assert len({line.get_color() for line in lines}) == 3
    # The others are of five parents.
    assert len(figures["generations"].axes) == 4


def test_a_single_plot_leaves_no_room_for_a_second(drawn):
    (axes,) = drawn(ONE)["parents"].axes
    assert axes.get_position().width > 0.4


@pytest.mark.parametrize(
    "cells", [FEW, MANY, ONE, [cell(1.0, None, 1, 0, 2)], [cell(0.8, True, 5, 0, 1)]]
)
def test_the_pictures_are_legible(drawn, cells):
    for figure in drawn(cells).values():
        texts = [text for text in figure.texts if text.get_text()]
        for axes in figure.axes:
            texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes._left_title]
            for axis, span in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                ticks = axis.get_major_ticks()
                texts += [t.label1 for t in ticks if min(span) <= t.get_loc() <= max(span)]
        boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text()]
        for text, box in boxes:
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
        for (text, box), (other, beside) in combinations(boxes, 2):
            assert not box.overlaps(beside), (text, other)


def test_pictures_are_pngs_with_words():
    for picture in pictures(FEW, WHAT):
        assert picture.png[1:4] == b"PNG"
        assert "R 50 %" in picture.alt
    assert all("R 80 %, 1 parent: " in p.alt for p in pictures([cell(0.8, None, 1, 0)], WHAT)[:3])
    with pytest.raises(ValueError, match="at least one cell"):
        pictures([], WHAT, LIGHT)


def test_a_spread_is_over_the_seeds_that_got_there():
    both = [cell(0.8, True, 5, 0, 3), cell(0.8, True, 5, 2, 2)]
    means, deviations = spread(both, lambda one: one.accuracy)
    assert len(means) == 3
    assert means[0] == pytest.approx(0.986)
    assert deviations[0] == pytest.approx(0.002 / 2**0.5)
    assert (means[2], deviations[2]) == (both[0].accuracy[2], 0.0)
    assert list(grouped(both)) == [Terms(0.8, True, 5)]


def test_the_table_says_how_accurate_and_how_small():
    shown = table([*cells((0.5,), ((True, 5), (None, 1)))])
    single, tagged = shown.cells()
    assert single[:5] == ["50", "—", "1", "2", "8"]
    assert tagged[1:5] == ["on", "5", "2", "8"]
    assert tagged[5:8] == ["16,384.00×", "10.00 ± 0.00", "97.75 ± 0.07"]
    assert tagged[8:10] == ["94.15 ± 0.07", "79.75 ± 0.07"]


@pytest.mark.parametrize(
    "text",
    [
        None, "{", "[]", '{"cells": []}', '{"cells": [{"share": 0.5}]}',
        '{"methods": [{"name": "x"}]}',
    ],
)  # fmt: skip
def test_another_file_is_named(tmp_path, text):
    path = tmp_path / "polyploid.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"polyploid\.json: expected the JSON that experiments/"):
        read(path)


def test_cells_are_read_back(tmp_path, make):
    lineage = make(3)
    written = entry(Terms(0.8, True, 5), lineage)
    assert written["cumulative_seconds"] == pytest.approx([12.3, 25.6, 39.9])
    path = tmp_path / "polyploid.json"
    path.write_text(json.dumps({"cells": [written]}))
    (one,) = read(path)
    assert one.terms == Terms(0.8, True, 5)
    assert one.accuracy == tuple(record["accuracy"] for record in lineage["generations"])
    written["accuracy"] = written["accuracy"][:2]
    path.write_text(json.dumps({"cells": [written]}))
    with pytest.raises(ValueError, match="not of one length"):
        read(path)
