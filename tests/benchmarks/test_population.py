"""The benchmark of populations, on a handful of images."""

import json
from importlib import import_module

from evojax.report.readme import benchmark


def test_a_population_is_measured(methods, tmp_path):
    population = import_module("population")
    out = tmp_path / "population.json"
    population.main(population.Options(members=(2,), images=4, batch=2, turns=1, out=out))
    content = json.loads(out.read_text())
    assert [row["members"] for row in content["result"]] == [2]
    assert all(row["speed"]["one after another"] == 1.0 for row in content["result"])
    assert all(each > 0 for row in content["result"] for each in row["seconds"].values())
    assert "| networks | one after another | map | vmap |" in benchmark(out)
