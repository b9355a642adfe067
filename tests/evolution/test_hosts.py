"""Two processes evolve one lineage: as one process does, whatever becomes of one of them."""

from __future__ import annotations

import multiprocessing
import signal
import socket
from pathlib import Path
from runpy import run_path

import jax
import numpy as np
import pytest

from evojax.evolution import read_lineage
from evojax.evolution.run_folder import check_alike
from evojax.hosts import ALONE, hosts_of
from evojax.joining import Joining, join
from evojax.learning import population_mesh
from tests.evolution.test_population import untimed

SMALL = Path(__file__).parents[1] / "experiments" / "small.py"
SETTINGS = "--population 2 --offspring 3 --mates random --generations 3 --epochs 1"
# Processes fork from a server that has imported everything: importing takes longer than the run.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["evojax.command", "orbax.checkpoint"])


@pytest.fixture
def start(tmp_path, dataset, compilation_cache):
    """Starts the experiment in a process of its own with two devices; gives it and its output."""
    data, started = tmp_path / "quarters.npz", []
    (x_train, y_train), (x_test, y_test) = dataset.train, dataset.test
    np.savez(data, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)

    def start(*flags):
        script = tmp_path / f"command{len(started)}.py"
        argv = [str(SMALL), "--data", f"npz:{data}", *SETTINGS.split(), *map(str, flags)]
        script.write_text(
            "import runpy, sys, jax\n"
            "from evojax import hosts, report\n"
            "hosts.PIECE = 1000\n"  # They talk in pieces, as of large networks.
            "report.write = lambda out: out\n"  # Its figures take longer than the run.
            f"sys.stdout = sys.stderr = open({str(script) + '.log'!r}, 'a', buffering=1)\n"
            "jax.config.update('jax_num_cpu_devices', 2)\n"
            "jax.config.update('jax_disable_most_optimizations', True)\n"
            f"jax.config.update('jax_compilation_cache_dir', {str(compilation_cache)!r})\n"
            "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
            f"sys.argv = {argv!r}\n"
            f"runpy.run_path({str(SMALL)!r}, run_name='__main__')\n"
        )
        process = PROCESSES.Process(target=run_path, args=(str(script), None, "__main__"))
        process.start()
        started.append(process)
        return process, Path(f"{script}.log")

    yield start
    for process in started:
        process.kill()
        process.join()


def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def joining(process, at, timeout=60):
    flags = f"--distributed True --coordinator {at} --processes 2 --process {process}"
    return (*flags.split(), "--join-timeout", timeout)


def two(start, out, *flags):
    """Starts both; the flags are of process 1 alone."""
    at = address()
    return [
        start("--out", out, *joining(number, at), *(flags if number else ())) for number in (0, 1)
    ]


def ended(process, log):
    """A process's exit status, and what it said."""
    process.join(100)
    return process.exitcode, log.read_text()


def generations(run):
    return len(read_lineage(run)["generations"]) if (run / "lineage.json").exists() else 0


def test_killed_in_between_two_processes_end_as_one_does(start, tmp_path):
    assert ended(*start("--out", tmp_path / "one"))[0] == 0
    run = tmp_path / "two"
    first, second = two(start, run)
    while second[0].exitcode is None and generations(run) < 2:
        second[0].join(0.01)
    second[0].kill()
    status, said = ended(*first)
    assert status == 1, said[-3000:]
    assert "the processes' common work broke off" in said and "run the same command again" in said
    assert 2 <= generations(run) < 3

    both = [ended(*process) for process in two(start, run)]
    assert [status for status, _ in both] == [0, 0], both
    assert "Report: " in both[0][1] and both[1][1] == ""  # The second has nothing to say.
    whole, resumed = (read_lineage(tmp_path / name) for name in ("one", "two"))
    # Their checksums stand for the networks' bits.
    assert untimed(resumed) == untimed(whole) and resumed["generations"][2]["crc32"]
    assert resumed["environment"]["processes"] == 2 and resumed["environment"]["device_count"] == 4


def test_a_process_that_is_to_end_ends(start, tmp_path):
    first, second = two(start, tmp_path / "run")
    while second[0].exitcode is None and generations(tmp_path / "run") < 1:
        second[0].join(0.01)
    second[0].terminate()
    assert ended(*second)[0] == -signal.SIGTERM
    status, said = ended(*first)
    assert status == 1 and "the processes' common work broke off" in said, said[-3000:]


@pytest.mark.parametrize(
    ("foreign", "flags", "message"),
    [
        (True, (), "holds files but no run of evojax"),
        (False, ("--seed", 7), "process 0 has another configuration or other data (seed: 0 there"),
    ],
)
def test_what_one_finds_wrong_ends_both_before_any_work(start, tmp_path, foreign, flags, message):
    run = tmp_path / "run"
    if foreign:
        run.mkdir()
        (run / "mine").touch()
    for status, said in [ended(*process) for process in two(start, run, *flags)]:
        assert status == 2 and message in said, said
        assert "Traceback" not in said
    assert not (run / "config.json").exists()


def test_who_never_comes_is_not_waited_for_for_ever(start, tmp_path):
    at = [address(), address()]
    alone = [start("--out", tmp_path / "run", *joining(n, at[n], timeout=1)) for n in (0, 1)]
    waited = [f"waited 1 s at {at[0]} for all 2", f"waited 1 s for process 0 at {at[1]}"]
    for process, told in zip(alone, waited, strict=True):
        status, said = ended(*process)
        assert status == 1 and told in said and "--join-timeout" in said, said
    assert not (tmp_path / "run").exists()


def test_a_process_by_itself_decides_by_itself():
    assert join(Joining()) is hosts_of(None) is hosts_of(population_mesh(1)) is ALONE
    check_alike({"seed": 1}, {"seed": 1})
    assert ALONE.in_turn(lambda: 3) == 3
    assert jax.process_count() == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"process": 1}, "process is of use with several processes only: add distributed"),
        ({"coordinator": "node1"}, "coordinator must be HOST:PORT, such as node1:12345; got node1"),
        ({"coordinator": "node1:0"}, "got node1:0"),
        ({"processes": 0}, "processes must be at least 1; got 0"),
        ({"processes": 2, "process": 2}, "less than processes; got 2 of 2"),
        ({"process": -1}, "process must be at least 0"),
        ({"join_timeout": 0.0}, "join_timeout must be positive"),
    ],
)
def test_joining_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Joining(**{"distributed": "only" not in message} | fields)


def test_nothing_that_says_where_the_others_are_is_told(start, tmp_path):
    status, said = ended(*start("--out", tmp_path / "run", "--distributed", True))
    assert status == 2 and "how to find the other processes is not known" in said, said
