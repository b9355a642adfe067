"""The detector's experiment runs end to end, on a few small scenes and with a small network."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from evojax import models
from evojax.evolution import read_lineage
from tests.data.kitti.conftest import add
from tests.evolution.test_detection import Small

SCRIPT = Path(__file__).parents[2] / "experiments" / "kitti_detectnet.py"


def test_it_evolves_and_goes_on_without_bad_scenes(tmp_path, monkeypatch, capsys):
    town, out = tmp_path / "town", tmp_path / "run"
    for number in range(5):
        add(town, f"{number:06d}")
    (town / "train.txt").write_text("000000\n000001\n000002\n")
    (town / "test.txt").write_text("000003\n000004\n")
    (town / "label_2" / "000001.txt").write_text("Car 0.00 zero\n")
    flags = (
        "--height 64 --width 208 --batch-size 2 --workers 1 --generations 1 --epochs 1 --litter 1"
    )
    arguments = [str(SCRIPT), "--data", f"kitti:{town}", "--out", str(out), *flags.split()]
    # Another one than DetectNet, whose 59 convolutions take most of a minute to compile.
    monkeypatch.setattr(models, "DetectNet", lambda normalisation: Small())

    def run(*more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, capsys.readouterr().err

    status, error = run()
    assert status == 2 and "000001.txt" in error and not out.exists()
    status, error = run("--workers", "0")  # Before any label is read.
    assert status == 2 and "workers must be at least 1; got 0" in error
    assert run("--skip-bad", "True") == (0, "")
    lineage = read_lineage(out)
    assert sum(lineage["dataset"]["skipped"].values()) == 1
    assert (lineage["dataset"]["name"], lineage["dataset"]["train"]) == ("town", 2)
    assert len(lineage["generations"][0]["layers"]) == 7
    assert (out / "figures" / "scenes.png").exists()
