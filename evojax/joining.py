"""How several processes that do one run together find each other, and how they part."""

from __future__ import annotations

import functools
import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import jax

from evojax.hosts import ALONE, HostError, Hosts, all_hosts

FAREWELL = 3.0
"""Seconds that a process which failed waits for the others to end as well."""


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
    return all_hosts()


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
