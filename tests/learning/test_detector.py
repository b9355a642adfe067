"""How long the device waits for data, told while steps are dispatched ahead of it."""

import time

import pytest

from evojax.learning.detector import timed


class Step:
    """What a step dispatched now shows, on a device that takes so long for each."""

    def __init__(self, before: "Step | None", seconds: float) -> None:
        now = time.perf_counter()
        self.end = (now if before is None else max(now, before.end)) + seconds

    def block_until_ready(self) -> None:
        time.sleep(max(self.end - time.perf_counter(), 0))


def waits(batches, step: float) -> list[float]:
    shown, waited = [], []
    for batch, seconds in timed(batches, shown):
        shown.append(Step(shown[-1] if shown else None, step))
        assert batch == len(waited)
        waited.append(seconds)
    return waited


def test_a_device_faster_than_its_data_waits_for_each_batch_once_its_step_is_done():
    def slow():
        for number in range(4):
            time.sleep(0.15)
            yield number

    # The first is waited for whole; a step of 50 ms is still under way when each other is begun.
    first, *others = waits(slow(), 0.05)
    assert first >= 0.15 and all(0.05 < wait < first + 0.05 for wait in others)


def test_a_device_slower_than_its_data_never_waits():
    assert waits(iter(range(4)), 0.1)[1:] == [0, 0, 0]


def test_two_steps_at_most_are_under_way():
    shown: list[Step] = []
    for _, _ in timed(iter(range(4)), shown):
        assert sum(step.end > time.perf_counter() for step in shown) <= 1
        shown.append(Step(shown[-1] if shown else None, 0.05))


def test_what_a_step_raises_reaches_the_user():
    class Broken(Step):
        def block_until_ready(self) -> None:
            raise ZeroDivisionError

    shown: list[Step] = []
    with pytest.raises(ZeroDivisionError):
        for _ in timed(iter(range(9)), shown):
            shown.append(Broken(None, 0.0))
