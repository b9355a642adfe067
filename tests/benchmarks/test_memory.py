"""The benchmark of memory, on the smallest network."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

from evojax.report.readme import benchmark


def test_memory_is_measured(methods, monkeypatch, tmp_path):
    memory = import_module("memory")
    commands = []
    monkeypatch.setattr(memory, "largest", lambda command: commands.append(command) or 10**8)
    out = tmp_path / "memory.json"
    memory.main(
        memory.Options(
            networks=("LeNet",), batches=(2, 4), members=(2,), generations=(2, 3), out=out
        )
    )
    rows = json.loads(out.read_text())["result"]
    assert [(row["batch"], row["members"]) for row in rows] == [(2, 1), (4, 1), (2, 2)]
    for row in rows:
        # What comes out is in the place of what went in, but for losses and accuracies.
        assert 0 < row["results"] - row["aliased"] < 1000
        assert row["total"] > row["arguments"] > row["aliased"]
        assert row["foretold"] > row["arguments"]
    one, larger, two = rows
    assert larger["temporaries"] > one["temporaries"]
    assert two["aliased"] == 2 * one["aliased"]
    assert "| MB on the device | batch | networks | arguments |" in benchmark(out)
    assert "| LeNet | 100.0 | 100.0 |" in benchmark(tmp_path / "memory-host.json")
    assert [command[1].rpartition("/")[2] for command in commands] == 2 * ["digits_lenet.py"]


def test_the_largest_memory_of_a_process(methods):
    memory = import_module("memory")
    small, large = (
        memory.largest([sys.executable, "-c", f"len(bytearray(b'x') * {size})"])
        for size in (1, 10**8)
    )
    assert 0.9e8 < large - small < 1.1e8
    assert small < 0.5e8  # This process has more.
    with pytest.raises(subprocess.CalledProcessError):
        memory.largest([sys.executable, "-c", "raise SystemExit(1)"])


def test_a_run_leaves_a_gpus_memory_to_the_process_that_started_it(methods, monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    program = "import os; assert os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] == 'false'"
    assert import_module("memory").largest([sys.executable, "-c", program]) > 0
