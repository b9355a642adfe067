"""What a run tells those who watch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evojax.learning import Memory


@dataclass(frozen=True)
class RunStarted:
    """A run begins; nothing is allocated yet.

    Attributes:
        memory: what training will take, about.
        dataset: what the record will say of the data.
        source: where they were read, if that is known.
    """

    memory: Memory
    dataset: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class RunContinued:
    """A run goes on that had been interrupted, or that is asked for more.

    Attributes:
        generation: the number of the last one that is finished.
        out: where it lies.
    """

    generation: int
    out: str


@dataclass(frozen=True)
class GenerationStarted:
    """Training of a generation begins.

    Attributes:
        generation: its number; 1 is the ancestor.
        generations: the number of the last one.
        offspring: how many are drawn and trained.
        epochs: how many each trains for.
        synapses: living synapses of the first one.
        total_epochs: epochs that the whole run has still to train, this generation included.
    """

    generation: int
    generations: int
    offspring: int
    epochs: int
    synapses: int
    total_epochs: int


@dataclass(frozen=True)
class EpochFinished:
    """One epoch of one offspring; `accuracy` is a fraction of the training images, if known."""

    generation: int
    offspring: int
    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class GenerationFinished:
    """A generation is saved; `record` is its entry in lineage.json."""

    record: dict[str, Any]


@dataclass(frozen=True)
class RunFinished:
    """The run has come to its end; `status` says why, `out` where it lies."""

    status: str
    out: str


Event = (
    RunStarted | RunContinued | GenerationStarted | EpochFinished | GenerationFinished | RunFinished
)
Watch = Callable[[Event], None]
