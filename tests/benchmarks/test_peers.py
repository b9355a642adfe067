"""PyTorch on the same terms: the same network, the same training, the same sizes."""

from __future__ import annotations

import json
import os
import runpy
import sys

import jax
import numpy as np
import pytest

from evojax import study
from evojax.learning import Network, linen, on_device, trainer
from evojax.models import LeNet
from evojax.report.readme import benchmark

CLASSES = 4


@pytest.fixture
def pictures(quarters):
    from evojax.data import load

    return load(quarters)


def test_without_torch_it_says_what_to_install(methods, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match=r"environment of its own .* '\.\[peers\]'"):
        runpy.run_path(str(methods.__file__).replace("methods.py", "peers.py"))


def test_same_weights_same_logits(peers, pictures):
    params = peers.initial(3, pictures)
    for layer in params.values():
        layer["bias"] = np.random.default_rng(0).normal(size=layer["bias"].shape).astype("f")
    data = on_device(*pictures.test)
    images, _ = peers.tensors(data)
    theirs = peers.lenet(params, 1)(images).detach().numpy()
    ours = LeNet(CLASSES).apply({"params": params}, images.numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


def test_same_training_same_network(peers, methods, pictures):
    """One epoch of two steps: the same order, the same rates, the same optimizer."""
    model, recipe = linen(LeNet(CLASSES)), methods.BASE.recipe
    params, key = peers.initial(3, pictures), peers.generation_key(3, 1)
    net = peers.lenet(params, 1)
    data = on_device(*pictures.train)
    peers.fit(net, *peers.tensors(data), recipe, key, 1, density=1.0)
    network = Network(params, {}, jax.tree.map(lambda _: None, params))
    ours, _ = trainer(model, recipe).train(key, network, data, 1)
    moved = 0.0
    for name, layer in ours.params.items():
        kernel = net.get_submodule(name).weight.detach().numpy()
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        moved += np.abs(layer["kernel"] - params[name]["kernel"]).mean()
        # Adam turns the sign of a gradient near 0, which is rounding, into a whole step.
        assert np.mean(np.abs(kernel - layer["kernel"]) > 1e-4) < 0.02
    assert moved > 1e-3


def test_global_magnitude_leaves_the_strongest_and_just_as_many(peers, pictures):
    net = peers.lenet(peers.initial(0, pictures), 1)
    whole = peers.count(net)
    before = [layer.weight.detach().clone() for layer in peers.with_weights(net)]
    for size in (4, 64, 1000):
        limit = int(whole / size)
        assert peers.global_magnitude(net, limit)
        assert limit - 1 <= peers.count(net) <= limit  # One weight may bring a bias along.
    layers = peers.with_weights(net)
    alive = [layer.weight_mask > 0 for layer in layers]
    weakest = min(w[m].abs().min() for w, m in zip(before, alive, strict=True) if m.any())
    strongest = max(w[~m].abs().max() for w, m in zip(before, alive, strict=True))
    assert weakest >= strongest
    for layer, mask in zip(layers, alive, strict=True):
        assert (layer.weight[~mask] == 0).all()
        assert (layer.bias_mask.bool() == mask.flatten(1).any(1)).all()
    assert not peers.global_magnitude(net, 1)


def test_pruned_weights_stay_pruned_in_training(peers, methods, pictures):
    net = peers.lenet(peers.initial(0, pictures), 1)
    data = peers.tensors(on_device(*pictures.train))
    peers.global_magnitude(net, 2000)
    count = peers.count(net)
    peers.fit(net, *data, methods.BASE.recipe, peers.generation_key(0, 2), 1, density=0.02)
    peers.accuracy(net, *data)
    assert sum(int((layer.weight != 0).sum()) for layer in peers.with_weights(net)) <= count
    assert peers.count(net) == count


@pytest.mark.parametrize("name", ["Torch-Pruning, global", "Torch-Pruning, uniform"])
def test_channels_are_removed_until_it_is_small_enough(peers, pictures, name):
    channels = peers.PEERS[name].shrink
    net = peers.lenet(peers.initial(0, pictures), 1)
    whole = peers.count(net)
    assert channels(net, int(whole / 32))
    assert 0.8 * whole / 32 < peers.count(net) <= whole / 32
    images, labels = peers.tensors(on_device(*pictures.test))
    assert net(images).shape == (len(labels), CLASSES)
    assert not channels(net, 10)


def test_runs_are_written_once_and_beside_ours(peers, quarters, tmp_path, capsys, monkeypatch):
    beside = tmp_path / "methods.json"
    ours = {"seed": 0, "architectural_efficiency": [1, 4], "accuracy": [0.9, 0.8]}
    content = {
        "dataset": {"name": "quarters", "train": 64, "test": 50},
        "settings": {"sizes": [4.0, 5000.0], "epochs": [1]},
        "methods": [{"name": "ours", "runs": [ours]}],
    }
    beside.write_text(json.dumps(content))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    two = ("torch.nn.utils.prune", "Torch-Pruning, global")
    monkeypatch.setattr(peers, "PEERS", {name: peers.PEERS[name] for name in two})
    options = peers.Options(
        data=quarters, subset=1.0, seeds=(0,), sizes=(4.0, 5000.0), epochs=(1,),
        beside=(beside,), out=tmp_path / "results", runs=tmp_path / "runs",
    )  # fmt: skip
    assert peers.main(options) == 0
    path = tmp_path / "results" / "peers.json"
    content = json.loads(path.read_text())
    assert [row[0] for row in content["table"][1:-1]] == ["ours", *peers.PEERS]
    assert content["environment"].keys() >= {"torch", "torch_pruning", "jax", "cpus", "git"}
    reached = {method["name"]: method["runs"][0]["status"] for method in content["methods"]}
    assert reached == {
        "torch.nn.utils.prune": "finished: 3 generations",
        "Torch-Pruning, global": "stopped: cannot reach 5000",
    }
    assert [len(m["runs"][0]["accuracy"]) for m in content["methods"]] == [3, 2]
    ancestors = {method["runs"][0]["accuracy"][0] for method in content["methods"]}
    assert len(ancestors) == 1
    assert "lead of ours" in benchmark(path)

    monkeypatch.setattr(peers, "lineage", None)  # Nothing is trained again.
    assert peers.main(options) == 0
    other = peers.replace(options, epochs=(2,), beside=())
    capsys.readouterr()
    assert study.guarded(lambda: peers.main(other)) == 2
    assert "of a run on other terms (config)" in capsys.readouterr().err
