"""The command line of an experiment: what it says, how it ends, what it leaves behind."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax import command as command_module
from evojax.command import leave
from evojax.evolution import checkpoints, read_lineage
from evojax.evolution import generations as generations_module
from evojax.hosts import ALONE
from evojax.study import guarded, interruptible

SMALL = Path(__file__).with_name("small.py")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
QUICK = ["--generations", "2", "--epochs", "1"]


@pytest.fixture
def command(monkeypatch, tmp_path, quarters, capsys):
    """Runs the small experiment in this process; returns its exit status, stdout and stderr."""
    small = runpy.run_path(str(SMALL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*flags, data=f"npz:{quarters}", out="run"):
        monkeypatch.setattr(sys, "argv", [str(SMALL), "--out", out, "--data", data, *flags])
        try:
            status = small["run"]("small", small["Small"], small["DEFAULTS"], "A small experiment.")
        except SystemExit as error:  # What tyro does with a flag that it cannot read.
            status = error.code
        return status, *capsys.readouterr()

    return command


def test_a_run_ends_with_tables_and_a_report(command, tmp_path, monkeypatch, quarters):
    status, out, err = command(*QUICK)
    assert (status, err) == (0, "")
    assert "Generations" in out
    assert "Report: run/report.html" in out
    lineage = read_lineage(tmp_path / "run")
    assert lineage["command"].startswith("python ")
    assert lineage["command"].endswith(" --generations 2 --epochs 1")
    assert lineage["dataset"]["name"] == "quarters"
    assert out.startswith(f"quarters: 64 training images, 50 test images, from {quarters}\n")
    assert str(quarters.parent) not in json.dumps(lineage | {"command": ""})
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"config.json", "lineage.json", "lineage.csv", "generations", "figures"}

    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", narrow)
    assert command(*QUICK)[0] == 0
    assert b" 1.00? " in raw.getvalue() and b"Report: run/report.html" in raw.getvalue()
    assert read_lineage(tmp_path / "run")["generations"] == lineage["generations"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frobnicate"], "--frobnicate"),
        (["--encoding", "lamarck"], "'lamarck'"),
        (["--clusters", "1.5"], "clusters must lie in (0, 1]; got 1.5"),
        (["--synapses", "0"], "synapses must lie in (0, 1]; got 0.0"),
        (["--selection-pressure", "0"], "selection_pressure must be positive"),
        (["--selection-pressure", "-1"], "selection_pressure must be positive"),
        (["--generations", "0"], "generations must be a whole number of at least 1; got 0"),
        (["--generations", "many"], "'many'"),
        (["--offspring", "0"], "offspring must be a whole number of at least 1; got 0"),
        (["--offspring", "-2"], "offspring must be a whole number of at least 1; got -2"),
        (["--litter", "99999999999"], "litter must be at most 1,000,000"),
        (["--min-clusters", "0"], "min_clusters must be a whole number of at least 1; got 0"),
        (
            ["--epochs", "3", "0"],
            "epochs must be one or more whole numbers of at least 1, below 2**31; got (3, 0)",
        ),
        (["--batch-size", "0"], "batch_size must be at least 1; got 0"),
        (["--learning-rate", "nan"], "learning_rate must be positive; got nan"),
        (["--subset", "0"], "subset"),
        (["--subset", "1.1"], "subset"),
        (["--seed", "-1"], "seed must be a whole number in [0, 2**32); got -1"),
        (["--max-drop", "0"], "max_drop must be in (0, 100]"),
        (
            ["--offspring", "2", "--holdout", "0"],
            "holdout must be positive where the",
        ),
        (["--heredity", "lamarckian"], "'lamarckian'"),
    ],
)
def test_flags_that_cannot_be_are_refused(command, tmp_path, flags, message):
    status, out, err = command(*flags)
    assert status == 2
    # tyro draws a frame around what it says, and breaks lines.
    said = re.sub(r"[\s│╭╮╰╯─]+", " ", out + err)
    assert message in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def arrays(**changes):
    whole = {
        "x_train": np.zeros((4, 8, 8), np.uint8), "y_train": np.arange(4) % 2,
        "x_test": np.zeros((2, 8, 8), np.uint8), "y_test": np.arange(2),
    }  # fmt: skip
    return {name: array for name, array in (whole | changes).items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "is not an .npz file"),
        ({"y_test": None}, "lacks y_test"),
        ({"x_train": np.zeros((4, 8, 8))}, "x_train is float64; expected uint8"),
        ({"x_train": np.zeros((4, 8), np.uint8)}, "x_train has shape (4, 8)"),
        ({"y_train": np.arange(3)}, "has 4 images, but labels of shape (3,)"),
        ({"y_train": np.array([0, 1, 0, -1])}, "labels -1..1"),
        ({"y_test": np.array([0, 7])}, "[7] that the training set lacks"),
        ({"y_train": np.array([0, 1, 0, None])}, "holds Python objects, which are never loaded"),
        ({"x_test": np.zeros((0, 8, 8), np.uint8), "y_test": np.zeros(0, int)}, "no images"),
        ({"y_train": np.zeros(4, int), "y_test": np.zeros(2, int)}, "at least 2 are needed"),
    ],
)
def test_images_that_cannot_be_are_refused(command, tmp_path, changes, message):
    file = tmp_path / "bad.npz"
    if changes is None:
        file.write_text("no archive")
    else:
        np.savez(file, **arrays(**changes))
    status, _, err = command(data=f"npz:{file}")
    assert status == 2
    assert message in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("data", ["npz:nowhere.npz", "npz:", "no_such_set_at_all", ""])
def test_data_that_do_not_exist_are_refused(command, tmp_path, data):
    status, _, err = command(data=data)
    assert status == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_an_out_that_cannot_be_is_refused_before_the_data_are_read(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for out, message in (
        ("file", "error: --out file: file is no folder. Name another one.\n"),
        ("file/run", "error: --out file/run: file is no folder. Name another one.\n"),
        ("~/file", f"error: --out {tmp_path}/file: {tmp_path}/file is no folder"),
        ("full", "error: --out full holds files but no run of evojax (config.json)"),
    ):
        status, _, err = command(out=out, data="npz:nowhere.npz")
        assert status == 2
        assert err.startswith(message)
    assert sorted(tmp_path.rglob("*")) == before


def test_another_configuration_is_refused_and_a_longer_run_is_not(command, tmp_path):
    assert command(*QUICK)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("[!.]*")}
    status, _, err = command("--generations", "2", "--epochs", "2", "--seed", "5")
    assert status == 2
    assert "(epochs: [1] there, [2] now, seed: 0 there, 5 now)" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    status, out, _ = command("--generations", "3", "--epochs", "1")
    assert status == 0
    assert "generation 3 of 3" in out
    assert "generation 2 of 3" not in out
    assert len(read_lineage(tmp_path / "run")["generations"]) == 3


def test_a_damaged_run_is_refused(command, tmp_path):
    assert command(*QUICK)[0] == 0
    file = next((tmp_path / "run" / "generations" / "002" / "network" / "d").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    status, _, err = command("--generations", "3", "--epochs", "1")
    assert status == 1
    assert f"damaged or missing: d/{file.name}. Put the folder back from a copy" in err
    (tmp_path / "run" / "lineage.json").write_text('{"schema": 1')
    status, _, err = command(*QUICK)
    assert status == 2
    assert "lineage.json: not valid JSON" in err and "Put it back from a copy" in err


def test_an_ancestor_that_breaks_down_says_what_to_do(command):
    status, _, err = command("--optimizer", "sgd", "--learning-rate", "1e30", "--warmup", "0")
    assert status == 1
    assert "lower the learning rate (now 1e+30)" in err


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("module", "name"), [(checkpoints, "_require_room"), (generations_module, "write_lineage")]
)
def test_a_full_disk_says_that_the_finished_generations_are_safe(
    command, tmp_path, monkeypatch, module, name
):
    assert command("--generations", "1", "--epochs", "1")[0] == 0
    whole = read_lineage(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        status, _, err = command(*QUICK)
    assert status == 1
    assert "No space left on device" in err
    assert "run the same command again" in err
    assert read_lineage(tmp_path / "run") == whole
    assert command(*QUICK)[0] == 0


def test_a_full_device_says_what_takes_less(command, monkeypatch):
    def evolve(*_, **__):
        jnp.zeros(1 << 45).block_until_ready()

    monkeypatch.setattr("evojax.command.evolve", evolve)
    status, _, err = command(*QUICK)
    assert (status, "Traceback" in err) == (1, False)
    assert "too little memory (RESOURCE_EXHAUSTED: Out of memory" in err
    assert "Take a smaller --batch-size" in err


@pytest.fixture
def shell(tmp_path, quarters, compilation_cache):
    """Starts a script as a shell would."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(EXPERIMENTS.parent), os.environ.get("PYTHONPATH", "")]),
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "COLUMNS": "100",
    }

    started = []

    def shell(script, *flags):
        # What runs in the background of a script ignores Ctrl-C, and so would its children.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [sys.executable, script, *flags], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        signal.signal(signal.SIGINT, handler)
        started.append(process)
        return process

    yield shell
    for process in started:
        process.kill()
        process.communicate()


