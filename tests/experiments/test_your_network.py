"""A user's own network ends as a smaller, exported file, in Linen and in NNX."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax.data import load
from evojax.evolution import read_lineage
from evojax.learning import Recipe

SCRIPT = Path(__file__).parents[2] / "experiments" / "your_network.py"


@pytest.mark.parametrize("flavour", ["linen", "nnx"])
def test_it_evolves_and_leaves_as_a_smaller_file(flavour, tmp_path, monkeypatch):
    spec = spec_from_file_location("your_network", SCRIPT)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "load", lambda name: load(name, subset=0.02))
    changes = {"generations": 2, "epochs": (1,), "max_drop": 100.0}
    file = script.main(flavour, tmp_path, **changes, recipe=Recipe(batch_size=16))
    ancestor, offspring = read_lineage(tmp_path)["generations"]
    assert ancestor["synapses"] == 160 + 4_640 + 20_490
    assert [layer["synapses"] for layer in ancestor["layers"]] == [160, 4_640, 20_490]
    assert ancestor["macs"] == 16**2 * 144 + 8**2 * 4_608 + 20_480
    assert offspring["compacted_macs"] < ancestor["compacted_macs"]
    restored = jax.export.deserialize(bytearray(file.read_bytes()))
    logits = np.asarray(restored.call(jnp.ones((3, 32, 32, 1))))
    assert logits.shape == (3, 10) and np.isfinite(logits).all()


def test_it_fits_on_a_page():
    assert len(SCRIPT.read_text().splitlines()) <= 60
