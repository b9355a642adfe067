"""A user's own network ends as a smaller, exported file: the script in NNX, README's in Linen."""

import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax import data
from evojax.evolution import read_lineage
from evojax.learning import Recipe

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "experiments" / "your_network.py"
BLOCK = (REPOSITORY / "README.md").read_text().split("### Your own network")[1].split("```")[1]


def by_script(out):
    spec = spec_from_file_location("your_network", SCRIPT)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    changes = {"generations": 2, "epochs": (1,), "max_drop": 100.0}
    return script.main("nnx", out, **changes, recipe=Recipe(batch_size=16))


def by_readme(out):
    """The block as it would be pasted, but short and in a folder for tests."""
    block = BLOCK.removeprefix("python\n")
    for words, instead in (
        ("runs/your_network", str(out)),
        ("generations=8, epochs=(6, 3)", "generations=2, epochs=(1,), max_drop=100.0"),
    ):
        assert words in block
        block = block.replace(words, instead)
    exec(block, {"__name__": "__main__"})
    return out / "small"


@pytest.mark.parametrize("way", [by_script, by_readme])
def test_it_evolves_and_leaves_as_a_smaller_file(way, tmp_path, monkeypatch):
    load = data.load
    monkeypatch.setattr(data, "load", lambda name: load(name, subset=0.02))
    file = way(tmp_path)
    ancestor, offspring = read_lineage(tmp_path)["generations"]
    assert ancestor["synapses"] == 160 + 4_640 + 20_490
    assert [layer["synapses"] for layer in ancestor["layers"]] == [160, 4_640, 20_490]
    assert ancestor["macs"] == 16**2 * 144 + 8**2 * 4_608 + 20_480
    assert offspring["compacted_macs"] < ancestor["compacted_macs"]
    restored = jax.export.deserialize(bytearray(file.read_bytes()))
    logits = np.asarray(restored.call(jnp.ones((3, 32, 32, 1))))
    assert logits.shape == (3, 10) and np.isfinite(logits).all()


def test_the_script_has_the_readmes_network():
    network = BLOCK[BLOCK.index("class ") :].split("\n\n")[0]
    assert network in SCRIPT.read_text()


@pytest.mark.parametrize(("flag", "status"), [("--help", 0), ("--torch", 1)])
def test_its_flags_are_told(flag, status, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), flag])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert end.value.code == status and "your_network.py [--nnx]" in capsys.readouterr().out


def test_it_fits_on_a_page():
    assert len(SCRIPT.read_text().splitlines()) <= 60
