"""The benchmark of synthesis: what it reports, and that its contestants do the same."""

import json
from importlib import import_module

import jax
import numpy as np
import pytest

from evojax.compilation import FOLDER
from evojax.report.readme import benchmark

SHAPES = [(5, 5, 4, 32), (5, 5, 32, 32), (64, 100)]


def test_synthesis_is_measured(methods, monkeypatch, tmp_path):
    synthesis, folders = import_module("synthesis"), set()
    with_numpy = synthesis.with_numpy

    def noted(weights):
        folders.add(jax.config.values[FOLDER])
        return with_numpy(weights)

    monkeypatch.setattr(synthesis, "with_torch", lambda weights: {})
    monkeypatch.setattr(synthesis, "with_numpy", noted)
    monkeypatch.setattr(synthesis, "kernels", lambda name: SHAPES[-1:])
    before, out = jax.config.values[FOLDER], tmp_path / "synthesis.json"
    synthesis.main(synthesis.Options(turns=1, networks=("LeNet",), out=out))
    assert folders == {None}  # First calls compile, whatever lies on disk.
    assert jax.config.values[FOLDER] == before
    result = json.loads(out.read_text())["result"]["LeNet"]
    assert result.pop("weights") == {"count": 6400}
    assert set(result) == {"copy", "evojax", "NumPy"}
    assert result["copy"]["of_copy"] == 1.0
    for each in result.values():
        assert each["seconds"] > 0
        assert each["first_call_seconds"] > 0
    assert "| times the copy | LeNet |\n" in benchmark(out)


@pytest.mark.parametrize("contestant", ["evojax", "NumPy", "PyTorch"])
def test_contestants_leave_as_many_synapses(methods, monkeypatch, contestant):
    synthesis = import_module("synthesis")
    weights = [np.random.default_rng(0).standard_normal(shape, np.float32) for shape in SHAPES]
    if contestant == "PyTorch":
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(torch, "compile", lambda function, **_: function)
        run = synthesis.with_torch(weights)["PyTorch"]
    else:
        run = {"evojax": synthesis.with_evojax, "NumPy": synthesis.with_numpy}[contestant](weights)
    drawn = run()
    masks = jax.tree.leaves(drawn.masks) if contestant == "evojax" else drawn
    assert [mask.shape for mask in masks] == SHAPES
    share = sum(int(mask.sum()) for mask in masks) / sum(each.size for each in weights)
    assert share == pytest.approx(0.64, abs=0.02)