def test_batches_are_split_over_cores(shell, command, tmp_path, quarters):
    flags = ["--data", f"npz:{quarters}", "--generations", "1", "--epochs", "1"]
    process = shell(SMALL, "--out", "split", "--data-parallel", "2", *flags)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert read_lineage(tmp_path / "split")["environment"]["device_count"] == 2
    jax.devices()  # None is added from here on, whatever test came first.
    for flag, number, message in (
        ("--data-parallel", "64", "a mesh of 1 x 64 devices was asked"),
        ("--data-parallel", "0", "of 1 x 0"),
        ("--devices", "0", "of 0 x 1"),
    ):
        status, _, err = command(flag, number)
        assert status == 2 and message in err
    with pytest.raises(ValueError, match="data_parallel must be 1 with several processes; got 2"):
        command_module._mesh(None, 2, ALONE._replace(several=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["digits_lenet", "mnist_lenet"])
def test_help_names_every_flag_with_its_default(shell, tmp_path, name):
    process = shell(EXPERIMENTS / f"{name}.py", "--help")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    flags = (
        "out data manual-dir seed generations epochs max-drop encoding selection-pressure heredity "
        "offspring subset clusters synapses cluster learning-rate"
    )
    for flag in flags.split():
        assert f"--{flag} " in out
    assert f"runs/{name}" in out
    assert max(map(len, out.splitlines())) <= 100
    assert "settings." not in re.sub(r"─ settings\S* options ─", "", out)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_says_how_to_continue_and_continues(shell, command, tmp_path, quarters):
    longer = ["--generations", "3", "--epochs", "1", "100000"]  # It is interrupted long before.
    flags = ["--out", "run", "--data", f"npz:{quarters}", *longer]
    process = shell(SMALL, *flags)
    for line in process.stdout:
        if line.startswith("generation 2, epoch 1 of 100000"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err
    said, continuing, so_far = err.strip().rsplit("\n", 2)
    assert said == (
        "Interrupted. Every finished generation is saved; to continue, run the same command again:"
    )
    assert (so_far, (tmp_path / "run" / "report.html").exists()) == (
        "Report so far: run/report.html", True
    )  # fmt: skip
    assert continuing.split()[0] == "python"
    assert continuing.split()[2:] == flags
    saved = json.loads((tmp_path / "run" / "lineage.json").read_text())
    assert (saved["status"], len(saved["generations"])) == (
        "interrupted after generation 1", 1
    )  # fmt: skip
    status, out, _ = command("--generations", "3", "--epochs", "1", "2")
    assert status == 0
    _, needs, whence, goes_on, _ = out.split("\n", 4)
    assert "520 parameters; training takes about" in needs
    assert whence == "run goes on after generation 1"
    assert goes_on.startswith("generation 2 of 3")
    assert read_lineage(tmp_path / "run")["generations"][0] == saved["generations"][0]


@pytest.fixture
def ctrl_c():
    """Python's own handling of Ctrl-C, which what runs in the background of a script lacks."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def swallowed(*_, **__):
    """An interruption in a callback of the collector, and five seconds to notice it."""

    def callback(*args):
        gc.callbacks.remove(callback)
        raise KeyboardInterrupt

    gc.callbacks.append(callback)
    gc.collect()
    for _ in range(500):
        time.sleep(0.01)


def test_an_interruption_in_a_callback_of_the_collector_is_not_lost(ctrl_c):
    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), interruptible():
        swallowed()
    assert sys.unraisablehook is before
    assert guarded(swallowed) == 130  # As of a sweep.


@pytest.mark.parametrize("where", ["load", "evolve", "report.write"])
def test_an_interruption_is_not_lost_whatever_a_command_is_at(ctrl_c, command, monkeypatch, where):
    monkeypatch.setattr("evojax.command.evolve", lambda *_, **__: {})
    monkeypatch.setattr(f"evojax.command.{where}", swallowed)
    status, _, err = command(*QUICK)
    assert status == 130
    assert "to continue, run the same command again" in err


BUSY = """
import jax, jax.numpy as jnp
from evojax.command import leave

forever = jax.jit(lambda x: jax.lax.while_loop(lambda x: x[0, 0] == 1, lambda x: x @ x, x))
forever(jnp.eye(500))
leave(130)
"""


def test_an_interrupted_command_leaves_a_device_that_computes_for_ever():
    done = subprocess.run([sys.executable, "-c", BUSY], timeout=60)
    assert done.returncode == 130
    with pytest.raises(SystemExit) as ended:
        leave(2)
    assert ended.value.code == 2
