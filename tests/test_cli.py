"""The command evojax, on a run of a few seconds."""

import json
import re
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax import __version__, cli
from evojax.data import Dataset, Split
from evojax.deploy import autotuning
from evojax.deploy.export import EXTRAS
from evojax.evolution import Settings, evolve, saved
from evojax.evolution.lineage import read_lineage, write_lineage
from evojax.learning import Recipe, linen
from evojax.models import LeNet, described


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick_compilation):
    """Two generations of LeNet by channel, on noise."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (32, 32, 32, 1), np.uint8)
    split = Split(images, np.arange(32, dtype=np.int32) % 10)
    out = tmp_path_factory.mktemp("run") / "lenet"
    settings = Settings(
        generations=2, sizes=(4.0,), epochs=(1,), max_drop=100.0, cluster="channel",
        currency="macs", synapses=1.0, recipe=Recipe(batch_size=16),
    )  # fmt: skip
    evolve(settings, linen(LeNet()), Dataset("noise", 10, split, split), out)
    return out


@pytest.fixture
def evojax(capsys):
    """``evojax(arguments) -> (status, stdout, stderr)``."""

    def call(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


def test_the_record_names_the_network(run):
    record = read_lineage(run)["model"]
    assert record == described(LeNet())


@pytest.fixture
def forms_alike(monkeypatch):
    """Every form of a convolution is measured to be as fast as the others."""
    monkeypatch.setattr(autotuning, "take_turns", lambda forms, x, **_: [[1.0]] * len(forms))


def test_show_tells_widths_before_and_after(run, evojax, forms_alike, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    status, printed, _ = evojax("show", run, "--autotune", "--batch", 2)
    assert status == 0
    network = saved(run)
    kernel = np.asarray(network.masks["conv2"]["kernel"])
    alive = int(kernel.any((0, 1, 2)).sum())
    row = next(
        line for line in printed.split("Layers, compacted")[1].splitlines() if "conv2" in line
    )
    assert row.split()[:3] == ["conv2", "32", str(alive)] and alive < 32
    assert re.search("fewer MACs: dense 1.00×, compacted .*×, autotuned .*×", printed)
    assert "--cluster channel" not in printed
    rounded = evojax("show", run, "--round-to", 16)[1].split("Layers, compacted")[1]
    row = next(line for line in rounded.splitlines() if "conv2" in line)
    assert row.split()[:3] == ["conv2", "32", "32" if alive > 16 else "16"]


def test_show_tells_which_clusters_make_networks_faster(run, monkeypatch):
    monkeypatch.setattr(cli, "take_turns", lambda forms, x: [[1.0]] * len(forms))
    network = saved(run)
    *_, last = cli._shown_compacted(network, cli.Show(run))
    assert "fewer MACs" in last
    config = network.lineage["config"] | {"cluster": "kernel"}
    kernels = network._replace(lineage=network.lineage | {"config": config})
    assert "--cluster channel" in cli._shown_compacted(kernels, cli.Show(run))[-1]


def test_compact_writes_the_smaller_arrays(run, evojax, tmp_path):
    out = tmp_path / "small.npz"
    status, printed, _ = evojax("compact", run, out)
    assert status == 0 and "conv1/kernel" in printed
    arrays, described = np.load(out), json.loads((tmp_path / "small.npz.json").read_text())
    for path, entry in described["variables"].items():
        assert list(arrays[path].shape) == entry["shape"]
    assert sum(a.size for a in arrays.values()) < 143_978
    rounded = tmp_path / "rounded.npz"
    assert evojax("compact", run, rounded, "--round-to", 8)[0] == 0
    assert all(width % 8 == 0 for width in np.load(rounded)["params/conv2/kernel"].shape[2:])


def test_export_computes_what_the_saved_network_does(run, evojax, forms_alike, tmp_path):
    network = saved(run)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 32, 32, 1)), jnp.float32)
    expected = network.apply(network.variables, images)
    sizes = []
    for flags in ((), ("--dense",), ("--autotune", "--batch", 8)):
        out = tmp_path / f"net{len(flags)}"
        status, printed, _ = evojax("export", run, out, *flags)
        assert status == 0 and ("autotuned in batches of 8: " in printed) == (len(flags) == 3)
        restored = jax.export.deserialize(bytearray(out.read_bytes()))
        np.testing.assert_allclose(restored.call(images), expected, rtol=1e-4, atol=1e-5)
        sizes.append(out.stat().st_size)
    assert sizes[0] < sizes[1]


def test_report_is_written_anew(run, evojax):
    (run / "report.html").unlink(missing_ok=True)
    assert evojax("report", run)[0] == 0
    assert (run / "report.html").exists()


def test_bad_input_is_told_and_nothing_is_written(run, evojax, tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.write_text("precious")
    wrong = [
        (("show", tmp_path / "nowhere"), "there is no such file|missing"),
        (("show", run, "--generation", 3), "expected one whose network is in"),
        (("compact", run, "--generation", 3), "expected one whose network is in"),
        (("export", run, tmp_path / "new", "--generation", 3), "expected one whose network is in"),
        (("report", tmp_path / "nowhere"), "there is no such file|missing"),
        (("show", run, "--batch", 0), "--batch must be at least 1"),
        (("show", run, "--round-to", 0), "round_to must be a whole number of at least 1"),
        (
            ("export", run, tmp_path / "new", "--format", "npz", "--autotune"),
            "of which npz holds nothing",
        ),
        (("compact", run, "--round-to", 0), "round_to must be a whole number of at least 1"),
        (("compact", run, there), "exists already"),
        (("export", run, there), "exists already"),
        (("export", run, tmp_path), "exists already"),
    ]
    for arguments, message in wrong:
        status, printed, errors = evojax(*arguments)
        assert status == 2 and errors.startswith("error: ") and not printed
        assert any(part in errors for part in message.split("|")), errors
    monkeypatch.setattr(sys.modules["evojax.deploy.export"], "find_spec", lambda name: None)
    for format, extra in EXTRAS.items():
        status, _, errors = evojax("export", run, tmp_path / "new", "--format", format)
        assert status == 2 and f"evojax-synthesis[{extra}]" in errors
    assert there.read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


def test_the_lineage_in_the_repository_is_read(evojax, tmp_path):
    networks = Path(__file__).parents[1] / "results" / "networks"
    status, printed, _ = evojax("compact", networks / "channels_lenet", tmp_path / "last.npz")
    assert status == 0 and "Generation 11 of 11: 143,978 numbers" in printed
    status, _, errors = evojax("compact", networks / "channels_lenet", "--generation", 5)
    assert status == 2 and errors.endswith("channels_lenet: 1, 7, 11\n")
    run, out = networks / "mnist_lenet", tmp_path / "small.npz"
    assert evojax("compact", run, out, "--generation", 12)[0] == 0
    arrays = np.load(out)
    assert arrays["params/conv1/kernel"].shape == (5, 5, 1, 23)
    assert sum(int(np.sum(array != 0)) for array in arrays.values()) <= 1149


def test_the_version_is_told(evojax):
    assert evojax("--version") == (0, f"evojax {__version__}\n", "")


def test_compact_says_where_nothing_can_be_removed(run, evojax):
    assert "Nothing can be removed" not in evojax("compact", run)[1]
    status, printed, _ = evojax("compact", run, "--generation", 1)
    assert status == 0 and printed.endswith("Nothing can be removed: every array keeps its size\n")


def test_networks_of_others_and_older_runs_are_told_apart(run, evojax, tmp_path):
    for model, message in (
        (None, "Its own command once more"),
        ({"class": "mine.Net"}, "mine.Net"),
    ):
        lineage = read_lineage(run) | {"model": model}
        folder = tmp_path / str(model is None)
        shutil.copytree(run / "generations", folder / "generations")
        write_lineage(folder, lineage)
        for arguments in (("compact", folder), ("show", folder, "--generation", 2)):
            status, printed, errors = evojax(*arguments)
            assert status == 2 and message in errors and not printed
        status, printed, errors = evojax("show", folder, "--generation", 3)
        assert status == 2 and "expected one whose network is in" in errors and not printed
        status, printed, errors = evojax("show", folder)
        assert status == 0 and not errors and "Generations" in printed
        assert "Layers, compacted" not in printed and message in " ".join(printed.split())
