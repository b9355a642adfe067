"""The pictures: what they show, that no label is clipped or overlaps another, odd lineages."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from evojax.report import figures, style
from evojax.report.paper import PUBLISHED
from evojax.report.style import DARK, LIGHT, Picture

Make = Callable[..., dict[str, Any]]
DEEP = {f"stage{i // 20}/block{i % 20}/conv": 1000 + 50 * i for i in range(60)}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in order."""
    found: list[Figure] = []

    def png(figure: Figure) -> bytes:
        found.append(figure)
        return style.png(figure)

    monkeypatch.setattr(figures, "png", png)
    return found


def _legible(figure: Figure) -> None:
    """Every text lies within the figure and overlaps no other text."""
    whole = figure.bbox
    boxes = {}
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
        for axis, span in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(span)
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts += [tick.label1 for tick in ticks]
    for text in texts:
        if text.get_text():
            box = text.get_window_extent()
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1, f"clipped: {text.get_text()}"
            assert whole.y0 <= box.y0 and box.y1 <= whole.y1, f"clipped: {text.get_text()}"
            boxes[id(text)] = (text.get_text(), box)
    for (one, a), (two, b) in combinations(boxes.values(), 2):
        # A pixel of two boxes may meet: their letters do not fill them.
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
        assert apart, f"overlap: {one!r} and {two!r}"


def _pixels(picture: Picture) -> np.ndarray:
    return imread(io.BytesIO(picture.png))[..., :3]


