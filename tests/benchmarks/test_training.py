"""The benchmark of training, and PyTorch's networks beside ours."""

import json
from importlib import import_module

import jax
import pytest

from evojax.learning import linen
from evojax.report.readme import benchmark
from tests.experiments.small import Small


def test_training_is_measured(methods, monkeypatch, tmp_path):
    training = import_module("training")
    monkeypatch.setitem(training.NETWORKS, "LeNet", training.Subject(Small(10), 1))
    monkeypatch.setattr(training, "torch_epoch", lambda *_: lambda: None)
    monkeypatch.setattr(training, "on_several_cores", lambda: True)
    out = tmp_path / "training.json"
    training.main(training.Options(("LeNet",), turns=2, steps=1, batch_size=2, cores=1, out=out))
    result = json.loads(out.read_text())["result"]["LeNet"]
    assert result["dense"]["of_dense"] == 1.0
    for contestant in ("dense", "masked", training.SPLIT):
        assert len(result[contestant]["seconds"]) == 2
        assert result[contestant]["images_per_second"] > 0
    assert "| speed of training, of the dense network's | LeNet |" in benchmark(out)


@pytest.mark.parametrize("name", ["LeNet", "AlexNet", "ResNet-20", "ResNet-56"])
def test_pytorchs_networks_have_the_same_layers(methods, name):
    torch = pytest.importorskip("torch")
    theirs = import_module("torch_networks").NETWORKS[name]()
    module, channels = import_module("training").NETWORKS[name]
    params, _ = linen(module).shapes((32, 32, channels))
    ours = sorted(leaf.size for leaf in jax.tree.leaves(params))
    assert sorted(leaf.numel() for leaf in theirs.parameters()) == ours
    assert theirs(torch.zeros(2, channels, 32, 32)).shape == (2, 10)
