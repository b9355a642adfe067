"""The first layer's kernels, checked pixel by pixel."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from evojax.report import kernels as module
from evojax.report.figures import kernels
from evojax.report.style import DARK, LIGHT, Picture, Theme

Make = Callable[..., dict[str, Any]]


def _network(weights: np.ndarray, mask: np.ndarray | None, *path: str) -> SimpleNamespace:
    params: dict[str, Any] = {"kernel": weights, "bias": np.zeros(weights.shape[-1])}
    masks: dict[str, Any] = {"kernel": mask, "bias": None}
    for name in reversed(path or ("conv1",)):
        params, masks = {name: params}, {name: masks}
    return SimpleNamespace(params=params, masks=masks)


def _pixels(picture: Picture) -> np.ndarray:
    image = imread(io.BytesIO(picture.png))[..., :3]
    return (image * 255).round().astype(int)


def _tile(picture: Picture, left: int, size: int, top: int = 0) -> np.ndarray:
    y, x = module._TOP + top, module._LEFT + left
    return _pixels(picture)[y : y + size, x : x + size]


def _color(color: str) -> list[int]:
    return [round(255 * part) for part in to_rgb(color)]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_weights_pruned_synapses_and_dead_kernels_differ(make: Make, theme: Theme) -> None:
    weights = np.zeros((2, 2, 1, 2), np.float32)
    weights[:, :, 0, 0] = [[1.0, -1.0], [0.0, 0.0]]
    mask = np.zeros((2, 2, 1, 2), bool)
    mask[:, :, 0, 0] = [[True, True], [True, False]]
    picture = kernels(make(1), {1: _network(weights, mask)}, theme)
    tile = _tile(picture, 0, 96)  # two synapses of 48 pixels
    assert tile[10, 10].tolist() == _color("#b34700")  # positive: orange
    assert tile[10, 60].tolist() == _color("#08519c")  # negative: blue
    assert np.abs(tile[60, 10] - _color("#f7f7f7")).max() <= 1  # a zero weight that lives
    assert tile[60, 60].tolist() == _color(theme.pruned)
    dead = _tile(picture, 96 + module._GAP, 96)
    assert dead[0, 50].tolist() == dead[50, 50].tolist() == _color(theme.dead)
    assert dead[30, 50].tolist() == _color(theme.page)
    assert picture.alt == (
        "First layer (conv1), 2 kernels. Alive: 1 kernels with 3 synapses in gen. 1."
    )


def test_rows_are_generations_and_no_mask_is_all_alive(make: Make) -> None:
    lineage = make(12)
    weights = np.ones((3, 3, 1, 4), np.float32)
    chosen = {lineage["generations"][i]["generation"] for i in module.chosen(12)}
    picture = kernels(lineage, {number: _network(weights, None) for number in chosen})
    assert len(chosen) == 8 and {1, 12} <= chosen
    assert picture.alt.count("4 kernels with 36 synapses") == 2
    height = _pixels(picture).shape[0]
    each = (height - module._TOP - module._BOTTOM + module._BETWEEN) / 8
    assert each == int(each)


def test_colour_images_show_a_row_for_each_channel(make: Make) -> None:
    weights = np.ones((5, 5, 3, 96), np.float32)
    mask = np.ones((5, 5, 3, 96), bool)
    mask[:, :, 1, 0] = False
    picture = kernels(make(1), {1: _network(weights, mask)})
    assert "the first 32 of 96 kernels of 3 channels" in picture.alt
    step = 25 + module._GAP
    assert _tile(picture, 0, 25)[12, 12].tolist() == _color("#b34700")
    assert _tile(picture, 0, 25, step)[0, 12].tolist() == _color(LIGHT.dead)
    assert _tile(picture, 0, 25, 2 * step)[12, 12].tolist() == _color("#b34700")


def test_a_dense_layer_is_laid_out_as_the_image(make: Make) -> None:
    lineage = make(1, {"dense": 24, "out": 4}, {"dense": 24, "out": 4})
    lineage["dataset"]["image_shape"] = [3, 4, 1]
    weights = np.zeros((12, 2), np.float32)
    weights[4 * 2 + 3, 0] = 1.0  # row 2, column 3
    picture = kernels(lineage, {1: _network(weights, None, "dense")})
    assert "2 neurons" in picture.alt
    # The tile is three rows high and four columns wide, 24 pixels each.
    assert _tile(picture, 0, 96)[60, 80].tolist() == _color("#b34700")


def test_inputs_that_are_no_image_leave_the_rest_of_the_tile_empty(make: Make) -> None:
    lineage = make(1, {"dense": 10, "out": 4}, {"dense": 10, "out": 4})
    picture = kernels(lineage, {1: _network(np.ones((5, 2), np.float32), None, "dense")}, DARK)
    tile = _tile(picture, 0, 96)  # 2 x 3 tiles of 32 pixels, five of them inputs
    assert tile[10, 10].tolist() == _color("#b34700")
    assert tile[40, 80].tolist() == _color(DARK.page)


def test_long_names_and_narrow_pictures_clip_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Figure] = []
    monkeypatch.setattr(module, "png", lambda figure: found.append(figure) or b"")
    for outputs in (2, 64):
        lineage = make(
            1, {"block/" * 20 + "conv": 24, "out": 4}, {"block/" * 20 + "conv": 9, "out": 4}
        )
        path = lineage["generations"][0]["layers"][0]["name"].split("/")
        kernels(lineage, {1: _network(np.ones((3, 3, 64, outputs), np.float32), None, *path)})
        for text in found[-1].texts:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= found[-1].bbox.x1, text.get_text()


@pytest.mark.parametrize("shape", [(5, 2, 4), (11, 11, 3, 8), (2, 3, 3, 1, 4)])
def test_kernels_of_any_dimension(make: Make, shape: tuple[int, ...]) -> None:
    picture = kernels(make(1), {1: _network(np.ones(shape, np.float32), None)})
    assert _pixels(picture).shape[1] <= 1200


def test_the_layer_is_found_by_its_path(make: Make) -> None:
    lineage = make(1, {"stage1/conv": 24, "out": 4}, {"stage1/conv": 24, "out": 4})
    network = _network(np.ones((2, 2, 1, 6), np.float32), None, "stage1", "conv")
    assert "6 kernels" in kernels(lineage, {1: network}).alt


def test_a_network_without_the_layer_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="no kernel of a layer named 'conv1'"):
        kernels(make(1), {1: _network(np.ones((2, 2)), None, "other")})
    with pytest.raises(ValueError, match="at least one generation"):
        kernels(make(1), {})


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (3, [0, 1, 2]), (8, list(range(8))), (9, 8), (40, 8)]
)
def test_generations_are_chosen_evenly(count: int, expected: list[int] | int) -> None:
    places = module.chosen(count)
    assert (len(places) if isinstance(expected, int) else places) == expected
    assert places[0] == 0 and places[-1] == count - 1
