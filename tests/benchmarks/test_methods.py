"""The comparison of encodings, on a few dozen images."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from itertools import combinations

import flax.linen as nn
import jax
import pytest

from evojax.evolution import read_lineage
from evojax.evolution.lineage import configuration
from evojax.report.readme import benchmark
from evojax.study import guarded, slug


class Small(nn.Module):
    """In place of LeNet, which takes long to compile."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(8, (8, 8), (8, 8), name="conv")(x))
        return nn.Dense(self.classes, name="dense")(x.reshape(len(x), -1))


@pytest.fixture
def options(methods, quarters, tmp_path, monkeypatch):
    """Of a study of two methods, two sizes and one seed."""
    monkeypatch.setattr(methods, "LeNet", Small)
    studies = methods.STUDIES | {
        "methods": {name: methods.STUDIES["methods"][name] for name in (methods.PLAIN, "magnitude")}
    }
    monkeypatch.setattr(methods, "STUDIES", studies)

    def options(**changes):
        fields = {
            "data": quarters, "subset": 1.0, "seeds": (0,), "sizes": (4.0, 16.0), "epochs": (1,),
            "out": tmp_path / "results" / "methods", "runs": tmp_path / "runs",
        }  # fmt: skip
        return methods.Options(**fields | changes)

    return options


def test_a_study_is_shared_finished_once_and_written(methods, options, tmp_path, capsys):
    assert methods.main(options(only=("magnitude",))) == 0
    assert not (tmp_path / "results").exists()
    place = methods.folder(options(), "magnitude", 0)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        capsys.readouterr()
        assert methods.main(options()) == 0  # Passes over the run that another one holds.
        assert "another process is at it" in capsys.readouterr().out
    before = (place / "lineage.json").stat().st_mtime_ns, read_lineage(place)
    (tmp_path / "results" / "methods" / "methods.json").unlink()

    assert methods.main(options()) == 0
    assert "epoch 1 of" not in capsys.readouterr().out  # Nothing is trained again.
    assert read_lineage(place)["generations"] == before[1]["generations"]
    path = tmp_path / "results" / "methods" / "methods.json"
    assert path.with_suffix(".png").read_bytes()[1:4] == b"PNG"
    content = json.loads(path.read_text())
    assert content.keys() >= {"command", "environment", "dataset", "settings", "seeds", "table"}
    assert content["settings"]["sizes"] == [4, 16]
    best, magnitude = content["methods"]
    assert magnitude["settings"] == {"encoding": "magnitude"}
    run = magnitude["runs"][0]
    assert run["accuracy"] == [record["accuracy"] for record in before[1]["generations"]]
    assert run.keys() >= {"seed", "jax", "device", "git", "synapses"}
    for one in (run, best["runs"][0]):
        whole, *small = one["synapses"]
        for synapses, size in zip(small, (4, 16), strict=True):
            assert 0.6 * whole / size < synapses <= whole / size
    # One ancestor: the encodings differ only in what they make of it.
    assert best["runs"][0]["loss"][0] == run["loss"][0]
    assert benchmark(path).startswith("| test accuracy, % ± standard deviation | seeds | 1× | 4× |")


def test_the_settings_written_are_those_that_the_methods_change(methods, options):
    terms = options()
    changed = methods.settings_of(methods.BY_CHANNEL, 0, terms)
    lineage = {
        "config": configuration(changed, "methods", "quarters"),
        "environment": {"jax": "1", "device": "cpu", "git": None},
        "dataset": {}, "seed": 0, "status": "finished", "generations": [],
    }  # fmt: skip
    method = {"name": "channel clusters", "settings": methods.BY_CHANNEL, "runs": [lineage]}
    written = methods.content_of(terms, [method])["settings"]
    assert written["data"] == "quarters" and "seed" not in written
    assert (written["cluster"], written["currency"]) == ("kernel", "synapses")
    assert written["sizes"] == [4, 16]


def test_beside_others_stand_only_runs_on_the_same_terms(methods, options, tmp_path):
    terms, path = options(seeds=(0, 2)), tmp_path / "methods.json"
    dataset = methods.images(terms)
    runs = [
        {"seed": seed, "architectural_efficiency": [1, 4], "accuracy": [0.9, 0.8]}
        for seed in (0, 1, 2)
    ]
    content = {
        "dataset": {"name": dataset.name, "train": 64, "test": 50},
        "settings": {"sizes": [4.0, 16.0], "epochs": [1]},
        "methods": [{"name": "both", "runs": runs}, {"name": "other", "runs": runs[1:2]}],
    }
    path.write_text(json.dumps(content))
    (both,) = methods.beside([path], terms, dataset)
    assert [run.seed for run in both.runs] == [0, 2]
    with pytest.raises(ValueError, match=r"measured on other terms \(sizes, epochs\): name one"):
        methods.beside([path], replace(terms, sizes=(4.0,), epochs=(2,)), dataset)
    path.write_text(json.dumps(content | {"dataset": {"name": "mnist", "train": 64, "test": 50}}))
    with pytest.raises(ValueError, match=r"other terms \(name\)"):
        methods.beside([path], terms, dataset)


def test_an_unfinished_study_is_not_written(methods, options, tmp_path, capsys):
    assert methods.collect(options(seeds=(0, 1))) == 0
    assert "4 of these runs are not finished" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "--seeds must be one or more"),
        ({"seeds": (1, 1)}, "--seeds must be one or more"),
        ({"sizes": ()}, "--sizes must be one or more"),
        ({"sizes": (8.0, 4.0)}, "sizes must be rising"),
        ({"epochs": (0,)}, "epochs must be"),
        ({"only": ("lamarck",)}, "--only must be of cluster-driven, magnitude; got lamarck"),
        ({"subset": 0.0}, "subset"),
        ({"data": "npz:nowhere.npz"}, "there is no such file"),
    ],
)
def test_bad_options_are_told_before_any_work(methods, options, tmp_path, capsys, changes, message):
    assert guarded(lambda: methods.main(options(**changes))) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_one_name_is_one_setting_and_all_keep_to_the_protocol(methods):
    known = {}
    for study, variations in methods.STUDIES.items():
        plan = dict(methods.planned(methods.Options(study=study, seeds=(3,))))
        assert plan.keys() == variations.keys()
        for name, settings in plan.items():
            assert known.setdefault(name, settings) == settings
            by_channel = settings.cluster == "channel"
            assert settings.sizes == (methods.MAC_SIZES if by_channel else methods.SIZES)
            assert settings.currency == ("macs" if by_channel else "synapses")
            assert settings.epochs == methods.EPOCHS
            recipe = replace(settings.recipe, l1=methods.BASE.recipe.l1)
            assert (recipe, settings.max_drop) == (methods.BASE.recipe, 100.0)
            assert settings.generations == 1 + len(settings.sizes) == len(methods.EPOCHS)
    assert all(one != other for one, other in combinations(known.values(), 2))
    assert {s.encoding for s in known.values()} == {
        "cluster_driven", "synapse_driven", "magnitude", "random"
    }  # fmt: skip
    assert len({slug(name) for name in known}) == len(known)
