"""What benchmarks share."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


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
