"""The first layer's kernels and their masks through the generations, one tile a kernel.

The picture is put together pixel by pixel in NumPy, so every synapse is a crisp square.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from evojax.evolution.record import Lineage
from evojax.report import text
from evojax.report.style import DPI, LIGHT, TEXT, Picture, Theme, canvas, heading, png, short

MOST_ROWS = 8
MOST_KERNELS = 32
MOST_CHANNELS = 3
# Blue to orange over white: told apart by colour-blind readers.
WEIGHTS = LinearSegmentedColormap.from_list("weights", ["#08519c", "#f7f7f7", "#b34700"])
_LEFT, _RIGHT, _TOP, _BOTTOM = 225, 30, 118, 84  # pixels around the tiles
_GAP, _BETWEEN = 4, 16  # pixels between tiles and between generations


class Network(Protocol):
    """What evojax.evolution.checkpoints.restore gives: nested dicts of arrays."""

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters."""

    @property
    def masks(self) -> Mapping[str, Any]:
        """Bool arrays in the parameters' shapes, None where nothing is pruned."""


@dataclass(frozen=True)
class _Row:
    """One generation; weights (NaN where padded) and alive: (height, width, channels, kernels)."""

    generation: str
    ratio: str
    units: str
    weights: np.ndarray
    alive: np.ndarray


def chosen(count: int) -> list[int]:
    """Indices of at most eight generations out of `count`, evenly, the first and last included."""
    places = np.linspace(0, count - 1, min(count, MOST_ROWS))
    return sorted({round(place) for place in places.tolist()})


def kernels(lineage: Lineage, networks: Mapping[int, Network], theme: Theme = LIGHT) -> Picture:
    """Kernels of the first layer: a row for each generation, a tile for each output channel.

    A synapse is blue (negative) to orange (positive) on a scale of its generation's largest
    weight; a pruned synapse is grey, a kernel without any living synapse is an empty crossed box.
    Of more than 32 kernels the first 32 are shown, of more than 3 input channels the first 3,
    one below the other. The inputs of a dense layer are laid out as the image they come from
    where that fits, else in reading order.

    Args:
        lineage: The lineage.
        networks: Networks by generation number, in any order; what `chosen` picks will do.
        theme: Colours.

    Raises:
        ValueError: `networks` is empty or lacks a kernel of the first layer.
    """
    records = [r for r in lineage["generations"] if r["generation"] in networks]
    if not records:
        raise ValueError("kernels: expected a network of at least one generation, got none")
    name = records[0]["layers"][0]["name"]
    shape = lineage["dataset"].get("image_shape") or ()
    rows = [_row(record, networks[record["generation"]], name, shape) for record in records]
    high, wide, channels, count = rows[0].weights.shape
    tiles = min(count, MOST_KERNELS)
    size = _tile_size(high, wide, min(channels, MOST_CHANNELS) * len(rows), tiles)
    grid, places = _grid(rows, size, theme)
    pixels = (max(grid.shape[1], 700) + _LEFT + _RIGHT, grid.shape[0] + _TOP + _BOTTOM)
    figure = canvas(theme, pixels[1] / DPI, pixels[0] / DPI)
    figure.figimage(grid, xo=_LEFT, yo=_BOTTOM, origin="upper")
    extent = _extent(count, channels, tiles, rows[0].units)
    heading(figure, theme, f"First layer, {short(name)}", extent)
    _name_rows(figure, theme, rows, places, pixels)
    _legend(figure, theme, pixels, rows[0].units)
    return Picture("kernels", png(figure), _alt(f"First layer ({name}), {extent}", rows))


def _row(record: Mapping[str, Any], network: Network, name: str, shape: Sequence[int]) -> _Row:
    weights, mask = _find(network, name)
    alive = np.ones(weights.shape, bool) if mask is None else np.asarray(mask, bool)
    generation = f"gen. {record['generation']}"
    ratio = text.short_times(record["architectural_efficiency"])
    units = "neurons" if weights.ndim == 2 else "kernels"
    return _Row(generation, ratio, units, *(_as_images(array, shape) for array in (weights, alive)))


def _find(network: Network, name: str) -> tuple[np.ndarray, Any]:
    """The kernel of the layer `name` and its mask: the layer's leaf of two or more dimensions."""
    masks = dict(_leaves(network.masks))
    for path, leaf in _leaves(network.params):
        layer = "/".join(path[:-1])
        named = name.replace(".", "/") in (layer, "/".join(path)) or layer.endswith("/" + name)
        if named and np.ndim(leaf) >= 2:
            return np.asarray(leaf, np.float32), masks.get(path)
    raise ValueError(f"the network has no kernel of a layer named '{name}'")


