"""What benchmarks share."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest


def test_short_contestants_are_called_as_often_as_fills_a_turn(methods):
    calls = []

    def short() -> None:
        calls.append("short")
        time.sleep(0.005)

    def long() -> None:
        calls.append("long")
        time.sleep(0.15)

    times = import_module("common").take_turns({"short": short, "long": long}, 2)
    assert calls.count("long") == 2 + 2  # A warm-up, and one to see how long it takes.
    assert calls.count("short") > 2 + 2 * 5
    assert all(0.004 < seconds < 0.05 for seconds in times["short"])
    assert all(0.1 < seconds < 0.5 for seconds in times["long"])


def test_a_result_names_the_command_that_makes_it_again(methods, monkeypatch, tmp_path):
    @dataclass
    class Options:
        out: Path

    monkeypatch.chdir(tmp_path)
    script = str(tmp_path / "benchmarks" / "scale.py")
    monkeypatch.setattr(sys, "argv", [script, "--networks", "1 G"])
    options = Options(tmp_path / "scale.json")
    import_module("common").write("scale", [["network"], ["1 G"]], options, {}, {})
    content = json.loads(options.out.read_text())
    assert content["command"] == "python benchmarks/scale.py --networks '1 G'"


def test_a_wide_table_is_shown_whole(methods, monkeypatch, tmp_path, capsys):
    @dataclass
    class Options:
        out: Path

    monkeypatch.setenv("COLUMNS", "40")
    names = ["125x, compacted, autotuned", *(f"synthesis, part {number}" for number in range(4))]
    import_module("common").write("scale", [names, names], Options(tmp_path / "a.json"), {}, {})
    shown = capsys.readouterr().out
    assert "\u2026" not in shown


@pytest.mark.parametrize(
    ("benchmark", "fields", "message"),
    [
        ("synthesis", {"networks": ("VGG",)}, "--networks must be of LeNet, .*; got VGG"),
        ("scale", {"networks": ()}, "--networks must be of LeNet, .*; got none"),
        ("training", {"batch_size": 0}, "--batch-size must be at least 1; got 0"),
        ("population", {"members": (1, 0)}, "--members must be at least 1; got 1, 0"),
        ("compilation", {"blocks": ()}, "--blocks must be at least 1; got none"),
        ("memory", {"networks": ("VGG",)}, "got VGG"),
        ("devices", {"networks": ("DetectNet",)}, "of LeNet, AlexNet, ResNet-56; got DetectNet"),
        ("devices", {"devices": (2, 1)}, "--devices must begin with 1, to compare with; got 2"),
        ("devices", {"utilisation": 30.0}, r"--utilisation in \(0, 1\]; got .* and 30"),
        ("evolution", {"generations": 0}, "--generations must be at least 1; got 0"),
        ("inference", {"turns": 0}, "--turns must be at least 1; got 0"),
        ("memory", {"members": (2, 0)}, "--members must be at least 1; got 0"),
    ],
)
def test_flags_are_checked_before_anything_is_measured(methods, benchmark, fields, message):
    module = import_module(benchmark)
    with pytest.raises(ValueError, match=message):
        module.main(module.Options(**fields))


def test_what_is_wrong_is_told_without_a_traceback(methods, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    population = import_module("population")
    for flags, message in (
        (["--turns", "0"], "error: --turns must be at least 1; got 0"),
        (["--out", str(tmp_path / "file" / "out.json")], "error: --out .* no folder to write to"),
    ):
        monkeypatch.setattr(sys, "argv", ["population.py", *flags])
        with pytest.raises(SystemExit, match=message):
            import_module("common").launch(population.main, population.Options, "Nothing.")
