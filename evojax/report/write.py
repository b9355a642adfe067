"""Writes a run's report into its folder: lineage.csv, figures/*.png, report.html."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from evojax.evolution import checkpoints
from evojax.evolution.record import Lineage, load
from evojax.files import replace
from evojax.report import figures, page, tables
from evojax.report.kernels import Network, chosen
from evojax.report.paper import published
from evojax.report.scenes import scenes
from evojax.report.style import DARK, LIGHT, Picture, Theme

Restore = Callable[..., Network]
"""``(run, generation, crc32=...) -> network``: raises a ValueError where it is another one."""


def write(run_dir: str | Path, restore: Restore = checkpoints.restore) -> Path:
    """Writes the report of the run in `run_dir` and returns the path of its report.html.

    Every file is replaced at once or not at all, so a report that cannot be finished (a full disk)
    leaves the former one readable. A picture that would be empty, or whose checkpoints are not
    there, is left out, and the page says why.

    Args:
        run_dir: The run's folder, with its lineage.json.
        restore: Reads the network of a generation, which must be the recorded one.

    Raises:
        ValueError: lineage.json is missing, corrupt or of another schema, or lacks a field; the
            message names the file and the field.
        OSError: A file cannot be written.
    """
    run_dir = Path(run_dir)
    lineage = load(run_dir / "lineage.json")
    drawn, left_out = _draw(run_dir, lineage, restore)
    for pictures in drawn:
        replace(run_dir / "figures" / f"{pictures.light.name}.png", pictures.light.png)
    replace(run_dir / "lineage.csv", tables.generations(lineage).csv().encode())
    html = page.render(lineage, published(lineage["experiment"]), drawn, left_out)
    return replace(run_dir / "report.html", html.encode())


def _draw(run_dir: Path, lineage: Lineage, restore: Restore) -> tuple[list[page.Drawn], list[str]]:
    """All pictures that have something to show, and the reasons for those that have not."""
    paper = published(lineage["experiment"])
    alone = len(lineage["generations"]) == 1
    drawn, left_out = [], []
    if alone and paper is None:
        left_out.append("Accuracy against efficiency is drawn from the second generation on.")
    else:
        drawn.append(_both(lambda theme: figures.accuracy({"this run": [lineage]}, paper, theme)))
    if alone:
        left_out.append("The survival of the layers is drawn from the second generation on.")
    else:
        drawn.append(_both(lambda theme: figures.survival(lineage, theme)))
    if lineage["dataset"].get("examples"):
        try:
            images = _examples(run_dir, lineage)
        except OSError:
            left_out.append("The scenes are not shown: their images are missing or damaged.")
        else:
            drawn.append(_both(lambda theme: scenes(lineage, images, theme)))
    try:
        networks = _networks(run_dir, lineage, restore)
        drawn.append(_both(lambda theme: figures.kernels(lineage, networks, theme)))
    except ValueError as error:
        left_out.append(f"The first layer's kernels are not shown: {error}")
    return drawn, left_out


def _both(draw: Callable[[Theme], Picture]) -> page.Drawn:
    return page.Drawn(draw(LIGHT), draw(DARK))


def _examples(run_dir: Path, lineage: Lineage) -> dict[str, np.ndarray]:
    """The images that the run saved for its pictures."""
    found = {}
    for name in lineage["dataset"]["examples"]:
        with Image.open(run_dir / "examples" / f"{name}.jpg") as image:
            found[name] = np.asarray(image.convert("RGB"))
    return found


def _networks(run_dir: Path, lineage: Lineage, restore: Restore) -> dict[int, Network]:
    records = lineage["generations"]
    networks = {}
    for index in chosen(len(records)):
        number = records[index]["generation"]
        try:
            networks[number] = restore(run_dir, number, crc32=records[index].get("crc32"))
        except (OSError, ValueError) as error:
            # Without the error's own words: they name this machine's folders.
            reason = f"the saved network of generation {number} is missing, damaged or another one."
            raise ValueError(reason) from error
    return networks
