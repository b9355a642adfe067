"""The benchmark of compile time, on the smallest ResNets."""

import json
from importlib import import_module

import jax

from evojax.compilation import FOLDER
from evojax.report.readme import benchmark


def test_compile_times_are_measured(methods, monkeypatch, tmp_path):
    compilation = import_module("compilation")
    built = []

    def build(function, *args):
        built.append((jax.eval_shape(function, *args), jax.config.values[FOLDER]))

    monkeypatch.setattr(compilation, "built", build)
    folder = jax.config.values[FOLDER]
    out = tmp_path / "compilation.json"
    compilation.main(compilation.Options(blocks=(1, 2), trained=1, turns=2, out=out))
    content = json.loads(out.read_text())
    rows = [(row["network"], row["part"]) for row in content["result"]]
    assert rows == [("ResNet-8", "synthesis"), ("ResNet-8", "training"), ("ResNet-14", "synthesis")]
    assert [row["ratio"] for row in content["result"][:2]] == [1.0, 1.0]
    # A warm-up, a turn each without a cache, then one more in one of its own, which is put away.
    assert [place is None for _, place in built] == [True] * (2 + 6) + [False] * 9
    assert len({place for _, place in built[8:]}) == 3
    assert jax.config.values[FOLDER] == folder
    assert "| synthesis, ResNet-14 |" in benchmark(out)
