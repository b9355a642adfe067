"""The benchmark of training, and PyTorch's networks beside ours."""

import json
from importlib import import_module

import jax
import numpy as np
import pytest

from evojax.learning import linen
from evojax.report.readme import benchmark
from tests.experiments.small import Small


@pytest.fixture
def torch():
    found = pytest.importorskip("torch")
    found.set_num_threads(1)
    return found


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
def test_pytorchs_networks_have_the_same_layers(methods, torch, name):
    theirs = import_module("torch_networks").NETWORKS[name]()
    module, channels = import_module("training").NETWORKS[name]
    params, _ = linen(module).shapes((32, 32, channels))
    ours = sorted(leaf.size for leaf in jax.tree.leaves(params))
    assert sorted(leaf.numel() for leaf in theirs.parameters()) == ours
    assert theirs(torch.zeros(2, channels, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_pytorch_trains_with_its_fastest_optimizer(methods, torch, monkeypatch, compute_dtype):
    training, made = import_module("training"), []

    class Noted(torch.optim.AdamW):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(torch.optim, "AdamW", Noted)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), np.uint8)
    options = training.Options(batch_size=2, compute_dtype=compute_dtype)
    epoch = training.torch_epoch("LeNet", images, np.arange(4, dtype=np.int32), options)
    losses = [epoch() for _ in range(5)]
    assert losses[-1] < losses[0]
    (optimizer,) = made
    assert optimizer.defaults["fused"]


def test_every_network_is_compiled_for_its_own_sizes(methods, torch, monkeypatch):
    """As it is where a network is the first, or alone."""
    synthesis, compile_, symbols = import_module("synthesis"), torch.compile, []

    def backend(module, inputs):
        symbols.append(sum(isinstance(each, torch.SymInt) for each in inputs))
        return module

    monkeypatch.setattr(
        torch, "compile", lambda function, **how: compile_(function, backend=backend, **how)
    )
    for width in (8, 12):
        weights = [np.ones(shape, "f") for shape in ((3, 3, 1, width), (width, 10))]
        synthesis.with_torch(weights)["torch.compile"]()
    assert symbols == [0, 0]
