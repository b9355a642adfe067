"""The benchmark of a whole evolution, of the smallest network and of an invented day."""

import json
from collections import Counter
from importlib import import_module

import jax
import pytest

from evojax.compilation import FOLDER
from evojax.evolution import Settings
from evojax.report.readme import benchmark
from tests.experiments.small import Small


@pytest.fixture
def evolution(methods, monkeypatch):
    module = import_module("evolution")
    monkeypatch.setattr(module, "MODELS", dict.fromkeys(module.MODELS, Small))
    return module


def test_an_evolution_is_broken_down(evolution, quarters, tmp_path):
    folder = jax.config.values[FOLDER]
    out = tmp_path / "evolution.json"
    evolution.main(
        evolution.Options(
            "mnist_lenet", generations=3, subset=1.0, cached=True, data=quarters, out=out
        )
    )
    result = json.loads(out.read_text())["result"]
    for parts in result["seconds"].values():
        assert len(parts) == 4  # Three generations and the report.
        assert all(seconds >= 0 for part in parts for seconds in part.values())
        assert all(part["training"] > 0 and part["saving"] > 0 for part in parts[:3])
        # The ancestor comes from no litter, and is not drawn.
        chosen = [part.get(evolution.CHOICE, 0) > 0 for part in parts]
        assert chosen == [False, True, True, False]
        assert parts[0]["compilation"] > 0
        assert parts[3]["reporting"] > 0
    for column in result["shares"].values():
        assert sum(column[phase] for phase in evolution.PHASES) == pytest.approx(1)
        assert column["all but training"] == pytest.approx(1 - column["training"])
    # Nothing new is compiled in the third generation.
    assert result["shares"]["a generation"]["compilation"] < 0.05
    # Two epochs, then one and one, in place of one each.
    measured, reckoned = (
        result["shares"][name]["training"] for name in ("measured", "reckoned, first start")
    )
    assert reckoned / (1 - reckoned) == pytest.approx(4 / 3 * measured / (1 - measured))
    assert jax.config.values[FOLDER] == folder
    headings = "measured | a generation | reckoned, first start | reckoned, second start |"
    assert f"| mnist_lenet, % of the time | {headings}" in benchmark(out)


def test_every_moment_has_one_phase(evolution):
    marks = [
        evolution.Mark(0.0, "other", 0),
        evolution.Mark(10.0, "training", 0),
        evolution.Mark(20.0, "saving", 0),
        evolution.Mark(21.0, "synthesis", 1),
        evolution.Mark(25.0, "other", 1),
    ]
    # The first two overlap, and reach from one phase into the next; the last is the same again.
    first, second = evolution.accounted(marks, [(8, 12), (11, 13), (22, 23), (22, 23)])
    assert first == {"compilation": 5.0, "other": 8.0, "training": 7.0, "saving": 1.0}
    assert second == {"compilation": 1.0, "synthesis": 3.0}
    assert (first + second).total() == 25.0


def test_only_training_grows_with_epochs_and_images(evolution):
    own = Settings(generations=3, epochs=(5, 1, 3))
    options = evolution.Options(generations=3, epochs=(2, 1), subset=0.5)
    reckoned = evolution.reckoned(Counter(training=4.0, synthesis=1.0), own, options)
    assert reckoned == {"training": 4.0 * 9 / 4 / 0.5, "synthesis": 1.0}


def test_what_compiles_is_noticed(evolution):
    function = jax.jit(lambda x: x * 2 + 1)
    evolution.spans.clear()
    function(1.0)
    assert evolution.spans
    evolution.spans.clear()
    function(2.0)
    assert not evolution.spans


def test_phases_end_where_the_one_before_goes_on(evolution):
    diary = evolution.Diary()
    diary.turn("saving")
    with pytest.raises(ZeroDivisionError):
        diary.noting("evaluation", lambda: 1 / 0)()
    assert [mark.phase for mark in diary.marks] == ["other", "saving", "evaluation", "saving"]
    times = [mark.time for mark in diary.marks]
    assert times == sorted(times)
