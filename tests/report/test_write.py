"""The files of a report, and that they are replaced whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from evojax import report
from evojax.evolution import checkpoints
from evojax.learning import Network

Make = Callable[..., dict[str, Any]]


def _restore(run: Path, generation: int, crc32: int | None = None) -> SimpleNamespace:
    """LeNet's first layer, with fewer synapses in every generation."""
    mask = np.zeros((5, 5, 1, 32), bool)
    mask[..., : 33 - 2 * generation] = True
    return SimpleNamespace(
        params={"conv1": {"kernel": mask.astype(np.float32)}}, masks={"conv1": {"kernel": mask}}
    )


def _missing(run: Path, generation: int, crc32: int | None = None) -> SimpleNamespace:
    raise ValueError(f"{run}: no generation {generation}")


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_report_is_written_into_the_runs_folder(run: Path) -> None:
    page = report.write(run, _restore)
    assert page == run / "report.html"
    assert _files(run) == {
        "lineage.json", "lineage.csv", "report.html",
        "figures/accuracy.png", "figures/survival.png", "figures/kernels.png",
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((run / "lineage.csv").read_text())))
    assert [row["generation"] for row in rows] == [str(n) for n in range(1, 14)]
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 6
    for picture in (run / "figures").iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_it_reads_the_checkpoints_of_a_run(run: Path, make: Make) -> None:
    network = _restore(run, 1)
    params = network.params | {"dense2": {"kernel": np.ones((64, 10), np.float32)}}
    masks = network.masks | {"dense2": {"kernel": None}}
    lineage = make(1)
    lineage["generations"][0]["crc32"] = checkpoints.save(run, 1, Network(params, {}, masks))
    (run / "lineage.json").write_text(json.dumps(lineage))
    report.write(run)
    picture = run / "figures" / "kernels.png"
    assert picture.exists()
    picture.unlink()
    checkpoints.save(run, 1, Network(jax.tree.map(np.negative, params), {}, masks))
    assert "of generation 1 is missing, damaged or another one" in report.write(run).read_text()
    assert not picture.exists()


def test_a_missing_checkpoint_leaves_out_the_kernels_and_says_so(run: Path) -> None:
    html = report.write(run, _missing).read_text()
    assert "The first layer&#39;s kernels are not shown: the saved network of generation 1" in html
    assert str(run) not in html
    assert html.count("data:image/png;base64,") == 4
    assert not (run / "figures" / "kernels.png").exists()


def test_one_generation_draws_no_empty_plot(run: Path, make: Make) -> None:
    lone = make(1, experiment="digits_lenet", status="running")
    (run / "lineage.json").write_text(json.dumps(lone))
    html = report.write(run, _restore).read_text()
    assert "from the second generation on" in html
    assert _files(run / "figures") == {"kernels.png"}


def test_a_wrong_lineage_is_refused_before_anything_is_written(run: Path) -> None:
    lineage = json.loads((run / "lineage.json").read_text())
    del lineage["generations"][4]["layers"]
    (run / "lineage.json").write_text(json.dumps(lineage))
    with pytest.raises(ValueError, match=r"lineage\.json: generations\[4\]: field 'layers'"):
        report.write(run, _restore)
    assert _files(run) == {"lineage.json"}


def test_no_run_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere.lineage\.json: there is no such file"):
        report.write(tmp_path / "nowhere")
