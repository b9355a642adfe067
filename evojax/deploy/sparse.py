"""Arrays most of whose entries are 0, in a file of the others and of where they are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from evojax.genetics.census import index_bytes

LENGTH = 8
"""Bytes at the start of a safetensors file, which say how long its JSON header is."""

KINDS = {"BOOL": "bool", "BF": "bfloat", "F": "float", "I": "int", "U": "uint", "C": "complex"}
"""Of numbers, as safetensors names them, before how many bits they have."""


def load_sparse(file: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file that ``export(..., format="sparse")`` wrote, zeros included.

    It is a safetensors file. An array PATH is in it as it is, or as ``PATH:values``, its entries
    that are not 0 in C order, with ``PATH:indices``, their places in the flat array, or with
    ``PATH:bitmask``, a bit for every place (`numpy.packbits`): whichever takes least. Its metadata
    hold the shapes of all.

    Args:
        file: its path.

    Returns:
        Arrays by their paths.

    Raises:
        ValueError: if it is no such file.
        OSError: if it cannot be read.
        ImportError: without safetensors (``pip install 'evojax-synthesis[safetensors]'``).
    """
    return unpacked(Path(file).read_bytes(), str(file))


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of the file, see `load_sparse`. Needs the package safetensors."""
    from safetensors.numpy import save

    tensors = {
        f"{path}:{part}" if part else path: tensor
        for path, array in arrays.items()
        for part, tensor in smallest(array).items()
    }
    return save(tensors, {"shapes": json.dumps({path: a.shape for path, a in arrays.items()})})


def smallest(array: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of an array in the form that takes least, see `load_sparse`."""
    flat = array.reshape(-1)
    alive = flat != 0
    index = np.dtype(f"u{index_bytes(flat.size)}")
    forms: list[dict[str, np.ndarray]] = [
        {"": array},
        {"values": flat[alive], "bitmask": np.packbits(alive)},
        {"values": flat[alive], "indices": np.flatnonzero(alive).astype(index)},
    ]
    return min(forms, key=lambda form: sum(part.nbytes for part in form.values()))


def unpacked(content: bytes, name: str = "the content") -> dict[str, np.ndarray]:
    """The arrays of a file's content; `name` is what messages call it."""
    from safetensors import SafetensorError

    try:
        tensors = tensors_of(content)
        header = json.loads(content[LENGTH : LENGTH + int.from_bytes(content[:LENGTH], "little")])
        shapes = json.loads(header["__metadata__"]["shapes"])
        return {path: _whole(tensors, path, shape) for path, shape in shapes.items()}
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{name} is no file of sparse arrays ({error}): expected one that "
            'export(..., format="sparse") wrote'
        ) from error


def tensors_of(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of any safetensors file, those of bfloat16 as well."""
    from safetensors import deserialize

    def dtype(code: str) -> np.dtype:
        bits = code.lstrip("".join(KINDS))
        return jnp.dtype(KINDS[code.removesuffix(bits)] + bits)

    return {
        path: np.frombuffer(tensor["data"], dtype(tensor["dtype"])).reshape(tensor["shape"])
        for path, tensor in deserialize(content)
    }


def _whole(tensors: Mapping[str, np.ndarray], path: str, shape: Sequence[int]) -> np.ndarray:
    if path in tensors:
        return tensors[path]
    values, size = tensors[f"{path}:values"], math.prod(shape)
    where = tensors.get(f"{path}:indices")
    if where is None:
        where = np.flatnonzero(np.unpackbits(tensors[f"{path}:bitmask"], count=size))
    flat = np.zeros(size, values.dtype)
    flat[where] = values
    return flat.reshape(shape)
