"""What is shown while a run runs, with and without a terminal, and on broken outputs."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from evojax.evolution.events import (
    EpochFinished,
    GenerationFinished,
    GenerationStarted,
    RunFinished,
    RunStarted,
)
from evojax.learning import Memory
from evojax.report import console, progress
from evojax.report.tables import Column, Table

Make = Callable[..., dict[str, Any]]


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of a known kind and size."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def _run(
    watch: Callable[[object], None], records: list[dict[str, Any]], offspring: int = 1
) -> None:
    """Two epochs of 60 s for every offspring of every generation."""
    left = 2 * offspring * len(records)
    for record in records:
        number, synapses = record["generation"], record["synapses"]
        watch(GenerationStarted(number, len(records), offspring, 2, synapses, left))
        for index in range(offspring):
            for epoch in (1, 2):
                watch(EpochFinished(number, index + 1, epoch, 2, 0.25 / epoch, 0.97, 60.0))
        watch(GenerationFinished(record))
        left -= 2 * offspring
    watch(RunFinished("finished: 2 generations", "runs/digits"))


def test_without_a_terminal_there_is_a_line_for_each_event(make: Make) -> None:
    out = io.StringIO()
    with progress(out) as watch:
        _run(watch, make(2)["generations"])
    assert out.getvalue().splitlines() == [
        "generation 1 of 2: 143,978 synapses, 2 epochs",
        "generation 1, epoch 1 of 2: loss 0.2500, training accuracy 97.00 %, 1 min 00 s, "
        "about 3 min left, compilation counted",
        "generation 1, epoch 2 of 2: loss 0.1250, training accuracy 97.00 %, 1 min 00 s, "
        "about 2 min left",
        "generation 1 finished: A-E 1.00×, test accuracy 99.50 %, 143,978 synapses, C-E 1.00×, "
        "trained for 12.3 s",
        "generation 2 of 2: 100,602 synapses, 2 epochs",
        "generation 2, epoch 1 of 2: loss 0.2500, training accuracy 97.00 %, 1 min 00 s, "
        "about 1 min left",
        "generation 2, epoch 2 of 2: loss 0.1250, training accuracy 97.00 %, 1 min 00 s, "
        "all trained",
        "generation 2 finished: A-E 1.43×, test accuracy 99.50 %, 100,602 synapses, C-E 1.17×, "
        "trained for 13.3 s",
        "finished: 2 generations; written to runs/digits",
    ]


def test_the_data_and_their_place_are_told_first() -> None:
    data = {"name": "mnist", "train": 54000, "holdout": 6000, "test": 10000}
    for out in (io.StringIO(), Terminal()):
        with progress(out) as watch:
            watch(RunStarted(Memory(5, 1, 0, 1, 1), data, "/data/mnist/3.0.1"))
        told = (
            "mnist: 54,000 training images, 6,000 held out, 10,000 test images, "
            "from /data/mnist/3.0.1"
        )
        shown = " ".join(out.getvalue().split())
        assert told in shown and "5 parameters; training takes" in shown


def test_what_was_left_out_is_counted() -> None:
    data = {"name": "kitti", "train": 3, "test": 2, "skipped": {"no labels": 2, "no image": 1}}
    out = io.StringIO()
    with progress(out) as watch:
        watch(RunStarted(Memory(5, 1, 0, 1, 1), data, "/data/kitti"))
    told = "2 test images, from /data/kitti; left out are no labels: 2, no image: 1\n"
    assert told in out.getvalue()


def test_an_ancestor_that_learnt_nothing_is_told_once(make: Make) -> None:
    records = make(2, detection=True)["generations"]
    for name in ("precision", "recall"):
        records = [record | {name: 0.0} for record in records]
    for out in (io.StringIO(), Terminal()):
        with progress(out) as watch:
            _run(watch, records)
        assert out.getvalue().count("the ancestor is at 0 %") == 1
    out = io.StringIO()
    with progress(out) as watch:
        _run(watch, [records[0] | {"precision": 0.01}])
    assert "note" not in out.getvalue()


def test_lines_are_written_at_once(make: Make) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="utf-8")
    with progress(out) as watch:
        watch(GenerationStarted(1, 2, 1, 2, 5, 4))
        assert raw.getvalue().startswith(b"generation 1 of 2: 5 synapses")


def test_several_offspring_are_told_apart(make: Make) -> None:
    out = io.StringIO()
    with progress(out) as watch:
        _run(watch, make(1)["generations"], offspring=3)
    assert "generation 1 of 1: 3 offspring of 143,978 synapses, 2 epochs" in out.getvalue()
    assert "generation 1, offspring 3, epoch 2 of 2:" in out.getvalue()


def test_detection_shows_both_measures(make: Make) -> None:
    for out in (io.StringIO(), Terminal()):
        with progress(out) as watch:
            _run(watch, make(1, detection=True, ancestor=0.7803)["generations"])
        assert "78.03" in out.getvalue() and "62.03" in out.getvalue()


def test_a_dumb_terminal_gets_lines(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    with progress(out) as watch:
        _run(watch, make(2)["generations"])
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 9


def test_a_terminal_lists_finished_generations_above_a_live_part(make: Make) -> None:
    out = Terminal()
    with progress(out) as watch:
        watch(GenerationStarted(1, 2, 2, 4, 143978, 16))
        _until(out, "compiling and training the first epoch")
        assert "time left not known yet" in out.getvalue()
        watch(EpochFinished(1, 1, 3, 4, 0.0625, 0.9875, 120.0))
        _until(out, "loss 0.0625 · training accuracy 98.75 %")
        assert "generation 1 of 2" in out.getvalue()
        assert "offspring 1 of 2 · epoch 4 of 4 · 143,978 synapses" in out.getvalue()
        assert "6 %, about 30 min left" in out.getvalue()
        watch(EpochFinished(1, 1, 4, 4, 0.0625, 0.9875, 120.0))
        _until(out, "offspring 2 of 2 · epoch 1 of 4")
        for record in make(2)["generations"]:
            watch(GenerationFinished(record))
        watch(RunFinished("finished: 2 generations", "runs/digits"))
    shown = out.getvalue()
    assert "Gen.        A-E  Accuracy %     Synapses       C-E     Training" in shown
    assert "   2      1.43×       99.50      100,602     1.17×       13.3 s" in shown
    assert shown.count("Gen. ") == 1
    assert "finished: 2 generations; written to runs/digits" in shown


def test_the_estimate_leaves_out_the_epoch_that_compiled() -> None:
    out = io.StringIO()
    with progress(out) as watch:
        watch(GenerationStarted(1, 2, 1, 100, 5, 200))
        watch(EpochFinished(1, 1, 1, 100, 0.5, 0.9, 300.0))
        watch(EpochFinished(1, 1, 2, 100, 0.5, 0.9, 2.0))
        # Several networks at once are another program.
        watch(GenerationStarted(2, 2, 6, 10, 5, 60))
        for offspring in range(1, 7):
            watch(EpochFinished(2, offspring, 1, 10, 0.5, 0.9, 300.0))
        watch(EpochFinished(2, 1, 2, 10, 0.5, 0.9, 2.0))
    lines = out.getvalue().splitlines()
    assert lines[1].endswith(", about 16 h 40 min left, compilation counted")
    assert lines[2].endswith(", about 7 min left")  # 198 epochs of 2 s
    assert lines[-1].endswith(", about 2 min left")  # 53 of them


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_broken_pipe_does_not_break_the_run(make: Make, on_terminal: bool) -> None:
    with progress(Broken(on_terminal)) as watch:
        _run(watch, make(2)["generations"])


def test_a_closed_output_does_not_break_the_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    for output in (closed, None):
        monkeypatch.setattr(sys, "stdout", output)
        with progress() as watch:
            _run(watch, make(2)["generations"])
        console().print("a table")


def test_a_table_keeps_its_columns_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cells = tuple(f"91.50 ± 1.14 at {number}x" for number in range(8))
    table = Table("", tuple(Column(cell, cell) for cell in cells), (cells,)).rich()
    console(table).print(table)
    printed = capsys.readouterr().out
    assert [cell for cell in cells if printed.count(cell) == 2] == list(cells)


def test_an_output_that_lacks_a_character_gets_another(make: Make) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    with progress(out) as watch:
        _run(watch, make(1)["generations"])
    assert b"A-E 1.00?, test accuracy 99.50 %" in raw.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_an_error_of_the_run_passes_through(kind: type[io.StringIO]) -> None:
    out = kind()
    with pytest.raises(KeyboardInterrupt), progress(out) as watch:
        watch(GenerationStarted(1, 2, 1, 2, 5, 4))
        raise KeyboardInterrupt
    if kind is Terminal:
        assert out.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in out.getvalue()[-40:]


def test_an_event_of_another_kind_is_ignored() -> None:
    out = io.StringIO()
    with progress(out) as watch:
        watch(object())
    assert out.getvalue() == ""


def _until(out: io.StringIO, words: str, seconds: float = 5.0) -> None:
    """Waits until the live part, drawn a few times a second, shows `words`."""
    end = time.monotonic() + seconds
    while words not in out.getvalue():
        assert time.monotonic() < end, f"never shown: {words}"
        time.sleep(0.02)
