"""The third paper's experiment, on a few dozen images."""

from __future__ import annotations

import fcntl
import json
from importlib import import_module
from pathlib import Path

import flax.linen as nn
import jax
import pytest
import tyro

from evojax.evolution import read_lineage
from evojax.report.cells import read
from evojax.report.readme import benchmark
from evojax.study import guarded


class Small(nn.Module):
    """In place of LeNet, which takes long to compile."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (4, 4), (8, 8), name="conv")(x))
        return nn.Dense(self.classes, name="dense")(x.mean((1, 2)))


@pytest.fixture
def polyploid(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "experiments"))
    module = import_module("mnist_polyploid")
    monkeypatch.setattr(module, "LeNet", Small)
    return module


@pytest.fixture
def options(polyploid, quarters, tmp_path):
    def options(**changes):
        fields = {
            "out": tmp_path / "runs", "results": tmp_path / "results" / "mnist_polyploid",
            "data": f"npz:{quarters}", "subset": 1.0, "shares": (0.8,), "population": 3,
            "parents": (3, 1), "seeds": (0, 1), "generations": 2, "epochs": (1,),
        }  # fmt: skip
        return polyploid.Options(**fields | changes)

    return options


def test_cells_are_shared_finished_once_and_collected(polyploid, options, capsys):
    results, one = options().results, {"seeds": (0,)}
    assert polyploid.main(options(collect=True)) == 0
    assert "6 of 6 cells are not finished" in capsys.readouterr().out
    first, *others = polyploid.planned(options())
    place = polyploid.folder(options(), first[0], first[1].seed)
    place.mkdir(parents=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert polyploid.main(options(**one)) == 0
    shown = capsys.readouterr().out
    assert "another process is at it" in shown
    assert "1 of 3 cells are not finished" in shown
    assert not results.exists()
    assert polyploid.main(options(collect=True)) == 0
    assert "of 2 of 6 cells" in capsys.readouterr().out
    assert len(read(results / "polyploid.json")) == 2

    folders = [polyploid.folder(options(), terms, settings.seed) for terms, settings in others]
    assert [path.name for path in folders] == [
        "R80-untagged-m3-seed0", "R80-m1-seed0",
        "R80-tagged-m3-seed1", "R80-untagged-m3-seed1", "R80-m1-seed1",
    ]  # fmt: skip
    before = [read_lineage(path)["generations"] for path in folders[:2]]
    assert polyploid.main(options()) == 0
    assert "of 6 of 6 cells" in capsys.readouterr().out
    assert [read_lineage(path)["generations"] for path in folders[:2]] == before
    _check_result(results, read_lineage(folders[0]))


def _check_result(results: Path, lineage) -> None:
    names = {"generations", "time", "storage", "similarity", "parents"}
    assert {path.stem for path in results.glob("*.png")} == names
    path = results / "polyploid.json"
    content = json.loads(path.read_text())
    assert content.keys() >= {"command", "environment", "dataset", "settings", "seeds", "table"}
    assert content["settings"]["cluster"] == "filter"
    assert content["settings"]["heredity"] == "mean"
    cells = {(c["tagging"], c["parents"], c["seed"]): c for c in content["cells"]}
    assert cells.keys() == {
        (tagging, count, seed)
        for tagging, count in ((True, 3), (False, 3), (None, 1))
        for seed in (0, 1)
    }
    cell, record = cells[False, 3, 0], lineage["generations"][1]
    accuracies = [member["accuracy"] for member in record["members"]]
    assert cell["accuracies"][1] == accuracies
    assert len(accuracies) == 3
    assert cell["accuracy"][1] == pytest.approx(sum(accuracies) / 3)
    assert (cell["accuracy_min"][1], cell["accuracy_max"][1]) == (min(accuracies), max(accuracies))
    assert cell["similarity"] == [1.0, record["similarity"]]
    sizes = [member["bytes_sparse"] for member in record["members"]]
    assert cell["bytes_sparse"][1] == pytest.approx(sum(sizes) / 3)
    assert cell["synapses"][1] == pytest.approx(0.64 * cell["synapses"][0], rel=0.2)
    assert 0 < cell["cumulative_seconds"][0] < cell["cumulative_seconds"][1]
    assert cell["status"] == "finished: 2 generations"
    # One ancestor a seed, whatever the terms.
    assert len({tuple(c["accuracies"][0]) for key, c in cells.items() if key[2] == 0}) == 1
    assert "| 80 | on | 3 | 2 | 2 |" in benchmark(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "--seeds must be one or more"),
        ({"tagging": ()}, "--tagging must be one or more"),
        ({"shares": ()}, "--shares must be one or more"),
        ({"shares": (0.5, 1.1)}, "--shares must be in (0, 1], such as 0.8; got 1.1"),
        ({"shares": (0.8, 0.80000001)}, "--shares must be one or more different ones; got ['80',"),
        ({"shares": (0.0,)}, "--shares must be in (0, 1], such as 0.8; got 0"),
        ({"parents": (4,)}, "--parents must be 1 to 3, the population; got 4"),
        ({"parents": (0,)}, "--parents must be 1 to 3, the population; got 0"),
        ({"chi": 2.0}, "chi must be in (0, 1]"),
        ({"generations": 0}, "generations must be"),
        ({"epochs": ()}, "epochs must be"),
        ({"data": "npz:nowhere.npz"}, "there is no such file"),
    ],
)
def test_bad_options_are_told_before_any_work(polyploid, options, capsys, changes, message):
    assert guarded(lambda: polyploid.main(options(**changes))) == 2
    assert message in capsys.readouterr().err
    assert not options().out.exists()


def test_results_that_cannot_be_written_are_told_before_any_work(polyploid, options, capsys):
    file = options().out.with_name("file")
    file.write_text("mine")
    assert guarded(lambda: polyploid.main(options(results=file / "results"))) == 2
    assert f"{file} is no folder to write to" in capsys.readouterr().err
    assert not options().out.exists()


def test_cells_on_other_terms_are_neither_continued_nor_collected(polyploid, options, capsys):
    one = {"seeds": (0,), "parents": (1,)}
    assert polyploid.main(options(**one)) == 0
    capsys.readouterr()
    # Nothing is done to the cells before it.
    more = {"seeds": (1, 0), "parents": (1,), "chi": 0.5}
    for collect in (False, True):
        assert guarded(lambda c=collect: polyploid.main(options(**more, collect=c))) == 2
        assert "another configuration (chi: 0.6 there, 0.5 now)" in capsys.readouterr().err
    assert [path.name for path in options().out.iterdir()] == ["R80-m1-seed0"]
    (options().out / "R80-m1-seed0" / "lineage.json").write_text("{")
    assert guarded(lambda: polyploid.main(options(**one | {"seeds": (1, 0)}))) == 2
    assert "Put it back from a copy" in capsys.readouterr().err
    assert not (options().out / "R80-m1-seed1").exists()


def test_cells_are_the_papers(polyploid):
    plan = polyploid.planned(polyploid.Options())
    assert len(plan) == len({polyploid.folder(polyploid.Options(), t, s.seed) for t, s in plan})
    assert [settings.seed for _, settings in plan] == [0] * 8 + [1] * 8 + [2] * 8
    for terms, settings in plan:
        assert settings.clusters == settings.synapses == terms.share
        assert (settings.population, settings.offspring, settings.parents) == (5, 5, 5)
        assert (settings.tagging, settings.chi, settings.held_out) == (terms.tagging, 0.6, 0)
        assert (settings.selection_pressure, settings.litter, settings.sweep) == (1, 1, False)
    fewer = polyploid.planned(polyploid.Options(parents=(1, 2)))
    assert all(settings.held_out == 0 for _, settings in fewer)
    assert len(fewer) == 4 * 3 * 3


def test_flags(polyploid):
    config = (tyro.conf.FlagConversionOff,)
    flags = [
        "--collect", "True", "--tagging", "True", "False", "--shares", "0.5", "0.95",
        "--epochs", "6", "2",
    ]  # fmt: skip
    read = tyro.cli(polyploid.Options, args=flags, config=config)
    assert (read.collect, read.tagging, read.shares) == (True, (True, False), (0.5, 0.95))