def _leaves(tree: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, tree


def _as_images(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(..., inputs, outputs) as (height, width, channels, outputs)."""
    if array.ndim == 2:
        inputs, outputs = array.shape
        if len(shape) == 3 and math.prod(shape) == inputs:
            return array.reshape(*shape, outputs)
        wide = math.ceil(math.sqrt(inputs))
        high = math.ceil(inputs / wide)
        padded = np.full((high * wide, outputs), 0 if array.dtype == bool else np.nan, array.dtype)
        padded[:inputs] = array
        return padded.reshape(high, wide, 1, outputs)
    if array.ndim == 3:
        return array[:, None]
    # A kernel in space and time shows its first moment.
    return array[(0,) * (array.ndim - 4)]


def _tile_size(high: int, wide: int, rows: int, tiles: int) -> tuple[int, int]:
    """Pixels of a tile: whole pixels a synapse, to fill 1,200 pixels without growing too tall."""
    room = min((1200 - _LEFT - _RIGHT) // tiles - _GAP, 40 if rows > 8 else 64 if rows > 3 else 96)
    each = max(room // max(high, wide), 1)
    return high * each, wide * each


def _grid(rows: Sequence[_Row], size: tuple[int, int], theme: Theme) -> tuple[np.ndarray, list]:
    """All tiles as one RGB image, and for each generation its first and last pixel row."""
    _, _, channels, count = rows[0].weights.shape
    channels, tiles = min(channels, MOST_CHANNELS), min(count, MOST_KERNELS)
    block = channels * (size[0] + _GAP) - _GAP
    shape = (len(rows) * (block + _BETWEEN) - _BETWEEN, tiles * (size[1] + _GAP) - _GAP, 3)
    grid = np.empty(shape, np.float32)
    grid[:] = to_rgb(theme.page)
    places = []
    for index, row in enumerate(rows):
        top = index * (block + _BETWEEN)
        places.append((top, top + block))
        scale = float(np.abs(row.weights[row.alive]).max(initial=0.0)) or 1.0
        for channel in range(channels):
            y = top + channel * (size[0] + _GAP)
            for tile in range(tiles):
                x = tile * (size[1] + _GAP)
                picture = _tile(row, channel, tile, scale, size, theme)
                grid[y : y + size[0], x : x + size[1]] = picture
    return (grid * 255).round().astype(np.uint8), places


def _tile(
    row: _Row, channel: int, tile: int, scale: float, size: tuple[int, int], theme: Theme
) -> np.ndarray:
    alive = row.alive[:, :, channel, tile]
    if not alive.any():
        return _crossed(size, theme)
    weights = row.weights[:, :, channel, tile]
    colors = WEIGHTS(0.5 + 0.5 * np.nan_to_num(weights) / scale)[..., :3]
    colors = np.where(alive[..., None], colors, to_rgb(theme.pruned))
    colors = np.where(np.isnan(weights)[..., None], to_rgb(theme.page), colors)
    return np.kron(colors, np.ones((size[0] // alive.shape[0], size[1] // alive.shape[1], 1)))


def _crossed(size: tuple[int, int], theme: Theme) -> np.ndarray:
    """An empty box with a cross: a kernel that has died."""
    tile = np.empty((*size, 3), np.float32)
    tile[:] = to_rgb(theme.page)
    steps = np.linspace(0, 1, 2 * max(size))
    y, x = np.rint(steps * (size[0] - 1)).astype(int), np.rint(steps * (size[1] - 1)).astype(int)
    for rows, columns in ((y, x), (y, size[1] - 1 - x)):
        tile[rows, columns] = to_rgb(theme.dead)
    tile[[0, -1]] = tile[:, [0, -1]] = to_rgb(theme.dead)
    return tile


def _extent(count: int, channels: int, tiles: int, units: str) -> str:
    words = f"{count} {units}" if count == tiles else f"the first {tiles} of {count} {units}"
    if channels > MOST_CHANNELS:
        return f"{words}, first {MOST_CHANNELS} of {channels} channels"
    return words + (f" of {channels} channels" if channels > 1 else "")


def _name_rows(
    figure: Figure, theme: Theme, rows: Sequence[_Row], places: Sequence, pixels: tuple[int, int]
) -> None:
    for row, (top, bottom) in zip(rows, places, strict=True):
        y = 1 - (_TOP + (top + bottom) / 2) / pixels[1]
        style: dict[str, Any] = {"fontsize": TEXT, "va": "center"}
        figure.text(24 / pixels[0], y, row.generation, color=theme.ink, **style)
        figure.text((_LEFT - 14) / pixels[0], y, row.ratio, color=theme.muted, ha="right", **style)


def _legend(figure: Figure, theme: Theme, pixels: tuple[int, int], units: str) -> None:
    """Below the tiles: the colour scale, a pruned synapse, a dead kernel."""
    side, y = 24, 28
    scale = np.tile(WEIGHTS(np.linspace(0, 1, 120))[None, :, :3], (side, 1, 1))
    pruned = np.broadcast_to(to_rgb(theme.pruned), (side, side, 3))
    x = 24
    for swatch, words, width in (
        (scale, "weight: negative, zero, positive", 350),
        (pruned, "pruned synapse", 180),
        (_crossed((side, side), theme), f"dead {units[:-1]}", 0),
    ):
        figure.figimage((swatch * 255).round().astype(np.uint8), xo=x, yo=y, origin="upper")
        x += swatch.shape[1] + 10
        at = (x / pixels[0], (y + side / 2) / pixels[1])
        figure.text(*at, words, color=theme.muted, fontsize=TEXT - 1, va="center")
        x += width


def _alt(title: str, rows: Sequence[_Row]) -> str:
    first, last = rows[0], rows[-1]
    living = [
        f"{int(row.alive.any((0, 1, 2)).sum())} {row.units} with {int(row.alive.sum())} synapses "
        f"in {row.generation}"
        for row in ([first, last] if len(rows) > 1 else [first])
    ]
    return f"{title}. Alive: {'; '.join(living)}."