def _words(figure: Figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_accuracy_says_where_each_series_ends(lineage: dict, drawn: list[Figure]) -> None:
    picture = figures.accuracy({"this run": [lineage]}, PUBLISHED["mnist_lenet"])
    assert _pixels(picture).shape == (735, 1200, 3)
    last = lineage["generations"][-1]
    ratio = last["architectural_efficiency"]
    assert f"this run\n{100 * last['accuracy']:.2f} % at {ratio:.1f}×" in _words(drawn[0])
    assert "paper\n97.75 % at 125×" in _words(drawn[0])
    assert "97.75 % at 125.09×" in picture.alt
    _legible(drawn[0])


def test_accuracy_draws_every_generation_and_every_published_point(
    lineage: dict, drawn: list[Figure]
) -> None:
    figures.accuracy({"this run": [lineage]}, PUBLISHED["mnist_lenet"])
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log"
    lines = {len(line.get_xdata()): line for line in axes.lines if len(line.get_xdata()) > 3}
    assert lines[13].get_ydata()[0] == pytest.approx(99.5)
    assert list(lines[6].get_xdata()) == [1.0, 5.2, 12.09, 32.23, 62.74, 125.09]


def test_what_falls_out_of_the_scale_says_where_to(make: Make, drawn: list[Figure]) -> None:
    lineages = {
        "best": [make(15), make(15, fall=0.005)],
        "literal": [make(13, fall=0.02)],
        "random": [make(12, fall=0.3)],
    }
    figures.accuracy(lineages, PUBLISHED["mnist_lenet"])
    bottom = drawn[0].axes[0].get_ylim()[0]
    assert 94 < bottom < 98  # random at 26 % does not squeeze the rest
    assert "random\n↓ 26.00 %" in _words(drawn[0])
    _legible(drawn[0])


def test_seeds_of_a_setting_are_one_line_in_a_band(make: Make, drawn: list[Figure]) -> None:
    seeds = [make(5), make(5, fall=0.005), make(4, fall=0.01)]
    lineages = {f"setting {i}": seeds for i in range(8)}
    for theme in (LIGHT, DARK):
        figures.accuracy(lineages, None, theme)
    for figure in drawn:
        axes = figure.axes[0]
        lines = [line for line in axes.lines if len(line.get_xdata()) == 5]
        assert len(lines) == len(axes.collections) == 8
        assert len({line.get_color() for line in lines}) == 8
        assert len({line.get_marker() for line in lines}) == 8
        means = np.mean([[100 * r["accuracy"] for r in one["generations"][:4]] for one in seeds], 0)
        np.testing.assert_allclose(lines[0].get_ydata()[:4], means)


def _oklab(color: str) -> np.ndarray:
    """Where a colour lies for the eye (Ottosson 2020)."""
    rgb = np.array(to_rgb(color))
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    axes = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.array(axes) @ np.cbrt(np.array(cones) @ light)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_no_two_colours_of_a_theme_look_alike(theme: style.Theme) -> None:
    places = [_oklab(color) for color in theme.series]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 0.095
    assert len(theme.series) == len(style.MARKERS)


def test_a_small_test_set_has_a_scale_that_does_not_magnify_chance(
    make: Make, drawn: list[Figure]
) -> None:
    lineage = make(3, ancestor=0.98)
    lineage["generations"][1]["accuracy"] = 0.983
    lineage["dataset"]["test"] = 359  # a standard error of 0.7 points
    figures.accuracy({"this run": [lineage]})
    bottom, top = drawn[0].axes[0].get_ylim()
    assert top - bottom > 4


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("generations", [1, 2, 40])
def test_accuracy_of_short_and_long_lineages(
    make: Make, drawn: list[Figure], generations: int, theme: style.Theme
) -> None:
    figures.accuracy({"this run": [make(generations, keep=0.8, fall=0.001)]}, None, theme)
    _legible(drawn[0])


def test_detection_draws_both_measures(make: Make, drawn: list[Figure]) -> None:
    lineage = make(11, keep=0.795, detection=True, ancestor=0.8)
    picture = figures.accuracy({"this run": [lineage]}, PUBLISHED["kitti_detectnet"])
    assert "this run, precision" in picture.alt and "paper, recall" in picture.alt
    _legible(drawn[0])


def test_many_series_and_long_names_stay_legible(make: Make, drawn: list[Figure]) -> None:
    lineages = {f"setting number {i}": [make(10, fall=0.002 * i)] for i in range(9)}
    figures.accuracy(lineages, PUBLISHED["mnist_lenet"])
    _legible(drawn[0])


def test_accuracy_needs_a_lineage() -> None:
    with pytest.raises(ValueError, match="at least one lineage"):
        figures.accuracy({})
    with pytest.raises(ValueError, match="at least one lineage"):
        figures.accuracy({"this run": []})


def test_survival_starts_whole_and_ends_in_its_label(lineage: dict, drawn: list[Figure]) -> None:
    picture = figures.survival(lineage)
    axes = drawn[0].axes[0]
    assert axes.get_yscale() == "log"
    lines = [line for line in axes.lines if len(line.get_xdata()) == 13]
    assert len(lines) == 5 and all(line.get_ydata()[0] == 100 for line in lines)
    share = 100 * lineage["generations"][-1]["layers"][1]["synapses"] / 25632
    assert f"conv2  {share:.3g} %" in _words(drawn[0])
    assert f"conv2 {share:.3g} %" in picture.alt
    _legible(drawn[0])


@pytest.mark.parametrize(
    ("generations", "layers"),
    [(1, None), (5, {"dense": 640}), (40, DEEP), (2, DEEP), (3, {"a" * 60: 5000, "b": 500})],
)
def test_survival_of_odd_lineages(
    make: Make, drawn: list[Figure], generations: int, layers: dict[str, int] | None
) -> None:
    picture = figures.survival(make(generations, layers, layers, keep=0.85))
    assert len(picture.alt) < 600
    _legible(drawn[0])


def test_a_deep_network_labels_the_extremes(make: Make, drawn: list[Figure]) -> None:
    figures.survival(make(20, DEEP, DEEP, keep=0.85))
    words = _words(drawn[0])
    assert words.count("%") == figures.MOST_LABELS
    assert "stage0/block0/conv" in words and "stage2/block19/conv" in words


def test_a_layer_without_synapses_is_drawn_at_the_bottom(make: Make, drawn: list[Figure]) -> None:
    lineage = make(3)
    lineage["generations"][2]["layers"][0]["synapses"] = 0
    figures.survival(lineage)
    assert "conv1  none" in _words(drawn[0])


def test_labels_are_moved_apart_in_order() -> None:
    places = style.apart([0.5, 0.5, 0.9, 0.52], 0.1, 0.0, 1.0)
    order = sorted(range(4), key=lambda i: -places[i])
    assert order == [2, 3, 0, 1]
    ranked = sorted(places)
    assert all(b - a >= 0.1 - 1e-9 for a, b in zip(ranked, ranked[1:], strict=False))
    assert min(places) >= 0 and max(places) <= 1


def test_too_many_labels_are_spread_evenly() -> None:
    assert sorted(style.apart([0.9] * 5, 0.5, 0.0, 1.0)) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert style.apart([], 0.5, 0.0, 1.0) == []


def test_pictures_are_drawn_alike_twice(lineage: dict) -> None:
    assert figures.survival(lineage).png == figures.survival(lineage).png


def test_nothing_of_matplotlib_is_changed(lineage: dict) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.survival(lineage, DARK)
    assert dict(mpl.rcParams) == before
