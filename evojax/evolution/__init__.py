"""The generation loop, its record and its checkpoints."""

from evojax.evolution.checkpoints import CheckpointError
from evojax.evolution.events import (
    EpochFinished,
    Event,
    GenerationFinished,
    GenerationStarted,
    RunContinued,
    RunFinished,
    RunStarted,
    Watch,
)
from evojax.evolution.generations import evolve
from evojax.evolution.lineage import RunFolderError, read_lineage
from evojax.evolution.run_folder import RunFolderInUse
from evojax.evolution.saved import Saved, saved
from evojax.evolution.settings import Settings
from evojax.evolution.task import DataLost

__all__ = [
    "CheckpointError",
    "DataLost",
    "EpochFinished",
    "Event",
    "GenerationFinished",
    "GenerationStarted",
    "RunFinished",
    "RunFolderError",
    "RunFolderInUse",
    "RunContinued",
    "RunStarted",
    "Saved",
    "Settings",
    "Watch",
    "evolve",
    "read_lineage",
    "saved",
]
