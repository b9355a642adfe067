"""Killed at any moment and started again, a run ends as one that was never killed."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path
from runpy import run_path
from typing import Any

import jax
import pytest

from evojax.evolution import checkpoints, read_lineage

SMALL = Path(__file__).with_name("small.py")
KILLS = 10

# Processes fork from a server that has imported everything: importing takes longer than the run.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["evojax.command", "orbax.checkpoint"])


@pytest.fixture
def start(tmp_path, quarters, compilation_cache):
    """Starts the experiment in a process of its own, with what it prints in a file."""
    started = []

    def start(out: Path):
        script = tmp_path / "command.py"
        script.write_text(
            "import runpy, sys, jax\n"
            f"sys.stdout = sys.stderr = open({str(tmp_path / 'log')!r}, 'a', buffering=1)\n"
            "jax.config.update('jax_disable_most_optimizations', True)\n"
            f"jax.config.update('jax_compilation_cache_dir', {str(compilation_cache)!r})\n"
            "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
            f"sys.argv = [{str(SMALL)!r}, '--out', {str(out)!r}, '--data', 'npz:{quarters}']\n"
            f"runpy.run_path({str(SMALL)!r}, run_name='__main__')\n"
        )
        process = PROCESSES.Process(target=run_path, args=(str(script), None, "__main__"))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def timeless(lineage: dict[str, Any]) -> dict[str, Any]:
    """A lineage without its timings, how it was started and where."""
    generations = [record | {"train_seconds": None} for record in lineage["generations"]]
    about = dict.fromkeys(("command", "environment", "continued"))
    return lineage | about | {"generations": generations}


def records(run: Path) -> list[dict[str, Any]]:
    """Every finished generation's entry."""
    return read_lineage(run)["generations"] if (run / "lineage.json").exists() else []


def bits(run: Path) -> list[list[bytes]]:
    """Every finished generation's arrays."""
    networks = [checkpoints.restore(run, record["generation"]) for record in records(run)]
    return [[leaf.tobytes() for leaf in jax.tree.leaves(network)] for network in networks]


def wait_for(process: Any, run: Path, generations: int) -> None:
    """Waits until so many generations are finished, or the process is."""
    while process.exitcode is None and len(records(run)) < generations:
        process.join(0.01)


def test_killed_at_ten_random_moments_it_ends_the_same(start, tmp_path):
    whole = tmp_path / "whole"
    for out in (tmp_path / "warm", whole):  # The first one compiles.
        begin = time.perf_counter()
        process = start(out)
        process.join(300)
        seconds = time.perf_counter() - begin
        assert process.exitcode == 0, (tmp_path / "log").read_text()[-3000:]
    expected = timeless(read_lineage(whole))
    assert len(expected["generations"]) == 6

    moments = random.Random(2016)
    kills, runs, finished_by_then = 0, 0, set()
    while kills < KILLS:
        out = tmp_path / f"killed{runs}"
        runs += 1
        finished = False
        while not finished:
            process = start(out)
            if kills < KILLS:
                wait_for(process, out, kills % 6)
                process.join(moments.uniform(0.0, seconds / 20))
            else:
                process.join(300)
            finished = process.exitcode is not None
            if not finished:
                process.kill()
                process.join()
                kills += 1
                done = bits(out)  # Whatever was finished is there.
                assert done == bits(whole)[: len(done)]
                finished_by_then.add(len(done))
            else:
                assert process.exitcode == 0, (tmp_path / "log").read_text()[-3000:]
        assert timeless(read_lineage(out)) == expected
        assert bits(out) == bits(whole)
        assert (out / "report.html").exists()
    assert len(finished_by_then) > 2  # It was killed in various generations.
