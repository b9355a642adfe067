"""A run's folder: who may write there, and whether what it holds is the same run."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from evojax.evolution.lineage import RunFolderError, read_lineage
from evojax.evolution.settings import OF_OFFSPRING, epochs_of, size_of
from evojax.files import nearest, open_to_writing, replace

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


ABSENT = object()

LATER = {
    "currency": "synapses", "population": 1, "parents": 1, "mates": "fittest", "tagging": True,
    "chi": 1.0,
}  # fmt: skip
"""Settings that came later than some records, and what held before."""


class RunFolderInUse(RunFolderError):
    """Another process works in a run's folder."""


def check_folder(out: Path) -> None:
    """Checks that a folder can hold a run, without writing anything.

    Raises:
        RunFolderError: if it is a file, cannot be written, or holds something else.
    """
    _check_name(out)
    try:
        there = nearest(out)
        if not there.is_dir():
            raise RunFolderError(f"--out {out}: {there} is no folder. Name another one.")
        _require_access(there)
        foreign = there == out and any(not path.name.startswith(".") for path in out.iterdir())
        if foreign and not (out / "config.json").exists():
            raise RunFolderError(
                f"--out {out} holds files but no run of evojax (config.json). Name a new folder."
            )
        for part in ("generations", "figures"):
            if (out / part).exists():
                if not (out / part).is_dir():
                    raise RunFolderError(f"--out {out}: {part} is no folder. Name another one.")
                _require_access(out / part)
    except OSError as error:
        raise _unwritable(out, error) from error


def check_resumable(out: Path, config: dict[str, Any]) -> None:
    """Checks that a folder can hold a run of this configuration, of whatever data; reads only.

    Raises:
        RunFolderError: as `open_run`.
    """
    check_folder(out)
    lineage = read_lineage(out) if (out / "lineage.json").exists() else {}
    data = lineage.get("config", config).get("data")
    _resumed(out, {**config, "data": data}, lineage.get("dataset", {}), {})


def _require_access(folder: Path) -> None:
    if not open_to_writing(folder):
        raise PermissionError(errno.EACCES, f"{os.strerror(errno.EACCES)} ({folder})")


def holds_run(out: Path) -> bool:
    """Whether a folder holds a run already, if only a begun one.

    Raises:
        RunFolderError: as `check_folder`.
    """
    check_folder(out)
    return (out / "config.json").exists()


def _check_name(out: Path) -> None:
    """Refuses names that Orbax does not write to as they stand."""
    name = str(out.absolute())
    if patterns := sorted(set("*?[]") & set(name)):
        raise RunFolderError(
            f"--out {out}: {' '.join(patterns)} in a path would be read as a pattern where "
            "networks are saved. Name another folder."
        )
    if "\0" in name or name != name.encode(errors="replace").decode():
        raise RunFolderError(f"--out {name!a} is no name in UTF-8. Name another folder.")


