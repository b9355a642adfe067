"""What studies share: runs in folders that several processes work through."""

from __future__ import annotations

import fcntl
import sys

import pytest

from evojax import study
from evojax.data import Dataset
from evojax.evolution import Settings, read_lineage
from evojax.learning import NonFiniteLoss, Recipe

SETTINGS = Settings(
    generations=2, epochs=(1,), max_drop=100.0, recipe=Recipe(batch_size=16), cluster="synapse"
)


@pytest.fixture(autouse=True)
def _hurry(quick_compilation):
    pass


def test_a_run_is_passed_over_while_in_use_and_done_once(tmp_path, dense, dataset: Dataset, capsys):
    out = tmp_path / "run"
    assert study.finished(out) is None
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        study.run(out, SETTINGS, dense, dataset, "small")
    assert "another process is at it" in capsys.readouterr().out
    assert study.finished(out) is None
    study.run(out, SETTINGS, dense, dataset, "small")
    lineage = study.finished(out)
    assert lineage["status"] == "finished: 2 generations"
    assert (lineage["experiment"], lineage["command"]) == ("small", study.command())
    study.run(out, SETTINGS, dense, dataset, "small")
    assert read_lineage(out)["generations"] == lineage["generations"]
    with pytest.raises(ValueError, match="another configuration|differ"):
        study.run(out, SETTINGS, dense, dataset, "other")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("seeds"), 2),
        (OSError("full"), 1),
        (NonFiniteLoss("broke down"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_told_without_a_traceback(error, status, capsys):
    def work():
        raise error

    assert study.guarded(work) == status
    assert (str(error) or "Interrupted. To continue") in capsys.readouterr().err
    assert study.guarded(lambda: 0) == 0


def test_words(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["study.py", "--out", "a b"])
    assert study.command() == "python study.py --out 'a b'"
    assert study.slug("cluster-driven, literal") == "cluster-driven_literal"
    study.check_different("--seeds", (0, 1))
    for values in ((), (1, 1)):
        with pytest.raises(ValueError, match="--seeds must be one or more different ones"):
            study.check_different("--seeds", values)
