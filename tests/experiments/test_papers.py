"""The papers' experiments run end to end, on a few random images."""

from __future__ import annotations

import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evojax import models
from evojax.evolution import read_lineage
from evojax.report.paper import PUBLISHED

THIN = (8, 16, 16, 16, 16, 64, 64)
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """16 training and 4 test images of ten classes."""
    random = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("data") / "noise.npz"
    arrays = {
        f"{kind}_{split}": values
        for split, count in (("train", 16), ("test", 4))
        for kind, values in (
            ("x", random.integers(0, 256, (count, 32, 32, 3), np.uint8)),
            ("y", np.arange(count) % 10),
        )
    }
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize(
    ("name", "layers", "synapses"),
    [
        ("stl10_lenet", 5, 145_578),
        ("cifar_alexnet", 8, 31_842),
        ("cifar_resnet56", 8, 74_810),
    ],
)
def test_two_generations(name, layers, synapses, noise, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    flags = ["--generations", "2", "--epochs", "1", "--batch-size", "8", "--litter", "2"]
    script = EXPERIMENTS / f"{name}.py"
    arguments = [
        str(script),
        "--data",
        f"npz:{noise}",
        "--out",
        str(out),
        *flags,
        "--max-drop",
        "100",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    # Small ones: whole, they are counted in tests/models, and would take a minute each here.
    monkeypatch.setattr(models, "AlexNet", partial(models.AlexNet, widths=THIN))
    whole = models.ResNet
    monkeypatch.setattr(models, "ResNet", lambda blocks, classes: whole(1, classes))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert (ended.value.code, capsys.readouterr().err) == (0, "")
    ancestor, offspring = read_lineage(out)["generations"]
    assert (ancestor["synapses"], len(ancestor["layers"])) == (synapses, layers)
    assert 1.2 < offspring["architectural_efficiency"] < 1.7
    assert len(offspring["litter"]) == 2
    assert (out / "report.html").exists()
    assert (out / "figures" / "accuracy.png").exists()


@pytest.mark.parametrize("name", ["stl10_lenet", "cifar_alexnet", "cifar_resnet56"])
def test_headers_say_how_to_start_how_long_and_what_to_expect(name):
    header = " ".join((EXPERIMENTS / f"{name}.py").read_text().split('"""')[1].split())
    assert f"python experiments/{name}.py" in header
    assert "on a GPU" in header or "GPU in bfloat16" in header
    assert "not measured: the paper's accuracies or better" in header
    for point in (PUBLISHED[name].points[0], PUBLISHED[name].points[-1]):
        assert f"{100 * point.accuracy:.1f} %" in header
