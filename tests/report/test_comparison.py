"""Methods beside each other: numbers, cells, what is written, a picture that can be read."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from matplotlib.figure import Figure

from evojax.report import comparison
from evojax.report.comparison import Method, Run, accuracy, at, publish, read, table
from evojax.report.readme import benchmark
from evojax.report.style import DARK, LIGHT, png

SIZES = (1.0, 4.001, 8.01, 16.05)


def method(name, *rows):
    runs = (Run(seed, SIZES[: len(row)], tuple(row)) for seed, row in enumerate(rows))
    return Method(name, tuple(runs))


OURS = method("ours", (0.99, 0.98, 0.97, 0.95), (0.99, 0.982, 0.974, 0.96))
OTHER = method("other", (0.99, 0.985, 0.96, 0.90), (0.98, 0.975, 0.95))


def content(*methods):
    return {
        "benchmark": "methods",
        "command": "python benchmarks/methods.py",
        "environment": {"jax": "0.10.2", "device": "cpu", "cpus": 2},
        "methods": [
            {
                "name": m.name,
                "runs": [
                    {
                        "seed": run.seed,
                        "architectural_efficiency": run.efficiencies,
                        "accuracy": run.accuracies,
                    }
                    for run in m.runs
                ],
            }
            for m in methods
        ],
    }


def test_a_spread_is_over_the_seeds_that_got_there():
    spread = at(OURS, 4.0)
    assert spread.efficiency == pytest.approx(4.001)
    assert spread.accuracy == pytest.approx(0.981)
    assert spread.deviation == pytest.approx(0.002 / 2**0.5)
    assert spread.seeds == 2
    assert at(OTHER, 16.0) == (16.05, 0.90, 0.0, 1, 0.90, 0.90)
    assert spread[-2:] == (0.98, 0.982)
    assert at(OURS, 17.0) is None


def test_cells_say_what_is_not_as_asked():
    shown = table([OURS, OTHER], [4, 8, 15, 16, 32], lead=True)
    assert shown.headings()[2].title == "1×"
    ours, other, lead = shown.cells()
    assert ours[:4] == ["ours", "2", "99.00 ± 0.00", "98.10 ± 0.14"]
    assert ours[5] == "95.50 ± 0.71 at 16.1×"
    assert other[6] == "90.00, 1 of 2 seeds"
    assert ours[7] == other[7] == "—"
    points = ["+0.50", "+0.10", "+1.70", "+5.50", "+5.50", "—"]
    assert lead == ["lead of ours, points", "—", *points]
    assert table([method("one", (0.5, 0.25))], [4]).cells() == [["one", "1", "50.00", "25.00"]]


def test_what_is_published_is_read_back_and_fits_the_readme(tmp_path):
    shown = publish(tmp_path, content(OURS), [4.0, 8.0], beside=[OTHER], lead=True)
    assert [row[0] for row in shown.cells()] == ["other", "ours", "lead of other, points"]
    written = tmp_path / "methods.json"
    assert read(written) == (OURS,)
    assert json.loads(written.read_text())["table"][1:] == shown.cells()
    assert benchmark(written).count("\n| ") == 4
    assert (tmp_path / "methods.png").stat().st_size > 10_000


@pytest.mark.parametrize("text", [None, "{", "[]", '{"methods": [{"name": "x"}]}'])
def test_another_file_is_named(tmp_path, text):
    path = tmp_path / "methods.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"methods\.json: expected the JSON of a comparison"):
        read(path)


def test_nothing_cannot_be_drawn():
    for methods in ([], [Method("empty", ())]):
        with pytest.raises(ValueError, match="at least one run each"):
            accuracy(methods)


def _legible(figure: Figure) -> None:
    axes = figure.axes[0]
    texts = [*figure.texts, *axes.texts, axes.xaxis.label, axes.yaxis.label]
    for axis, span in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        ticks = [t for t in axis.get_major_ticks() if min(span) <= t.get_loc() <= max(span)]
        assert len(ticks) >= 2
        texts += [tick.label1 for tick in ticks]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text()]
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
    for (text, box), (other, beside) in combinations(boxes, 2):
        assert not box.overlaps(beside), (text, other)
    name = axes.yaxis.label.get_window_extent()
    for tick in axes.yaxis.get_major_ticks():
        assert tick.label1.get_window_extent().x0 > name.x1 + 8, "hardly apart"
    note = figure.texts[-1].get_window_extent()
    assert axes.get_window_extent().y1 < note.y0 - 8, "hardly apart"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize(
    "methods",
    [
        [OURS, OTHER],
        [method("alone", (0.9, 0.9))],
        [method("never wrong", (1.0, 1.0, 1.0)), method("random", (0.99, 0.1, 0.1))],
        [method(f"a method of a long name {i}", (0.99, 0.98, 0.9 - 0.0001 * i)) for i in range(11)],
    ],
)
def test_the_picture_is_legible(methods, theme, monkeypatch):
    drawn = []
    monkeypatch.setattr(comparison, "png", lambda figure: drawn.append(figure) or png(figure))
    for ordered in (False, True):
        picture = accuracy(methods, note="LeNet", ordered=ordered, theme=theme)
        assert methods[0].name in picture.alt
        _legible(drawn[-1])
        lines = drawn[-1].axes[0].lines[: len(methods)]
        assert len({line.get_color() for line in lines}) == len(methods)
        assert len({line.get_marker() for line in lines}) == len(methods)


def test_bands_stay_in_the_picture(monkeypatch):
    drawn = []
    monkeypatch.setattr(comparison, "png", lambda figure: drawn.append(figure) or png(figure))
    # The mean and a standard deviation are more than 100 %.
    accuracy([OURS, method("wide", (0.99, 0.64), (0.98, 0.95), (0.98, 0.95))])
    axes = drawn[0].axes[0]
    low, high = sorted(axes.get_ylim())
    for band in axes.collections:
        errors = band.get_paths()[0].vertices[:, 1]
        assert low <= errors.min() <= errors.max() <= high
