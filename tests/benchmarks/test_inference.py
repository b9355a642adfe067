"""Inference: what is measured of a run, and what is refused."""

from __future__ import annotations

import json
from importlib import import_module

import flax.linen as nn
import jax
import numpy as np
import pytest

from evojax.data import load
from evojax.deploy import autotuning, compact
from evojax.evolution import Settings, evolve
from evojax.learning import linen
from evojax.models import LeNet, record
from evojax.report.readme import benchmark


class Small(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), name="conv")(x))
        return nn.Dense(self.classes, name="dense")(x.mean((1, 2)))


@pytest.fixture
def inference(methods, monkeypatch):
    name = f"{Small.__module__}.{Small.__qualname__}"
    monkeypatch.setitem(record.SHIPPED, name, Small)
    # Every form of a convolution is measured to be as fast as the others.
    monkeypatch.setattr(autotuning, "take_turns", lambda forms, x, **_: [[1.0]] * len(forms))
    return import_module("inference")


@pytest.fixture
def run(inference, quarters, tmp_path):
    """Three generations, the last of filters that died."""
    data = load(quarters)
    settings = Settings(
        generations=3, epochs=(1,), max_drop=100, cluster="filter", clusters=0.6, min_clusters=3
    )
    out = tmp_path / "run"
    evolve(settings, linen(Small(data.classes)), data, out, experiment="small")
    return out


def options(inference, place, **changes):
    fields = {"run": place, "batches": (1, 4), "turns": 2, "seconds": 0.001, "round_to": (1, 4)}
    return inference.Options(**fields | {"out": place.parent / "inference.json"} | changes)


def test_a_run_is_measured(inference, run):
    inference.main(options(inference, run, generations=(2, 3)))
    content = json.loads((run.parent / "inference.json").read_text())
    rows = {row["name"].partition(" ")[2] or "dense": row for row in content["result"]}
    ours = [row["generation"] for row in content["result"] if "onnx" not in row["name"]]
    assert ours == [1] * 2 + [2] * 5 + [3] * 5  # All but the masked ones autotuned, too.
    assert rows["compacted"]["macs"] <= rows["compacted to 4s"]["macs"] < rows["dense"]["macs"]
    assert rows["dense"]["speedup_1"] == rows["dense"]["speedup_4"] == 1.0
    assert rows["masked"]["parameters"] <= rows["compacted"]["parameters"]
    assert rows["compacted"]["macs"] < rows["dense"]["macs"]
    assert all(row["seconds_4"] > 0 for row in content["result"])
    assert "speed-up, batch 4" in benchmark(run.parent / "inference.json")


def test_masked_and_compacted_compute_the_same(inference, run):
    asked = options(inference, run, generations=(3,))
    _, subjects, _ = inference.recorded(asked)
    _, _, masked, *others = inference.competing(asked, subjects, torch_too=False)
    images = jax.random.normal(jax.random.key(0), (5, *subjects[0].image.shape[1:]))
    expected = masked.forward(images)
    for other in others:  # compacted; by onnxruntime too, where it is there
        (found,) = jax.tree.leaves(other.forward(images))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_an_untrained_network_is_cut_to_each_budget(inference, monkeypatch, tmp_path):
    monkeypatch.setitem(inference.UNTRAINED, "Small", lambda: Small(10))
    fields = {"run": None, "untrained": "Small", "macs": (1.5, 4.0), "out": tmp_path / "out.json"}
    inference.main(options(inference, tmp_path, round_to=(1,), **fields))
    rows = json.loads((tmp_path / "out.json").read_text())["result"]
    macs = {row["name"]: row["macs"] for row in rows}
    assert macs["MACs / 1.5, compacted"] <= macs["dense"] / 1.5
    assert macs["MACs / 4, compacted"] <= macs["dense"] / 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"run": None}, "expected --run RUN, or --untrained NETWORK"),
        ({"untrained": "AlexNet"}, "exclude each other"),
        ({"run": None, "untrained": "AlexNet", "macs": (1.0,)}, "--macs 1: expected"),
        ({"run": None, "untrained": "VGG"}, "must be of AlexNet, ResNet-56; got VGG"),
    ],
)
def test_what_cannot_be_measured_is_refused(inference, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        inference.main(options(inference, tmp_path / "run", **fields))


def test_torch_pruning_cuts_the_same_channels(inference, peers):
    image = jax.random.normal(jax.random.key(0), (3, 32, 32, 1))
    variables = LeNet().init(jax.random.key(1), image)
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), variables)
    for layer, gone in {"conv1": [0, 5], "conv2": range(7, 30), "dense1": [63]}.items():
        for mask in masks["params"][layer].values():
            mask[..., gone] = False
    small = compact(LeNet().apply, variables, masks, image)
    theirs = inference.in_torch(variables, image, small.report.variables)
    np.testing.assert_allclose(
        theirs(image), small.apply(small.variables, image), rtol=1e-4, atol=1e-4
    )
    dense = inference.in_torch(variables, image)
    np.testing.assert_allclose(dense(image), LeNet().apply(variables, image), rtol=1e-4, atol=1e-4)


def test_generations_that_are_not_there_are_refused(inference, run):
    with pytest.raises(ValueError, match="--generations 4: expected 2 to 3"):
        inference.main(options(inference, run, generations=(4,)))
