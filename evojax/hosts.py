"""Several processes, on one host or many, that do one run together.

Each of them runs the same command and works out the same; only what no host can do for the others
is left to one of them, process 0, which leads: it reads and writes the run's folder, and decides
where floating point might differ from host to host. JAX carries what they tell each other, by the
collectives of its devices.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

T = TypeVar("T")
PyTree = Any

WORDS = 2000
"""Bytes of an error that the other processes are told."""
ROOM = 4096
"""Least size of a message in bytes: of few sizes, few programs are compiled."""
PIECE = 1 << 26
"""Largest size: what passes through the devices takes no memory there that counts."""
FAREWELL = 3.0
"""Seconds that a process which failed waits for the others to end as well."""


class HostError(RuntimeError):
    """Processes did not come together, or one was lost."""


@dataclass(frozen=True)
class Joining:
    """How processes find each other.

    Attributes:
        distributed: train on the devices of several processes, all started by this command.
        coordinator: HOST:PORT of process 0, at which the others reach it; where Slurm, Open MPI, a
            Kubernetes job or a TPU pod started them, JAX finds this and the next two itself.
        processes: how many there are.
        process: which of them this is, from 0.
        join_timeout: seconds to wait for all of them to start.
    """

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    join_timeout: float = 300.0

    def __post_init__(self) -> None:
        """Checks what can be told without the others.

        Raises:
            ValueError: naming the field, its value and what is allowed.
        """
        given = [n for n in ("coordinator", "processes", "process") if getattr(self, n) is not None]
        if given and not self.distributed:
            raise ValueError(f"{given[0]} is of use with several processes only: add distributed")
        host, _, port = (self.coordinator or "host:1").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise ValueError(
                f"coordinator must be HOST:PORT, such as node1:12345; got {self.coordinator}"
            )
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes must be at least 1; got {self.processes}")
        if self.process is not None and not 0 <= self.process < (self.processes or 1 << 31):
            raise ValueError(
                f"process must be at least 0 and less than processes; got {self.process}"
                + ("" if self.processes is None else f" of {self.processes}")
            )
        if not 0 < self.join_timeout < 1 << 31:
            raise ValueError(f"join_timeout must be positive (seconds); got {self.join_timeout:g}")


class Hosts(NamedTuple):
    """What processes do together. All must call the same functions in the same order.

    Attributes:
        several: whether there are others.
        leads: whether this is the one that reads, writes and decides for all.
        together: ``(failure=ValueError)``: a block in which the processes do not talk. Where it
            fails in one of them, the others raise a `failure` with its words.
        working: a block in which they do; the error of a lost process is a `HostError`.
        agreed: from what JSON can hold to what the leading process gave.
        agreed_arrays: likewise of arrays, to the bit; the others need only give equal shapes.
    """

    several: bool
    leads: bool
    together: Callable[..., AbstractContextManager[None]]
    working: Callable[[], AbstractContextManager[None]]
    agreed: Callable[[T], T]
    agreed_arrays: Callable[[T], T]

    def in_turn(self, work: Callable[[], T]) -> T:
        """What `work` returns, first done by the leading process: it may fetch for its host."""
        done: list[T] = []
        for first in (True, False) if self.several else (True,):
            with self.together():
                if self.leads is first:
                    done.append(work())
        return done[0]


def _same(value: T) -> T:
    return value


ALONE = Hosts(False, True, lambda failure=ValueError: nullcontext(), nullcontext, _same, _same)
"""One process by itself."""


def join(joining: Joining) -> Hosts:
    """Joins the other processes, if there are to be any. Comes before any computation.

    Raises:
        ValueError: if nothing says how to find them, or they differ in their number of devices.
        HostError: if not all come in time.
    """
    if not joining.distributed:
        return ALONE
    _initialize(joining)
    devices = Counter(device.process_index for device in jax.devices())
    if len(set(devices.values())) > 1:
        told = ", ".join(f"{count} of process {number}" for number, count in devices.items())
        raise ValueError(f"every process must have as many devices; found {told}")
    return _hosts()


def hosts_of(mesh: Mesh | None) -> Hosts:
    """The processes whose devices a mesh holds.

    Raises:
        ValueError: if these are neither all processes nor this one alone.
    """
    if mesh is None or jax.process_count() == 1:
        return ALONE
    owners = {device.process_index for device in mesh.devices.flat}
    if owners == {jax.process_index()}:
        return ALONE
    if len(owners) < jax.process_count():
        raise ValueError(
            f"a mesh of {mesh.size} devices has none of "
            f"{jax.process_count() - len(owners)} of the {jax.process_count()} processes: expected "
            f"some of each, such as all {jax.device_count()}"
        )
    return _hosts()


def leaving(command: Callable[..., int]) -> Callable[..., int]:
    """Of several processes, one whose command fails ends at once, by which the others notice.

    Left to itself it would wait for minutes at its end for those who wait for it.
    """

    @functools.wraps(command)
    def ended(*args: object, **kwargs: object) -> int:
        try:
            status = command(*args, **kwargs)
        except Exception:
            if not jax.distributed.is_initialized():
                raise
            traceback.print_exc()
            status = 1
        if status and jax.distributed.is_initialized():
            _part(status)
        return status

    return ended


def _part(status: int) -> NoReturn:
    # Where all have failed together, they take leave in order, and each has its own status.
    parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    parting.start()
    parting.join(FAREWELL)
    end(status)


def end(status: int) -> NoReturn:
    """Ends the process at once with this status, without taking Python down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _initialize(joining: Joining) -> None:
    """`jax.distributed.initialize`, but for its timeout, which would abort the process.

    And but for its handler of SIGTERM, which notes the signal for who asks and goes on.
    """
    jax.config.update("jax_enable_preemption_service", False)
    failures: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(
                joining.coordinator, joining.processes, joining.process,
                initialization_timeout=int(joining.join_timeout) + 3600,
            )  # fmt: skip
        except Exception as error:
            failures.append(error)

    trying = threading.Thread(target=initialize, daemon=True)
    trying.start()
    trying.join(joining.join_timeout)
    if trying.is_alive():
        raise HostError(_waited(joining))
    if failures:
        missing = str(failures[0]).endswith(("should be defined.", "must be defined."))
        if missing and isinstance(failures[0], ValueError):
            raise ValueError(
                f"how to find the other processes is not known ({failures[0]}): expected "
                "--coordinator HOST:PORT --processes N --process I with I from 0 to N - 1, or a "
                "start by Slurm, Open MPI, an indexed Kubernetes job or a TPU pod"
            ) from failures[0]
        raise HostError(f"could not join the other processes: {failures[0]}") from failures[0]


