"""Several processes, on one host or many, that do one run together.

Each of them runs the same command and works out the same; only what no host can do for the others
is left to one of them, process 0, which leads: it reads and writes the run's folder, and decides
where floating point might differ from host to host. JAX carries what they tell each other, by the
collectives of its devices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

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


class HostError(RuntimeError):
    """Processes did not come together, or one was lost."""


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
    return all_hosts()


def all_hosts() -> Hosts:
    """All processes that have joined."""
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
