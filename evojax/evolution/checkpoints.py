"""Saved networks: Orbax behind one small module, with our own manifest of what was saved."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from evojax.files import replace
from evojax.genetics.trees import flatten
from evojax.learning import Network

MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A saved network is missing, damaged or foreign, or could not be written."""


def folder(run: str | os.PathLike[str], generation: int, member: int = 0) -> Path:
    """Where a run keeps a generation's fittest network, and others of its population."""
    return Path(run) / "generations" / (f"{generation:03d}" + (f".{member}" if member else ""))


def present(run: str | os.PathLike[str]) -> list[int]:
    """Numbers of the generations whose fittest network is in a run's folder, rising."""
    found = (Path(run) / "generations").glob(f"[0-9]*/{MANIFEST}")
    return sorted(int(file.parent.name) for file in found if file.parent.name.isdigit())


def save(run: str | os.PathLike[str], generation: int, network: Network, member: int = 0) -> int:
    """Saves a network whole or not at all: it is written beside its place and moved there.

    Args:
        run: the run's folder.
        generation: its number.
        network: the network.
        member: its place in the population, the fittest first.

    Returns:
        Its fingerprint, CRC-32 of all arrays with their paths, shapes and dtypes: which network it
        is.

    Raises:
        CheckpointError: if it could not be written (a full disk, say); what was saved before stays.
    """
    place = folder(run, generation, member).absolute()
    partial = place.with_name(f".{place.name}.partial")
    tree = _tree(jax.device_get(network))
    try:
        _require_ours(place)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _require_room(partial, tree)
        with _checkpointer() as checkpointer:
            checkpointer.save(partial / "network", tree)
        arrays = _manifest(tree)
        manifest = {**arrays, "files": _checksums(partial / "network")}
        replace(partial / MANIFEST, json.dumps(manifest, indent=1))
        shutil.rmtree(place, ignore_errors=True)
        os.replace(partial, place)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"generation {generation} could not be saved in {place}: {error}. The generations "
            "before it are intact; make room or grant access, and run the same command again."
        ) from error
    return _fingerprint(arrays)


def _checkpointer() -> ocp.StandardCheckpointer:
    """Orbax for this process alone: where there are others, they are not waited for here."""
    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _require_ours(place: Path) -> None:
    """What a former save left may be overwritten; what somebody else put there may not."""
    if place.exists() and not (place / MANIFEST).exists():
        raise FileExistsError(errno.EEXIST, "there is something that evojax did not write")


def _require_room(place: Path, tree: dict[str, Any]) -> None:
    """Fails before Orbax does, whose threads print many tracebacks when a disk is full."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    if shutil.disk_usage(place).free < 2 * size + (1 << 16):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def restore(
    run: str | os.PathLike[str],
    generation: int,
    like: Network | None = None,
    crc32: int | None = None,
    member: int = 0,
) -> Network:
    """Reads a generation's network: nested dicts of NumPy arrays, ``None`` where never pruned.

    Args:
        run: the run's folder.
        generation: its number.
        like: a network, or its shapes, of the structure, shapes and dtypes that it must have.
        crc32: the fingerprint that it must have: what `save` returned, and the record notes.
        member: its place in the population; by default the fittest.

    Raises:
        CheckpointError: if it is missing, differs from what its manifest says was saved, is not
            like `like`, or is another network than the recorded one.
    """
    place = folder(run, generation, member).absolute()
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        if "files" not in manifest or not any(path.startswith("params/") for path in manifest):
            raise ValueError(f"its {MANIFEST} names no parameters, or no files")
        # Files first: what Orbax says of a damaged one is long, and its threads print tracebacks.
        files = _checksums(place / "network")
        if damaged := [
            name for name, crc in manifest.pop("files").items() if files.get(name) != crc
        ]:
            raise ValueError(f"damaged or missing: {', '.join(damaged)}")
        target = {
            path: jax.ShapeDtypeStruct(tuple(entry["shape"]), np.dtype(entry["dtype"]))
            for path, entry in manifest.items()
        }
        with _checkpointer() as checkpointer:
            saved = checkpointer.restore(place / "network", _nest(target))
        tree = jax.tree.map(np.asarray, saved)
    except Exception as error:
        raise CheckpointError(
            f"generation {generation} cannot be read from {place}: {error}. Put the folder back "
            "from a copy, or start a new run in another folder with --out."
        ) from error
    found = _manifest(tree)
    wrong = sorted(path for path in manifest if found.get(path) != manifest[path])
    if wrong:
        raise CheckpointError(
            f"generation {generation} in {place} is damaged: {', '.join(wrong)} differ from the "
            "manifest in shape, dtype or checksum. Put the folder back from a copy, or start a new "
            "run in another folder with --out."
        )
    params = tree["params"]
    masks = _fill(params, tree.get("masks", {}))
    network = Network(params, tree.get("batch_stats", {}), masks)
    if like is not None:
        network = _fit(network, like, place)
    if crc32 is not None and crc32 != _fingerprint(found):
        raise unrecorded(run, generation)
    return network


def unrecorded(run: str | os.PathLike[str], generation: int) -> CheckpointError:
    """The error of a whole network that is not the one of the run's record."""
    return CheckpointError(
        f"generation {generation} in {run} is not the network of lineage.json. Put the folder back "
        "from a copy, or start a new run in another one with --out."
    )


def _fit(network: Network, like: Network, place: Path) -> Network:
    """The network in the structure of another, which it must match leaf by leaf."""
    found, (expected, structure) = flatten(network)[0], flatten(like)
    wrong = sorted(
        path
        for path in found.keys() | expected.keys()
        if _kind(found.get(path)) != _kind(expected.get(path))
    )
    if wrong:
        raise CheckpointError(
            f"{place} holds a network of another model: {', '.join(wrong)} are missing, unknown or "
            "of another shape or dtype. Put the folder back from a copy, or start a new run in "
            "another one with --out."
        )
    return jax.tree.unflatten(structure, [found[path] for path in expected])


def _kind(leaf: Any) -> tuple | None:  # noqa: ANN401
    return None if leaf is None else (tuple(leaf.shape), np.dtype(leaf.dtype))


def _tree(network: Network) -> dict[str, Any]:
    """Nested dicts without ``None`` and without empty branches, which Orbax does not keep."""
    leaves = {
        f"{part}/{path}": leaf
        for part, tree in network._asdict().items()
        for path, leaf in flatten(tree)[0].items()
        if leaf is not None
    }
    return _nest(leaves)


def _nest(leaves: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = leaf
    return tree


def _manifest(tree: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        path: {
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "crc32": zlib.crc32(np.ascontiguousarray(leaf).tobytes()),
        }
        for path, leaf in flatten(tree)[0].items()
    }


def _fingerprint(arrays: dict[str, dict[str, Any]]) -> int:
    return zlib.crc32(json.dumps(arrays, sort_keys=True).encode())


def _checksums(place: Path) -> dict[str, int]:
    """CRC-32 of every file in a folder, by its path there."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def _fill(params: dict[str, Any], masks: dict[str, Any]) -> dict[str, Any]:
    """Masks in the structure of the parameters, ``None`` where none was saved."""
    return {
        name: _fill(value, masks.get(name, {})) if isinstance(value, dict) else masks.get(name)
        for name, value in params.items()
    }
