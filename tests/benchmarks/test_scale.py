"""The benchmarks of growth: with the network, and with the number of devices."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from evojax.learning import linen
from evojax.report.readme import benchmark
from tests.experiments.small import Small


@pytest.fixture
def subjects(methods, monkeypatch):
    """In the place of LeNet, AlexNet and others one that compiles in no time."""
    memory = import_module("memory")
    small = memory.Subject(linen(Small(10)), (32, 32, 1), "adamw")
    for module in (memory, import_module("scale")):
        for name in ("LeNet", "AlexNet"):
            table = memory.SUBJECTS if module is memory else module.NETWORKS
            monkeypatch.setitem(table, name, small)


@pytest.mark.parametrize("room", [True, False])
def test_growth_with_the_network_is_measured_where_there_is_room(
    subjects, room, monkeypatch, tmp_path
):
    scale = import_module("scale")
    limits = iter([None, None if room else 1])
    monkeypatch.setattr(scale, "available", lambda: next(limits))
    out = tmp_path / "scale.json"
    scale.main(scale.Options(("LeNet", "AlexNet"), turns=1, batch=2, out=out))
    first, second = json.loads(out.read_text())["result"]
    assert first["parameters"] == 8 * 8 * 4 + 4 + 4 * 4 * 4 * 10 + 10
    assert first["synthesis_bytes"] > 5 * first["parameters"]
    assert first["of_copy"] > 0
    assert ("of_copy" in second) == room
    if not room:  # As many parameters take as long.
        assert second["seconds"] == first["seconds"]
        assert "| AlexNet | 0.00 |  | ≈ 1.0× |" in benchmark(out)


def test_growth_with_devices_is_reckoned(subjects, tmp_path):
    devices = import_module("devices")
    out = tmp_path / "devices.json"
    devices.main(devices.Options(("LeNet",), devices=(1,), members=2, batch=4, images=8, out=out))
    result = json.loads(out.read_text())["result"]
    beside, split = result["rows"]
    assert (beside["members"], split["members"]) == (2, 1)
    assert beside["exchanged"] == split["exchanged"] == 0
    assert beside["memory"] > split["memory"] > 0
    assert beside["step"] == pytest.approx(2 * split["step"])
    assert set(map(tuple, result["differences"].values())) == {(0.0,)}
    assert "| LeNet | side by side | 1 | 0.00 |" in benchmark(out)


def test_a_cpu_stands_in_where_there_are_other_devices(methods):
    folder = Path(methods.__file__).parent
    found = subprocess.run(
        [sys.executable, "-c", "import devices, jax; devices.pretend(3); print(jax.devices())"],
        env=os.environ | {"JAX_PLATFORMS": "cuda", "PYTHONPATH": f"{folder}:{folder.parent}"},
        cwd=folder, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.count("CpuDevice") == 3


def test_what_devices_exchange_is_read_off_the_program(methods):
    program = """
      %a = (f32[5,5,1,32]{3,2,1,0}, bf16[], pred[16]{0}) all-reduce(%x, %y, %z), channel_id=1
      %b = f32[64]{0} all-gather-start(%p), dimensions={0}
      %c = f32[1000]{0} all-gather-done(%b)
      %d = f32[1000]{0} fusion(%all-reduce.1), calls=%all-reduce
    """
    assert import_module("devices").exchanged(program) == 5 * 5 * 32 * 4 + 2 + 16 + 64 * 4


def test_the_model_of_devices(methods):
    devices = import_module("devices")
    options = devices.Options(batch=10, peak=1000.0, utilisation=0.5, bandwidth=100.0)
    row = {"members": 5, "population": 2, "data": 1, "exchanged": 0}
    assert devices.step(row, 7, options) == pytest.approx(3 * 6 * 7 * 10 / 500)
    row = {"members": 1, "population": 1, "data": 4, "exchanged": 200}
    expected = 6 * 7 * 10 / 4 / 500 + 2 * 3 / 4 * 200 / 100
    assert devices.step(row, 7, options) == pytest.approx(expected)