def _waited(joining: Joining) -> str:
    address, processes = joining.coordinator, joining.processes or "the"
    if address is None:
        whom = "for the processes that JAX found in what started them"
    elif joining.process == 0:
        whom = f"at {address} for all {processes} processes"
    else:
        whom = f"for process 0 at {address}"
    return (
        f"waited {joining.join_timeout:g} s {whom}, in vain. Start all of them, see that each host "
        "reaches the address of process 0 (name, port, firewall, no proxy), or allow more time "
        "with --join-timeout."
    )


def _hosts() -> Hosts:
    if jax.process_count() == 1:
        return ALONE
    return Hosts(True, jax.process_index() == 0, _together, _working, _agreed, _agreed_arrays)


@contextmanager
def _working() -> Iterator[None]:
    """Tells the error of a collective from bad input."""
    try:
        yield
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        # On CPUs some are ValueErrors.
        if isinstance(error, ValueError) and "Gloo" not in str(error):
            raise
        raise HostError(
            f"the processes' common work broke off: {error}. If one of them died, its own output "
            "says why. Every finished generation is saved; run the same command again, in as many "
            "processes as you like."
        ) from error


@contextmanager
def _together(failure: type[Exception] = ValueError) -> Iterator[None]:
    """See `Hosts`."""
    own = None
    try:
        yield
    except Exception as error:
        own = error
    said = np.zeros(WORDS, np.uint8)
    if own is not None:
        words = (str(own) or repr(own)).encode()[:WORDS]
        said[: len(words)] = np.frombuffer(words, np.uint8)
    with _working():
        everyone = multihost_utils.process_allgather(said)
    if own is not None:
        raise own
    for number, words in enumerate(everyone):
        if words.any():
            told = words.tobytes().rstrip(b"\0").decode(errors="replace")
            raise failure(f"in process {number}: {told}")


def _agreed(value: T) -> T:
    """See `Hosts`."""
    words = np.frombuffer(json.dumps(value).encode(), np.uint8)
    with _working():
        length = int(multihost_utils.broadcast_one_to_all(np.uint32(len(words))))
    return json.loads(_from_first(words, length).tobytes())


def _agreed_arrays(tree: T) -> T:
    """See `Hosts`."""
    return jax.tree.map(_agreed_array, tree)


def _agreed_array(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    leads = jax.process_index() == 0
    own = np.asarray(leaf).reshape(-1).view(np.uint8) if leads else np.empty(0, np.uint8)
    found = _from_first(own, leaf.size * leaf.dtype.itemsize)
    return jnp.asarray(found.view(leaf.dtype).reshape(leaf.shape))


def _from_first(data: np.ndarray, length: int) -> np.ndarray:
    """What process 0 has: as bytes, for adding up floats would lose the sign of a zero."""
    size = min(PIECE, max(ROOM, 1 << (length - 1).bit_length()))
    found = np.empty(length, np.uint8)
    for start in range(0, length, size):
        part, piece = found[start : start + size], np.zeros(size, np.uint8)
        if jax.process_index() == 0:
            piece[: len(part)] = data[start : start + size]
        with _working():
            part[:] = multihost_utils.broadcast_one_to_all(piece)[: len(part)]
    return found