@contextmanager
def open_run(
    out: Path,
    config: dict[str, Any],
    dataset: dict[str, Any],
    model: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[dict[str, Any] | None]:
    """Opens a run's folder, or makes it, before any work starts, and keeps other processes out.

    Args:
        out: the folder.
        config: everything that decides the lineage, as JSON would give it back.
        dataset: what is known of the images, likewise.
        model: what is known of the network, likewise (`Model.description`).

    Yields:
        The lineage so far, or ``None`` for a new run.

    Raises:
        RunFolderInUse: if another process works there.
        RunFolderError: as `check_folder`; or if the record is damaged, or the run is of another
            configuration, of other data or of another network (the differing fields are named).
            What concerns later generations only may differ: their number, their entries in epochs
            and sizes and, where there is but the ancestor, all that its offspring alone depend on.
    """
    check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise _unwritable(out, error) from error
    with lock:
        _hold(lock, out)
        lineage = _resumed(out, config, dataset, model)
        replace(out / "config.json", json.dumps(config, indent=1))
        yield lineage


def _hold(lock: IO[str], out: Path) -> None:
    """Locks a file until it is closed, or its process dies."""
    if fcntl is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunFolderInUse(
            f"--out {out} is in use by another process. Wait for it, or name another folder."
        ) from error
    except OSError:
        return  # Some network file systems know no locks.


def _resumed(
    out: Path, config: dict[str, Any], dataset: dict[str, Any], model: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The lineage of a run to continue; ``None`` where no generation was finished yet."""
    there = _read(out / "config.json") if (out / "config.json").exists() else config
    if not {"experiment", "data", "seed"} <= there.keys():
        raise RunFolderError(
            f"--out {out} holds a config.json that is not of a run of evojax. Name a new folder."
        )
    if not (out / "lineage.json").exists():
        # Before the first generation a run binds to nothing: its settings may be mended.
        if (out / "generations" / "002").exists():
            raise RunFolderError(
                f"--out {out} holds saved generations, but their lineage.json is missing. Put it "
                "back from a copy, or name another folder."
            )
        return None
    lineage = read_lineage(out)
    finished = len(lineage["generations"])
    there = LATER | there
    recorded = _decided(LATER | lineage["config"], finished)
    if strange := _changes(recorded, _decided(there, finished)):
        raise RunFolderError(
            f"--out {out} holds a lineage.json and a config.json of different runs "
            f"({', '.join(strange)}). Put the right one back from a copy, or name another folder."
        )
    decided = _changes(_decided(there, finished), _decided(config, finished))
    changes = {n: pair for n, pair in _changes(there, config).items() if n in decided}
    changes |= _other_network(lineage, model)
    if other := _changes(lineage["dataset"], dataset):
        what = "learnt from other data"
        changes = {f"dataset.{name}": pair for name, pair in other.items()} | changes
        mend = "or bring back the data that it had"
    else:
        what, mend = "is of another configuration", _way_back(changes, finished)
    if changes:
        raise RunFolderError(
            f"--out {out} holds a run that {what} ({_listed(changes)}). Name another folder, "
            f"{mend}."
        )
    return lineage


def _way_back(changes: Mapping[str, Any], finished: int) -> str:
    """How a run goes on that is asked for these changes."""
    if changes and changes.keys() <= {"epochs", "sizes"}:
        return (
            f"or change only what comes after its {finished} finished generations: each of them "
            "keeps its own number, and those to come follow"
        )
    return "or run with the settings in its config.json"


def _other_network(lineage: dict[str, Any], model: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What the record says of a network and is otherwise now, with both values.

    Its class may have moved to another module, and some of its attributes be known to one version
    only: the parameters' names and shapes tell the rest.
    """
    there = lineage.get("model")
    if not isinstance(there, Mapping):
        return {}
    known = (there.keys() & model.keys()) - {"class"}
    return {f"model.{n}": (there[n], model[n]) for n in sorted(known) if there[n] != model[n]}


def _decided(config: dict[str, Any], finished: int) -> dict[str, Any]:
    """What of a configuration the finished generations depend on."""
    try:
        epochs, sizes = tuple(config["epochs"]), tuple(config["sizes"])
        open_still = OF_OFFSPRING if finished < 2 else ()
        return {name: value for name, value in config.items() if name not in open_still} | {
            "generations": min(config["generations"], finished),
            "epochs": [epochs_of(epochs, number) for number in range(1, finished + 1)],
            "sizes": [size_of(sizes, number) for number in range(1, finished + 1)],
        }
    except (KeyError, TypeError, IndexError):  # Not a configuration of ours; it will differ.
        return config


def check_alike(first: dict[str, Any], own: dict[str, Any]) -> None:
    """Checks that a process does the same run as process 0.

    Args:
        first: that one's configuration and what it knows of its images.
        own: likewise, of this process.

    Raises:
        ValueError: naming the fields that differ.
    """
    if changes := _changes(first, own):
        raise ValueError(
            f"process 0 has another configuration or other data ({_listed(changes)}): expected the "
            "same flags and the same data everywhere"
        )


def _changes(there: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, with both values."""
    names = sorted(there.keys() | now.keys())
    return {
        n: (there.get(n, ABSENT), now.get(n, ABSENT))
        for n in names
        if there.get(n, ABSENT) != now.get(n, ABSENT)
    }


def _listed(changes: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(
        f"{name}: {_told(there)} there, {_told(now)} now" for name, (there, now) in changes.items()
    )


def _told(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:  # A checksum, told apart by its beginning.
        value = f"{value[:12]}..."
    return "absent" if value is ABSENT else repr(value)


def _unwritable(out: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"--out {out} cannot be written: {error.strerror}. Name a folder that is yours."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} is missing: expected the folder of a run") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RunFolderError(
            f"{path} cannot be read: {error}. Put it back from a copy, or start a new run in "
            "another folder with --out."
        ) from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} is not a record of evojax: expected a JSON object")
    return content
