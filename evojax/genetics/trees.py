"""Parameters by path, one view of Linen dicts, NNX states and plain PyTrees; stacks of trees."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

PyTree = Any


def path_name(path: tuple[Any, ...]) -> str:
    """Joins a key path to a name such as ``"conv1/kernel"``.

    An NNX variable adds a last step ``value`` to its path. It is left out, so that one network has
    the same names, and with them the same random draws, in Linen and in NNX.
    """
    steps = [str(_step(key)) for key in path]
    if isinstance(path[-1] if path else None, GetAttrKey) and steps[-1] == "value":
        steps = steps[:-1]
    return "/".join(steps)


def _step(key: Any) -> Any:  # noqa: ANN401
    match key:
        case DictKey(key=name) | FlattenedIndexKey(key=name) | GetAttrKey(name=name):
            return name
        case SequenceKey(idx=index):
            return index
    return key


def flatten(tree: PyTree) -> tuple[dict[str, Any], Any]:
    """Flattens a PyTree to leaves by path, ``None`` kept as a leaf, and its structure.

    Raises:
        ValueError: if two leaves have the same path name, such as ``{"a/b": x, "a": {"b": y}}``.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    named = {path_name(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        names = [path_name(path) for path, _ in leaves]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"more than one parameter has the path {', '.join(twice)}: expected a path of its own "
            "for each. Rename one of them."
        )
    return named, structure


def path_hash(path: str) -> int:
    """A 32-bit hash of a path that is the same in every process, version and leaf order."""
    return zlib.crc32(path.encode())


@jax.jit
def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one, on a new first axis of every array."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def taken(tree: PyTree, index: int | np.ndarray) -> PyTree:
    """One tree of a stack, or a stack of several, by their places on the first axis."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
